"""``xmodelkd endurance``: thousands of sweeps through the running node over DDS; growth of memory and latency.

Each sweep is published once the labels of the previous one have arrived, so a student works without a pause. A teacher,
which must take less than the sweep period, idles for a third of the time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.mounted_cameras import MountedCamera
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.console import print_notes, progress
from xmodelkd_ros.core.atomic_write import atomic_files, make_folder
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.harness.node_process import node_arguments, usable_arguments
from xmodelkd_ros.harness.node_under_load import RELIABLE, NodeReport, read_reports, require_role, write_sweeps
from xmodelkd_ros.harness.process_usage import ProcessUsage, process_usage
from xmodelkd_ros.harness.processes import ProcessError, Program, dds_environment, stop_all, wait_for
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.harness.sweep_log import Key, SweepLogReader
from xmodelkd_ros.messages.topics import DIAGNOSTICS, SEGMENTER, SEGMENTER_LABELS
from xmodelkd_ros.reports.charts import draw_series
from xmodelkd_ros.reports.markdown import markdown_table
from xmodelkd_ros.reports.scores import write_metrics
from xmodelkd_ros.tools.load_outcome import is_in_order
from xmodelkd_ros.tools.session import prepared_for_node

_SIZES = (1.0, 0.8, 0.95, 0.7, 0.9)
"""Relative sizes of consecutive synthetic sweeps, which vary as real ones do."""
_SAMPLE_PERIOD_S = 0.5
_READY_TIMEOUT_S = 60.0
_TIMEOUT_PER_SWEEP_S = 5.0
_TEACHER_IDLE = 0.5
_WARM_UP = 1000
"""Sweeps after which memory should be constant; half of the sweeps if there are fewer than twice as many."""
_MAX_MB_PER_1000 = 1.0
_MIN_SWEEPS = 20
_ALLOCATOR_MB = 5.0
"""Growth that a few hundred sweeps may show without a leak."""
_MAX_P99_GROWTH = 1.5
_METRICS_KEYS = {"counters": "said"}
"""Keys of ``metrics.json`` that differ from the attributes of :class:`Endurance`."""


@dataclass(frozen=True)
class Endurance:
    """Measurements of an endurance run.

    Attributes:
        mode: required mode of all sweeps.
        sweeps: number of published sweeps.
        labels: number of labelled clouds received.
        in_order: whether labels arrived in the order of the sweeps and without duplicates.
        counters: the node's counts of received sweeps, labels by mode, and missing labels by reason.
        seconds: duration.
        memory_slope: slope of the node's resident memory after the warm-up, MB per 1,000 sweeps (least squares).
        memory_mb: memory after the warm-up and at the end.
        handles: open file descriptors after the warm-up and at the end.
        threads: threads after the warm-up and at the end.
        p50_ms: median latency from publication to labels of each tenth of the sweeps.
        p99_ms: p99 latency of each tenth of the sweeps.
    """

    mode: str
    sweeps: int
    labels: int
    in_order: bool
    counters: Mapping[str, int]
    seconds: float
    memory_slope: float
    memory_mb: tuple[float, float]
    handles: tuple[int, int]
    threads: tuple[int, int]
    p50_ms: tuple[float, ...]
    p99_ms: tuple[float, ...]

    @property
    def failures(self) -> list[str]:
        """Failed checks. The p99 of a tenth is that of few sweeps, so medians over tenths are compared."""
        half = len(self.p99_ms) // 2
        before, after = float(np.median(self.p99_ms[:half])), float(np.median(self.p99_ms[half:]))
        thousands = (self.sweeps - min(_WARM_UP, self.sweeps // 2)) / 1000
        checks = {
            f"{self.labels} labelled": self.labels != self.sweeps,
            "labels out of order or duplicated": not self.in_order,
            "counters of the node differ": self.counters != {"received": self.sweeps, self.mode: self.sweeps},
            "memory grows": self.memory_slope * thousands >= max(_MAX_MB_PER_1000 * thousands, _ALLOCATOR_MB),
            "handles grow": self.handles[1] > self.handles[0],
            "threads grow": self.threads[1] > self.threads[0],
            f"p99 grew from {before:.0f} to {after:.0f} ms": after >= _MAX_P99_GROWTH * before,
        }
        return [failure for failure, failed in checks.items() if failed]


def measure_endurance(options: RunOptions, sweeps: int, points: int | None = None) -> Endurance:
    """Let the node label many sweeps, and write ``endurance.md``, ``endurance.png`` and ``metrics.json``.

    Args:
        options: model, repeated bag and output folder.
        sweeps: number of sweeps.
        points: size of the largest synthetic sweeps, which replace the bag; None to play the bag.

    Raises:
        XModelKDError: the model or the bag cannot be used, or a process failed.
    """
    if sweeps < _MIN_SWEEPS:
        raise ConfigError(f"--sweeps: give {_MIN_SWEEPS} or more; fewer are not conclusive")
    if points is not None and options.mode == "teacher":
        raise ConfigError("a teacher needs images: give a bag with cameras")
    require_role(options)
    make_folder(options.out)
    options = prepared_for_node(options)
    with TemporaryDirectory(prefix=".endurance.", dir=options.out) as name:
        folder = Path(name)
        if points is not None:
            options = replace(options, bag=folder / "synthetic.mcap")
            write_sweeps(options.bag, options.model, [max(round(size * points), 1) for size in _SIZES])
        traffic = _play(options, sweeps, folder)
    latencies = traffic.latencies_ms()
    if len(latencies) < 10:
        raise ProcessError(f"only {len(latencies)} of {sweeps} sweeps were labelled; see {options.out / 'logs'}")
    result = _evaluate(options.mode, traffic, latencies)
    _write(options.out, result, latencies, traffic.samples, options.command)
    return result


# --- playback --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Traffic:
    """Recorded traffic.

    Attributes:
        sent: key and monotonic nanoseconds of published sweeps.
        labels: key and monotonic nanoseconds of labelled clouds.
        report: counters of the node.
        samples: number of labels and usage of the node's process at that moment.
        seconds: duration.
    """

    sent: list[tuple[Key, int]]
    labels: list[tuple[Key, int]]
    report: NodeReport
    samples: list[tuple[int, ProcessUsage]]
    seconds: float

    def latencies_ms(self) -> NDArray[np.float64]:
        """Latencies of the labelled sweeps, in the order of publication."""
        first = dict(reversed(self.labels))
        return np.array([(first[key] - at) / 1e6 for key, at in self.sent if key in first])


def _play(options: RunOptions, sweeps: int, folder: Path) -> _Traffic:
    """Run node, closed-loop player and recorder until the player ends."""
    with BagReader(options.bag) as reader:
        recording = RecordedDrive(reader, options.points_topic, missing_intensity=options.intensity_policy())
        cameras = _cameras(options, recording)
        print_notes([*reader.notes, *recording.notes])
    env, logs, topic, recorded = (
        dds_environment(),
        options.out / "logs",
        recording.points_topic,
        folder / "reports.mcap",
    )
    log, report_log = SweepLogReader(folder / "sweeps.jsonl"), SweepLogReader(folder / "reports.jsonl")
    ros_arguments = [*node_arguments(options, topic, cameras, sim_time=False), *RELIABLE]
    node = Program("node.segment_node", ros_arguments, env, logs / "node.log")
    report_arguments = ["--topics", DIAGNOSTICS, "--out", str(recorded), "--log", str(report_log.path)]
    reports = Program("harness.recorder", report_arguments, env, logs / "reports.log")
    arguments = _player_arguments(options.bag, topic, cameras, sweeps, log.path) + usable_arguments(options)
    player = Program("harness.closed_loop_player", arguments, env, logs / "player.log")
    with ExitStack() as stack:
        running = [stack.enter_context(node), stack.enter_context(reports)]
        wait_for(lambda: report_log.has_event("ready"), running, _READY_TIMEOUT_S, "the node")
        running.append(stack.enter_context(player))
        start = time.monotonic()
        samples = _monitor(node, player, running, log, sweeps)
        seconds = time.monotonic() - start
        stop_all(running)
    for program in (player, node, reports):
        program.check()
    sent, labels = log.arrivals(topic), log.arrivals(SEGMENTER_LABELS)
    return _Traffic(sent, labels, read_reports(recorded, [SEGMENTER])[SEGMENTER], samples, seconds)


def _cameras(options: RunOptions, recording: RecordedDrive) -> list[MountedCamera]:
    """All cameras of the bag for a teacher, none for a student."""
    if options.mode != "teacher":
        return []
    cameras = list(recording.mounted_cameras(recording.first_sweep().message.header.frame_id).values())
    if not cameras:
        raise ConfigError(f"{options.bag} has no camera for a teacher; give a bag with images and CameraInfo")
    return cameras


def _player_arguments(bag: Path, topic: str, cameras: Sequence[MountedCamera], sweeps: int, log: Path) -> list[str]:
    topics = [f"{camera.image_topic}:{camera.info_topic}" for camera in cameras]
    return [
        str(bag), "--points", topic, "--labels", SEGMENTER_LABELS, "--sweeps", str(sweeps),
        *(["--cameras", *topics, "--idle", str(_TEACHER_IDLE)] if topics else []),
        "--timeout", str(_READY_TIMEOUT_S), "--log", str(log),
    ]  # fmt: skip


def _monitor(
    node: Program, player: Program, running: Sequence[Program], log: SweepLogReader, sweeps: int
) -> list[tuple[int, ProcessUsage]]:
    """Sample the usage of the node's process until the player has ended; see :class:`_Traffic`."""
    samples: list[tuple[int, ProcessUsage]] = []
    next_s = 0.0

    def has_ended() -> bool:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + _SAMPLE_PERIOD_S
            labelled, usage = len(log.arrivals(SEGMENTER_LABELS)), process_usage(node.pid)
            bar.update(labelled - bar.n)
            if labelled and usage is not None:
                samples.append((labelled, usage))
        return player.returncode is not None

    with progress(None, sweeps, "endurance") as bar:
        wait_for(has_ended, running, _READY_TIMEOUT_S + _TIMEOUT_PER_SWEEP_S * sweeps, "the end of the sweeps")
    return samples


# --- report ----------------------------------------------------------------------------------------------------------


def _evaluate(mode: str, traffic: _Traffic, latencies: NDArray[np.float64]) -> Endurance:
    sent, labels, report = len(traffic.sent), len(traffic.labels), traffic.report
    warm = [(labelled, usage) for labelled, usage in traffic.samples if labelled >= min(_WARM_UP, sent // 2)]
    if len({labelled for labelled, _ in warm}) < 2:
        raise ProcessError(f"the run of {sent} sweeps was too short to measure; give more --sweeps")
    first, last = warm[0][1], warm[-1][1]
    labelled = np.array([count for count, _ in warm], np.float64)
    memory = np.array([usage.memory_mb for _, usage in warm])
    tenths = np.array_split(latencies, 10)
    return Endurance(
        mode=mode,
        sweeps=sent,
        labels=labels,
        in_order=is_in_order([key for key, _ in traffic.sent], [key for key, _ in traffic.labels]),
        counters={"received": report.received, **report.published, **report.unlabelled},
        seconds=round(traffic.seconds, 1),
        memory_slope=round(float(np.polyfit(labelled / 1000, memory, 1)[0]), 3),
        memory_mb=(round(first.memory_mb, 1), round(last.memory_mb, 1)),
        handles=(first.handles, last.handles),
        threads=(first.threads, last.threads),
        p50_ms=tuple(round(float(np.percentile(tenth, 50)), 1) for tenth in tenths),
        p99_ms=tuple(round(float(np.percentile(tenth, 99)), 1) for tenth in tenths),
    )


def _write(
    out: Path,
    result: Endurance,
    latencies: NDArray[np.float64],
    samples: Sequence[tuple[int, ProcessUsage]],
    command: str,
) -> None:
    table = as_table(result)
    labelled = [count for count, _ in samples]
    series: dict[str, tuple[Sequence[int], Sequence[float]]] = {
        "latency, ms": (range(1, len(latencies) + 1), latencies.tolist()),
        "memory, MB": (labelled, [usage.memory_mb for _, usage in samples]),
        "handles": (labelled, [usage.handles for _, usage in samples]),
        "threads": (labelled, [usage.threads for _, usage in samples]),
    }
    metrics = {_METRICS_KEYS.get(name, name): value for name, value in asdict(result).items()}
    with atomic_files(out, "endurance.md") as folder:
        (folder / "endurance.md").write_text(table, encoding="utf-8")
        draw_series(folder / "endurance.png", series)
        write_metrics(folder, {**metrics, "broken": result.failures, "command": command})
    print(f"{table}\nwritten: {out / 'endurance.md'}")


def as_table(result: Endurance) -> str:
    """Markdown table of the result."""
    rows = [
        ("sweeps sent, labelled", f"{result.sweeps}, {result.labels}"),
        ("counters of the node", ", ".join(f"{count} {name}" for name, count in result.counters.items())),
        ("sweeps per second", f"{result.labels / result.seconds:.1f}"),
        ("memory after warm-up, at the end", " → ".join(f"{value:.0f} MB" for value in result.memory_mb)),
        ("slope of memory", f"{result.memory_slope:+.2f} MB per 1,000 sweeps"),
        ("handles", " → ".join(map(str, result.handles))),
        ("threads", " → ".join(map(str, result.threads))),
        ("p50 of each tenth, ms", ", ".join(f"{value:.0f}" for value in result.p50_ms)),
        ("p99 of each tenth, ms", ", ".join(f"{value:.0f}" for value in result.p99_ms)),
        ("passed", f"NO: {', '.join(result.failures)}" if result.failures else "yes"),
    ]
    return markdown_table(("", ""), rows) + "\n"
