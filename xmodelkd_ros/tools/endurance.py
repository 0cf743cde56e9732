"""``xmodelkd endurance``: thousands of sweeps through the running node, over real DDS, and what they leave behind.

Each sweep is sent when the labels of the one before have come, so the node works without a pause.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.whole_file import whole_file
from xmodelkd_ros.resources import find_model
from xmodelkd_ros.tools.charts import draw_series
from xmodelkd_ros.tools.load import NodeUnderLoad, write_sweeps, write_timetable
from xmodelkd_ros.tools.process_use import Use, use_of
from xmodelkd_ros.tools.processes import ProcessError, Program, dds_environment, wait_for
from xmodelkd_ros.tools.score import write_metrics
from xmodelkd_ros.tools.session import make_folder, progress
from xmodelkd_ros.tools.traffic_log import TrafficLog
from xmodelkd_ros.traffic import steady

_POINTS, _LABELS = "points", "/segmenter/labels"
_SHARES = (1.0, 0.8, 0.95, 0.7, 0.9)
"""Sweeps differ in size, as real ones do."""
_SAMPLE_S = 1.0
_READY_S = 60.0
_S_PER_SWEEP = 2.0
_WARM_UP = 1000
"""Sweeps after which memory is expected to be what it stays; of fewer than twice as many the first half."""
_MB_PER_1000 = 1.0
_ALLOCATOR_MB = 2.0
"""What a few hundred sweeps may add without telling anything."""
_P99_GROWTH = 1.5


@dataclass(frozen=True)
class Endurance:
    """What thousands of sweeps left behind.

    Attributes:
        sweeps: how many were sent.
        labelled: how many came back.
        seconds: how long it took.
        memory_slope: of the node's resident memory after the warm-up, MB per 1,000 sweeps (least squares).
        memory_mb: first after the warm-up, and last.
        handles: open files and sockets, first after the warm-up, and last.
        threads: the same of threads.
        p50_ms: from a sweep's publication to the receipt of its labels, of each tenth of the sweeps.
        p99_ms: the same.
    """

    sweeps: int
    labelled: int
    seconds: float
    memory_slope: float
    memory_mb: tuple[float, float]
    handles: tuple[int, int]
    threads: tuple[int, int]
    p50_ms: tuple[float, ...]
    p99_ms: tuple[float, ...]

    @property
    def as_promised(self) -> bool:
        """Whether all sweeps came back, and nothing grew. The p99 of one tenth is one of few sweeps: medians count."""
        half = len(self.p99_ms) // 2
        flat = float(np.median(self.p99_ms[half:])) < _P99_GROWTH * float(np.median(self.p99_ms[:half]))
        same = self.handles[1] <= self.handles[0] and self.threads[1] <= self.threads[0]
        thousands = self.sweeps / 1000
        lean = self.memory_slope * thousands < max(_MB_PER_1000 * thousands, _ALLOCATOR_MB)
        return self.labelled == self.sweeps and lean and same and flat


def measure_endurance(under: NodeUnderLoad, out: Path, points: int, sweeps: int, command: str = "") -> Endurance:
    """Let the node label many sweeps and watch its process.

    Args:
        under: the node.
        out: folder of ``endurance.md``, ``endurance.png`` and ``metrics.json``.
        points: of the largest sweeps.
        sweeps: how many.
        command: the command line, for the report.

    Raises:
        XModelKDError: the model cannot be used, or a process failed.
    """
    make_folder(out)
    spec = ModelSpec.read(find_model(under.model))
    with TemporaryDirectory(prefix=".endurance.", dir=out) as name:
        folder = Path(name)
        sizes = [max(round(share * points), 1) for share in _SHARES]
        write_sweeps(folder / "sweeps.mcap", spec, set(sizes))
        write_timetable(folder / "timetable.jsonl", steady(sweeps / 10, 10, sizes))
        log, samples, seconds = _play(under, folder, out / "logs", sweeps)
        sent, received = log.clouds(_POINTS), log.clouds(_LABELS)
    if len(received) < 10:
        raise ProcessError(f"only {len(received)} of {len(sent)} sweeps were labelled; see {out / 'logs'}")
    latencies = np.array([(received[key] - at) / 1e6 for key, at in sent.items() if key in received])
    result = _judged(len(sent), latencies, samples, seconds)
    _write(out, result, latencies, samples, command)
    return result


def _play(
    under: NodeUnderLoad, folder: Path, logs: Path, sweeps: int
) -> tuple[TrafficLog, list[tuple[int, Use]], float]:
    """The log of sweeps and labels, what the node's process held after how many of them, and how long it took."""
    env, log = dds_environment(), TrafficLog(folder / "traffic.jsonl")
    node = Program("segment_node", under.arguments(), env, logs / "node.log")
    arguments = [str(folder / "sweeps.mcap"), str(folder / "timetable.jsonl"), "--follow", _LABELS]
    arguments += ["--timeout", str(_READY_S), "--log", str(log.path)]
    player = Program("traffic_player", arguments, env, logs / "player.log")
    samples: list[tuple[int, Use]] = []
    next_s = 0.0
    bar = progress(None, sweeps, "endurance")

    def ended() -> bool:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + _SAMPLE_S
            done, use = len(log.clouds(_LABELS)), use_of(node.pid)
            bar.update(done - bar.n)
            if done and use is not None:
                samples.append((done, use))
        return player.returncode is not None

    with bar, ExitStack() as stack:
        running = [stack.enter_context(node), stack.enter_context(player)]
        start = time.monotonic()
        wait_for(ended, running, _READY_S + _S_PER_SWEEP * sweeps, "the end of the sweeps")
        seconds = time.monotonic() - start
        player.check()
    node.check()
    return log, samples, seconds


def _judged(sent: int, latencies: NDArray[np.float64], samples: Sequence[tuple[int, Use]], seconds: float) -> Endurance:
    after = [(done, use) for done, use in samples if done >= min(_WARM_UP, sent // 2)]
    if len(after) < 2:
        raise ProcessError(f"{sent} sweeps were over too soon to see anything; give more --sweeps")
    first, last = after[0][1], after[-1][1]
    done = np.array([count for count, _ in after], np.float64)
    memory = np.array([use.memory_mb for _, use in after])
    tenths = np.array_split(latencies, 10)
    return Endurance(
        sent,
        len(latencies),
        round(seconds, 1),
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
    samples: Sequence[tuple[int, Use]],
    command: str,
) -> None:
    table = as_table(result)
    with whole_file(out / "endurance.md") as unfinished:
        unfinished.write_text(table, encoding="utf-8")
    write_metrics(out, {**asdict(result), "as_promised": result.as_promised, "command": command})
    done = [count for count, _ in samples]
    draw_series(
        out / "endurance.png",
        "sweeps",
        {
            "latency, ms": (range(1, len(latencies) + 1), latencies.tolist()),
            "memory, MB": (done, [use.memory_mb for _, use in samples]),
            "handles": (done, [use.handles for _, use in samples]),
            "threads": (done, [use.threads for _, use in samples]),
        },
    )
    print(f"{table}\nwritten: {out / 'endurance.md'}")


def as_table(result: Endurance) -> str:
    """The result in Markdown."""
    rate = result.labelled / result.seconds
    rows = [
        ("sweeps sent, labelled", f"{result.sweeps}, {result.labelled}"),
        ("sweeps a second", f"{rate:.1f}"),
        ("memory after the warm-up, at the end", " → ".join(f"{value:.0f} MB" for value in result.memory_mb)),
        ("slope of memory", f"{result.memory_slope:+.2f} MB per 1,000 sweeps"),
        ("handles", " → ".join(map(str, result.handles))),
        ("threads", " → ".join(map(str, result.threads))),
        ("p50 of each tenth, ms", ", ".join(f"{value:.0f}" for value in result.p50_ms)),
        ("p99 of each tenth, ms", ", ".join(f"{value:.0f}" for value in result.p99_ms)),
        ("as promised", "yes" if result.as_promised else "NO"),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)
