"""``xmodelkd endurance``: thousands of sweeps through the running node, over real DDS, and what they leave behind.

Each sweep is sent when the labels of the one before have come, so a student works without a pause. A teacher, which
must take less than the time between sweeps, has a third of its time to rest.
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
from xmodelkd_ros.harness.node_process import node_arguments
from xmodelkd_ros.harness.node_under_load import (
    RELIABLE,
    NodeReport,
    read_reports,
    require_role,
    write_sweeps,
)
from xmodelkd_ros.harness.process_usage import ProcessUsage, process_usage
from xmodelkd_ros.harness.processes import ProcessError, Program, dds_environment, wait_for
from xmodelkd_ros.harness.run_options import RunOptions
from xmodelkd_ros.harness.sweep_log import SweepLogReader
from xmodelkd_ros.messages.topics import DIAGNOSTICS, SEGMENTER, SEGMENTER_LABELS
from xmodelkd_ros.reports.charts import draw_series
from xmodelkd_ros.reports.markdown import markdown_table
from xmodelkd_ros.reports.scores import write_metrics
from xmodelkd_ros.tools.load_outcome import is_in_order

_SHARES = (1.0, 0.8, 0.95, 0.7, 0.9)
"""Synthetic sweeps differ in size, as real ones do."""
_SAMPLE_S = 1.0
_READY_S = 60.0
_S_PER_SWEEP = 5.0
_TEACHERS_REST = 0.5
_WARM_UP = 1000
"""Sweeps after which memory is expected to be what it stays; of fewer than twice as many the first half."""
_MB_PER_1000 = 1.0
_LEAST = 20
"""Sweeps that tell anything."""
_ALLOCATOR_MB = 5.0
"""What a few hundred sweeps may add without telling anything."""
_P99_GROWTH = 1.5


@dataclass(frozen=True)
class Endurance:
    """What thousands of sweeps left behind.

    Attributes:
        mode: in which they had to be labelled.
        sweeps: how many were sent.
        labels: how many labelled clouds came.
        in_order: whether they came in the order of the sweeps, and none twice.
        said: how many the node says that it received, labelled in each mode, and did not label for which reason.
        seconds: how long it took.
        memory_slope: of the node's resident memory after the warm-up, MB per 1,000 sweeps (least squares).
        memory_mb: first after the warm-up, and last.
        handles: open files and sockets, first after the warm-up, and last.
        threads: the same of threads.
        p50_ms: from a sweep's publication to the receipt of its labels, of each tenth of the sweeps.
        p99_ms: the same.
    """

    mode: str
    sweeps: int
    labels: int
    in_order: bool
    said: Mapping[str, int]
    seconds: float
    memory_slope: float
    memory_mb: tuple[float, float]
    handles: tuple[int, int]
    threads: tuple[int, int]
    p50_ms: tuple[float, ...]
    p99_ms: tuple[float, ...]

    @property
    def broken(self) -> list[str]:
        """What does not hold. The p99 of one tenth is one of few sweeps: medians count."""
        half = len(self.p99_ms) // 2
        before, after = float(np.median(self.p99_ms[:half])), float(np.median(self.p99_ms[half:]))
        thousands = (self.sweeps - min(_WARM_UP, self.sweeps // 2)) / 1000
        wrong = {
            f"{self.labels} labelled": self.labels != self.sweeps,
            "labels out of order or twice": not self.in_order,
            "the node says otherwise": self.said != {"received": self.sweeps, self.mode: self.sweeps},
            "memory grows": self.memory_slope * thousands >= max(_MB_PER_1000 * thousands, _ALLOCATOR_MB),
            "handles grow": self.handles[1] > self.handles[0],
            "threads grow": self.threads[1] > self.threads[0],
            f"p99 from {before:.0f} to {after:.0f} ms": after >= _P99_GROWTH * before,
        }
        return [what for what, is_so in wrong.items() if is_so]


def measure_endurance(options: RunOptions, sweeps: int, points: int | None = None) -> Endurance:
    """Let the node label many sweeps and watch its process.

    Args:
        options: the model, the bag that is played over and over, and the folder of ``endurance.md``,
            ``endurance.png`` and ``metrics.json``.
        sweeps: how many.
        points: of the largest synthetic sweeps, which are played instead of a bag; None without.

    Raises:
        XModelKDError: the model or the bag cannot be used, or a process failed.
    """
    if sweeps < _LEAST:
        raise ConfigError(f"--sweeps: give {_LEAST} or more, for fewer show nothing")
    if points is not None and options.mode == "teacher":
        raise ConfigError("a teacher needs images: give a bag that has them")
    require_role(options)
    make_folder(options.out)
    with TemporaryDirectory(prefix=".endurance.", dir=options.out) as name:
        folder = Path(name)
        if points is not None:
            options = replace(options, bag=folder / "synthetic.mcap")
            write_sweeps(options.bag, options.model, [max(round(share * points), 1) for share in _SHARES])
        traffic = _play(options, sweeps, folder)
    latencies = traffic.latencies_ms()
    if len(latencies) < 10:
        raise ProcessError(f"only {len(latencies)} of {sweeps} sweeps were labelled; see {options.out / 'logs'}")
    result = _judged(options.mode, traffic, latencies)
    _write(options.out, result, latencies, traffic.samples, options.command)
    return result


# --- one run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Traffic:
    """What was sent and what came, and what the node's process held after how many labels."""

    sent: list[tuple[tuple[int, int], int]]
    labels: list[tuple[tuple[int, int], int]]
    report: NodeReport
    samples: list[tuple[int, ProcessUsage]]
    seconds: float

    def latencies_ms(self) -> NDArray[np.float64]:
        """Of the sweeps that came back, as they went."""
        first = dict(reversed(self.labels))
        return np.array([(first[key] - at) / 1e6 for key, at in self.sent if key in first])


def _play(options: RunOptions, sweeps: int, folder: Path) -> _Traffic:
    """Let a player follow the node through so many sweeps, and write down what the node says meanwhile."""
    with BagReader(options.bag) as reader:
        recording = RecordedDrive(reader, options.points_topic)
        cameras = _cameras(options, recording)
        print_notes([*reader.notes, *recording.notes])
    env, logs, topic, recorded = dds_environment(), options.out / "logs", recording.points_topic, folder / "said.mcap"
    log, said = SweepLogReader(folder / "sweeps.jsonl"), SweepLogReader(folder / "said.jsonl")
    node_words = [*node_arguments(options, topic, cameras, sim_time=False), *RELIABLE]
    node = Program("node.segment_node", node_words, env, logs / "node.log")
    report_arguments = ["--topics", DIAGNOSTICS, "--out", str(recorded), "--log", str(said.path)]
    reports = Program("harness.recorder", report_arguments, env, logs / "reports.log")
    arguments = _player_arguments(options.bag, topic, cameras, sweeps, log.path)
    player = Program("harness.closed_loop_player", arguments, env, logs / "player.log")
    with ExitStack() as stack:
        running = [stack.enter_context(node), stack.enter_context(reports)]
        wait_for(lambda: said.has_event("ready"), running, _READY_S, "the start of the node")
        running.append(stack.enter_context(player))
        start = time.monotonic()
        samples = _watched(node, player, running, log, sweeps)
        seconds = time.monotonic() - start
    for program in (player, node, reports):
        program.check()
    sent, labels = log.arrivals(topic), log.arrivals(SEGMENTER_LABELS)
    return _Traffic(sent, labels, read_reports(recorded, [SEGMENTER])[SEGMENTER], samples, seconds)


def _cameras(options: RunOptions, recording: RecordedDrive) -> list[MountedCamera]:
    """All that the bag has, for a teacher."""
    if options.mode != "teacher":
        return []
    cameras = list(recording.mounted_cameras(recording.first_sweep().message.header.frame_id).values())
    if not cameras:
        raise ConfigError(f"{options.bag} has no camera that a teacher could look through; give another bag")
    return cameras


def _player_arguments(bag: Path, topic: str, cameras: Sequence[MountedCamera], sweeps: int, log: Path) -> list[str]:
    shown = [f"{camera.image_topic}:{camera.info_topic}" for camera in cameras]
    return [
        str(bag), "--points", topic, "--labels", SEGMENTER_LABELS, "--sweeps", str(sweeps), "--timeout", str(_READY_S),
        *(["--cameras", *shown, "--idle", str(_TEACHERS_REST)] if shown else []), "--log", str(log),
    ]  # fmt: skip


def _watched(
    node: Program, player: Program, running: Sequence[Program], log: SweepLogReader, sweeps: int
) -> list[tuple[int, ProcessUsage]]:
    """What the node's process held after how many labels, until the player has ended."""
    samples: list[tuple[int, ProcessUsage]] = []
    next_s = 0.0

    def ended() -> bool:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + _SAMPLE_S
            done, use = len(log.arrivals(SEGMENTER_LABELS)), process_usage(node.pid)
            bar.update(done - bar.n)
            if done and use is not None:
                samples.append((done, use))
        return player.returncode is not None

    with progress(None, sweeps, "endurance") as bar:
        wait_for(ended, running, _READY_S + _S_PER_SWEEP * sweeps, "the end of the sweeps")
    return samples


# --- what it shows ---------------------------------------------------------------------------------------------------


def _judged(mode: str, traffic: _Traffic, latencies: NDArray[np.float64]) -> Endurance:
    sent = len(traffic.sent)
    after = [(done, use) for done, use in traffic.samples if done >= min(_WARM_UP, sent // 2)]
    if len({count for count, _ in after}) < 2:
        raise ProcessError(f"{sent} sweeps were over too soon to see anything; give more --sweeps")
    first, last = after[0][1], after[-1][1]
    done = np.array([count for count, _ in after], np.float64)
    memory = np.array([use.memory_mb for _, use in after])
    tenths = np.array_split(latencies, 10)
    report = traffic.report
    return Endurance(
        mode,
        sent,
        len(traffic.labels),
        is_in_order([key for key, _ in traffic.sent], [key for key, _ in traffic.labels]),
        {"received": report.received, **report.published, **report.unlabelled},
        round(traffic.seconds, 1),
        round(float(np.polyfit(done / 1000, memory, 1)[0]), 3),
        (round(first.memory_mb, 1), round(last.memory_mb, 1)),
        (first.handles, last.handles),
        (first.threads, last.threads),
        tuple(round(float(np.percentile(tenth, 50)), 1) for tenth in tenths),
        tuple(round(float(np.percentile(tenth, 99)), 1) for tenth in tenths),
    )


def _write(
    out: Path,
    result: Endurance,
    latencies: NDArray[np.float64],
    samples: Sequence[tuple[int, ProcessUsage]],
    command: str,
) -> None:
    table = as_table(result)
    done = [count for count, _ in samples]
    series: dict[str, tuple[Sequence[int], Sequence[float]]] = {
        "latency, ms": (range(1, len(latencies) + 1), latencies.tolist()),
        "memory, MB": (done, [use.memory_mb for _, use in samples]),
        "handles": (done, [use.handles for _, use in samples]),
        "threads": (done, [use.threads for _, use in samples]),
    }
    with atomic_files(out, "endurance.md") as folder:
        (folder / "endurance.md").write_text(table, encoding="utf-8")
        draw_series(folder / "endurance.png", "sweeps", series)
        write_metrics(folder, {**asdict(result), "broken": result.broken, "command": command})
    print(f"{table}\nwritten: {out / 'endurance.md'}")


def as_table(result: Endurance) -> str:
    """The result in Markdown."""
    said = ", ".join(f"{count} {what}" for what, count in result.said.items())
    rows = [
        ("sweeps sent, labelled", f"{result.sweeps}, {result.labels}"),
        ("the node says", said),
        ("sweeps a second", f"{result.labels / result.seconds:.1f}"),
        ("memory after the warm-up, at the end", " → ".join(f"{value:.0f} MB" for value in result.memory_mb)),
        ("slope of memory", f"{result.memory_slope:+.2f} MB per 1,000 sweeps"),
        ("handles", " → ".join(map(str, result.handles))),
        ("threads", " → ".join(map(str, result.threads))),
        ("p50 of each tenth, ms", ", ".join(f"{value:.0f}" for value in result.p50_ms)),
        ("p99 of each tenth, ms", ", ".join(f"{value:.0f}" for value in result.p99_ms)),
        ("as promised", f"NO: {', '.join(result.broken)}" if result.broken else "yes"),
    ]
    return markdown_table(("", ""), rows) + "\n"
