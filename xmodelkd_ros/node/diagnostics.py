"""What the node says about itself: statistics over the last sweeps, and the messages that carry them.

Time comes in as arguments (seconds of a monotonic clock), so tests drive it.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from xmodelkd_ros.segmentation.pipeline import Result

_WINDOW = 200
"""Sweeps that the rates and quantiles are taken over: 20 s at 10 Hz."""

_STALE_PERIODS = 5
_MIN_STALE_S = 0.5
_UNKNOWN_PERIOD_S = 0.2
"""CameraFrames for the sweep period until two sweeps have come: the slowest LiDARs turn at 5 Hz."""

_PATIENCE_S = 5.0
"""How long the first sweep may be in coming."""

_AHEAD_S = 0.05
"""Clocks that agree better than this are synchronised."""

OK, WARN, ERROR = "OK", "WARN", "ERROR"
_LEVELS: dict[str, Any] = {OK: DiagnosticStatus.OK, WARN: DiagnosticStatus.WARN, ERROR: DiagnosticStatus.ERROR}


@dataclass(frozen=True)
class Report:
    """One diagnostic status.

    Attributes:
        level: ``OK``, ``WARN`` or ``ERROR``.
        message: one line for people.
        values: the numbers behind it, as text.
    """

    level: str
    message: str
    values: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class LabelledSweep:
    """A sweep that went out with labels.

    Attributes:
        result: its labels.
        points: how many it has.
        release_reason: why it did not wait any longer (see :class:`xmodelkd_ros.segmentation.image_matching.MatchedSweep`).
        used: the cameras that the teacher saw.
        missing: those that it did not, and why.
        stages_ms: milliseconds of each stage.
    """

    result: Result
    points: int
    release_reason: str
    used: Sequence[str]
    missing: Mapping[str, str]
    stages_ms: Mapping[str, float]

    def report(self, latency_ms: float) -> Report:
        """What ``~/status`` says of it."""
        values = {
            "mode": self.result.mode,
            "cameras": ",".join(self.used),
            **{f"{camera}.missing": reason for camera, reason in self.missing.items()},
            **({"went": self.release_reason} if self.used or self.missing else {}),
            "points": str(self.points),
            "points_invalid": str(self.result.invalid),
            "latency_ms": f"{latency_ms:.2f}",
            **{f"{stage}_ms": f"{milliseconds:.2f}" for stage, milliseconds in self.stages_ms.items()},
        }
        return Report(WARN if self.missing else OK, "labelled", values)


class SweepStatistics:
    """Counts and rolling statistics of the sweeps that came in, went out or were dropped. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals: deque[float] = deque(maxlen=_WINDOW)
        self._milliseconds: deque[Mapping[str, float]] = deque(maxlen=_WINDOW)
        self._received = 0
        self._published = 0
        self._problems: Counter[str] = Counter()
        self._problems_reported: Counter[str] = Counter()
        self._by_mode: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()
        self._missing_reported: Counter[str] = Counter()
        self._why_missing: dict[str, str] = {}
        self._published_reported = 0
        self._last_problem = ""
        self._first_report_s: float | None = None
        self._age_s = 0.0

    def received(self, now_s: float, age_s: float = 0.0) -> None:
        """A sweep arrived.

        Args:
            now_s: when.
            age_s: by ROS time, how old its stamp was then.
        """
        with self._lock:
            self._received += 1
            self._arrivals.append(now_s)
            self._age_s = age_s

    def problem(self, outcome: str, reason: str, detail: str = "", count: int = 1) -> None:
        """Sweeps got no labels.

        Args:
            outcome: ``dropped``, or ``unlabelled`` if they went out without.
            reason: one word.
            detail: more about the latest one.
            count: number of sweeps.
        """
        with self._lock:
            self._problems[f"{outcome}.{reason}"] += count
            self._last_problem = detail or reason

    def published(self, latency_ms: float, labelled: LabelledSweep) -> None:
        """A sweep went out, this long after it arrived."""
        with self._lock:
            self._published += 1
            self._milliseconds.append({"latency": latency_ms, **labelled.stages_ms})
            self._by_mode[labelled.result.mode] += 1
            self._missing.update(labelled.missing.keys())
            self._why_missing.update(labelled.missing)

    def report(self, now_s: float) -> Report:
        """The state now. Sweeps without labels make a warning in the first report after them."""
        with self._lock:
            self._first_report_s = now_s if self._first_report_s is None else self._first_report_s
            age = now_s - self._arrivals[-1] if self._arrivals else None
            stale = age is not None and age > max(_MIN_STALE_S, _STALE_PERIODS * self._period())
            level, message = self._judge(age, stale, now_s - self._first_report_s)
            self._problems_reported, self._published_reported = self._problems.copy(), self._published
            self._missing_reported = self._missing.copy()
            return Report(level, message, self._values(age, stale))

    def _judge(self, age: float | None, stale: bool, waiting_s: float) -> tuple[str, str]:
        if age is None:
            return ERROR if waiting_s > _PATIENCE_S else WARN, "no sweep has arrived yet"
        if stale:
            return ERROR, f"stale: no sweep for {age:.1f} s"
        fresh, missing = self._problems - self._problems_reported, self._missing - self._missing_reported
        if not fresh:
            wrong = []
            if missing:
                names = sorted(missing)
                wrong.append(f"labelling sweeps without cameras {', '.join(names)}: {self._why_missing[names[0]]}")
            if self._age_s < -_AHEAD_S:
                ahead = f"sweeps are stamped {-self._age_s:.2f} s ahead of this node's time"
                wrong.append(f"{ahead}; synchronise the clocks, or set use_sim_time for a bag")
            return (WARN, "; ".join(wrong)) if wrong else (OK, "labelling sweeps")
        reasons = ", ".join(f"{count} {name}" for name, count in sorted(fresh.items()))
        if self._published == self._published_reported:
            return ERROR, f"no sweep is labelled: {reasons}: {self._last_problem}"
        return WARN, f"sweeps without labels: {reasons}"

    def _period(self) -> float:
        if len(self._arrivals) < 2:
            return _UNKNOWN_PERIOD_S
        # The median: a pause in the input is not its period.
        return float(np.median(np.diff(self._arrivals)))

    def _values(self, age: float | None, stale: bool) -> dict[str, str]:
        flows = len(self._arrivals) > 1 and not stale
        values = {
            "input_rate_hz": f"{1 / max(self._period(), 1e-6):.2f}" if flows else "0.00",
            "input_age_s": f"{age:.3f}" if age is not None else "",
            "stamp_age_s": f"{self._age_s:.3f}" if age is not None else "",
            "received": str(self._received),
            "published": str(self._published),
            **{f"published.{mode}": str(count) for mode, count in sorted(self._by_mode.items())},
            **{f"{camera}.missing": str(count) for camera, count in sorted(self._missing.items())},
            **{name: str(count) for name, count in sorted(self._problems.items())},
        }
        for stage in dict.fromkeys(name for sample in self._milliseconds for name in sample):
            samples = [sample[stage] for sample in self._milliseconds if stage in sample]
            p50, p99 = np.percentile(samples, (50, 99))
            values[f"{stage}_ms.p50"], values[f"{stage}_ms.p99"] = f"{p50:.2f}", f"{p99:.2f}"
        if self._last_problem:
            values["last_problem"] = self._last_problem
        return values


class Throttle:
    """Lets one line of each kind through per interval, so that a fault at sensor rate does not flood the log."""

    def __init__(self, interval_s: float = 5.0) -> None:
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._held_back: Counter[str] = Counter()

    def due(self, kind: str, now_s: float) -> int | None:
        """None to keep quiet; otherwise how many lines of this kind were held back since the last one."""
        with self._lock:
            if kind in self._last and now_s - self._last[kind] < self._interval_s:
                self._held_back[kind] += 1
                return None
            self._last[kind] = now_s
            return self._held_back.pop(kind, 0)


def to_array(report: Report, stamp: Any, name: str, hardware_id: str) -> DiagnosticArray:
    """The report as a message.

    Args:
        report: what to say.
        stamp: builtin_interfaces/Time of the array.
        name: name of the status.
        hardware_id: the sensor it is about.
    """
    status = DiagnosticStatus(
        level=_LEVELS[report.level],
        name=name,
        message=report.message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in report.values.items()],
    )
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array
