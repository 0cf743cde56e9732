"""Diagnostics: rolling statistics of sweeps, and their messages.

Times are arguments (seconds of a monotonic clock), so that tests control them.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from xmodelkd_ros.core.findings import Finding, to_values
from xmodelkd_ros.messages.topics import LABELLED_STATUS
from xmodelkd_ros.segmentation.pipeline import Result

_WINDOW = 200
"""Number of sweeps in rates and percentiles: 20 s at 10 Hz."""

_STALE_PERIODS = 5
_MIN_STALE_S = 0.5
_DEFAULT_PERIOD_S = 0.2
"""Sweep period assumed until two sweeps have arrived: the slowest LiDARs turn at 5 Hz."""

_FIRST_SWEEP_S = 5.0
"""Time without a first sweep after which the state is an error."""

_MAX_AHEAD_S = 0.05
"""Maximum time that stamps may be ahead of the node's clock before it warns."""

OK, WARN, ERROR = "OK", "WARN", "ERROR"
_LEVELS: dict[str, Any] = {OK: DiagnosticStatus.OK, WARN: DiagnosticStatus.WARN, ERROR: DiagnosticStatus.ERROR}


@dataclass(frozen=True)
class Report:
    """One diagnostic status.

    Attributes:
        level: ``OK``, ``WARN`` or ``ERROR``.
        message: one-line summary.
        values: details as text.
    """

    level: str
    message: str
    values: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class LabelledSweep:
    """A sweep that was published with labels.

    Attributes:
        result: its labels.
        points: number of points.
        release_reason: why it stopped waiting for images (see
            :class:`xmodelkd_ros.segmentation.image_matching.MatchedSweep`).
        used: cameras that the teacher used.
        missing: reason for each camera that it did not use.
        stages_ms: duration of each stage in milliseconds.
        findings: current warnings about the input.
        sensor: how much is known of the LiDAR, if it is estimated.
        uncertain: number of points without a label for lack of probability.
    """

    result: Result
    points: int
    release_reason: str
    used: Sequence[str]
    missing: Mapping[str, str]
    stages_ms: Mapping[str, float]
    findings: Sequence[Finding] = ()
    sensor: str = ""
    uncertain: int = 0

    def report(self, latency_ms: float) -> Report:
        """Status of the sweep for ``~/status``."""
        values = {
            "mode": self.result.mode,
            "cameras": ",".join(self.used),
            **{f"{camera}.missing": reason for camera, reason in self.missing.items()},
            **({"release_reason": self.release_reason} if self.used or self.missing else {}),
            **({"sensor": self.sensor} if self.sensor else {}),
            "points": str(self.points),
            "points_invalid": str(self.result.invalid),
            **({"points_uncertain": str(self.uncertain)} if self.uncertain else {}),
            "latency_ms": f"{latency_ms:.2f}",
            **{f"{stage}_ms": f"{milliseconds:.2f}" for stage, milliseconds in self.stages_ms.items()},
            **to_values(self.findings),
        }
        message = "; ".join([LABELLED_STATUS, *(finding.text for finding in self.findings)])
        return Report(WARN if self.missing or self.findings else OK, message, values)


class SweepStatistics:
    """Counts and rolling statistics of received, published and dropped sweeps. Thread-safe."""

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
        self._missing_reasons: dict[str, str] = {}
        self._published_reported = 0
        self._last_problem = ""
        self._first_report_s: float | None = None
        self._age_s = 0.0
        self._findings: Sequence[Finding] = ()

    def received(self, now_s: float, age_s: float = 0.0) -> None:
        """Count a sweep that arrived.

        Args:
            now_s: time of arrival.
            age_s: age of its stamp at arrival, in ROS time.
        """
        with self._lock:
            self._received += 1
            self._arrivals.append(now_s)
            self._age_s = age_s

    def problem(self, outcome: str, reason: str, detail: str = "", count: int = 1) -> None:
        """Count sweeps without labels.

        Args:
            outcome: ``dropped``, or ``unlabelled`` if they were published without labels.
            reason: one word.
            detail: description of the latest one.
            count: number of sweeps.
        """
        with self._lock:
            self._problems[f"{outcome}.{reason}"] += count
            self._last_problem = detail or reason

    def published(self, latency_ms: float, labelled: LabelledSweep) -> None:
        """Count a sweep that was published with labels, and its latency since arrival."""
        with self._lock:
            self._published += 1
            self._milliseconds.append({"latency": latency_ms, **labelled.stages_ms})
            self._by_mode[labelled.result.mode] += 1
            self._missing.update(labelled.missing.keys())
            self._missing_reasons.update(labelled.missing)
            self._findings = labelled.findings

    def report(self, now_s: float, silence: str = "", stopped_clock: str = "") -> Report:
        """Current state. Sweeps without labels cause a warning in the first report after them.

        Args:
            now_s: current time.
            silence: why no sweep arrives; ends the message if none does.
            stopped_clock: what is wrong with this node's time, if it has not begun.
        """
        with self._lock:
            self._first_report_s = now_s if self._first_report_s is None else self._first_report_s
            age = now_s - self._arrivals[-1] if self._arrivals else None
            stale = age is not None and age > max(_MIN_STALE_S, _STALE_PERIODS * self._period())
            level, message = self._judge(age, stale, now_s - self._first_report_s, stopped_clock)
            if silence and (stale or age is None):
                message = f"{message}: {silence}"
            self._problems_reported, self._published_reported = self._problems.copy(), self._published
            self._missing_reported = self._missing.copy()
            return Report(level, message, self._values(age, stale))

    def _judge(self, age: float | None, stale: bool, waiting_s: float, stopped_clock: str) -> tuple[str, str]:
        if age is None:
            return ERROR if waiting_s > _FIRST_SWEEP_S else WARN, "no sweep has arrived yet"
        if stale:
            return ERROR, f"stale: no sweep for {age:.1f} s"
        fresh, missing = self._problems - self._problems_reported, self._missing - self._missing_reported
        if not fresh:
            warnings = []
            if missing:
                names = sorted(missing)
                warnings.append(
                    f"labelling sweeps without cameras {', '.join(names)}: {self._missing_reasons[names[0]]}"
                )
            if stopped_clock:
                warnings.append(stopped_clock)
            elif self._age_s < -_MAX_AHEAD_S:
                ahead = f"sweeps are stamped {-self._age_s:.2f} s ahead of this node's time"
                warnings.append(f"{ahead}; synchronise the clocks, or set use_sim_time for a bag")
            warnings += [finding.text for finding in self._findings]
            return (WARN, "; ".join(warnings)) if warnings else (OK, "labelling sweeps")
        reasons = ", ".join(f"{count} {name}" for name, count in sorted(fresh.items()))
        if self._published == self._published_reported:
            return ERROR, f"no sweep is labelled: {reasons}: {self._last_problem}"
        return WARN, f"sweeps without labels: {reasons}"

    def _period(self) -> float:
        if len(self._arrivals) < 2:
            return _DEFAULT_PERIOD_S
        # The median is robust against pauses of the input.
        return float(np.median(np.diff(self._arrivals)))

    def _values(self, age: float | None, stale: bool) -> dict[str, str]:
        has_rate = len(self._arrivals) > 1 and not stale
        values = {
            "input_rate_hz": f"{1 / max(self._period(), 1e-6):.2f}" if has_rate else "0.00",
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
        values |= to_values(self._findings)
        if self._last_problem:
            values["last_problem"] = self._last_problem
        return values


class Throttle:
    """Rate limit for log lines: one of each kind per interval."""

    def __init__(self, interval_s: float = 5.0) -> None:
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._suppressed: Counter[str] = Counter()

    def due(self, kind: str, now_s: float) -> int | None:
        """None to suppress a line; otherwise the number of suppressed lines of its kind since the last one."""
        with self._lock:
            if kind in self._last and now_s - self._last[kind] < self._interval_s:
                self._suppressed[kind] += 1
                return None
            self._last[kind] = now_s
            return self._suppressed.pop(kind, 0)


def with_suppressed(line: str, suppressed: int) -> str:
    """A log line with the number of similar ones that :class:`Throttle` suppressed before it."""
    return f"{line} ({suppressed} similar messages suppressed)" if suppressed else line


def to_array(report: Report, stamp: Any, name: str, hardware_id: str) -> DiagnosticArray:
    """Convert a report to a message with one status."""
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
