"""Outcome of a load scenario for one node, and the checks that it must pass."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xmodelkd_ros.harness.load_scenarios import Scenario
from xmodelkd_ros.harness.node_under_load import NodeReport
from xmodelkd_ros.harness.process_usage import ProcessUsage
from xmodelkd_ros.harness.sweep_log import Key

Arrivals = Sequence[tuple[Key, int]]
"""Clouds in order of publication or arrival, with monotonic nanoseconds."""

_SIMULTANEOUS_S = 0.01
"""Latency of waking a worker thread: sweeps that are closer in time count as simultaneous."""
_MIN_RATE = 0.9
"""Fraction of the scheduled rate that the player must reach."""
_OUTLIERS = 0.01
_TRANSPORT_MS = 100.0
"""Allowance for DDS and the scheduler of a busy machine, on top of twice the p99 service time."""
_MAX_LATENCY_GROWTH, _LATENCY_GROWTH_MS = 1.5, 10.0
_MAX_MEMORY_GROWTH_MB = 8.0
_MAX_SLOWDOWN, _SLOWDOWN_MS = 2.0, 10.0
"""Effect of a slow or suspended subscriber on the median latency."""
_OUT_OF_ORDER = "dropped.out_of_order"
_EXPECTED_REASONS = {"dropped.overload", "dropped.lost_in_transport", _OUT_OF_ORDER}
"""Reasons for missing labels under load: overload, overflow of the subscription's queue, and bad stamps."""


@dataclass(frozen=True)
class Outcome:
    """Measurements of one node in one scenario.

    Attributes:
        scenario: name of the scenario.
        node: name of the node.
        sweeps: number of published sweeps.
        rate: publication rate, as a fraction of the scheduled one.
        labelled: number of labelled clouds received.
        min_labelled: required number of labelled clouds: those of a worker that takes the p99 service time for each
            sweep and always continues with the newest, less 1 %.
        unlabelled: number of sweeps that the node reports as not labelled, by reason.
        out_of_order: number of sweeps that the node must drop because of their stamps.
        in_order: whether labels arrived in the order of the sweeps and without duplicates.
        latencies_ms: time from publication to labels, of sweeps that can be identified.
        bound_ms: allowed latency.
        baseline_ms: median latency without the scenario's additional subscriber; None if unknown or without one.
        memory_mb: peak memory of the node's process.
        memory_growth_mb: median memory of the last third of the time less that of the second third.
    """

    scenario: str
    node: str
    sweeps: int
    rate: float
    labelled: int
    min_labelled: int
    unlabelled: Mapping[str, int]
    out_of_order: int
    in_order: bool
    latencies_ms: Sequence[float]
    bound_ms: float
    baseline_ms: float | None
    memory_mb: float
    memory_growth_mb: float

    @property
    def p50_ms(self) -> float | None:
        """Median latency, if there are any labels."""
        return float(np.median(self.latencies_ms)) if self.latencies_ms else None

    @property
    def worst_ms(self) -> float | None:
        """Maximum latency, if there are any labels."""
        return max(self.latencies_ms, default=None)

    @property
    def thirds_ms(self) -> tuple[float, float]:
        """Median latency of the first and the last third of the labelled sweeps; zero without labels."""
        third = max(len(self.latencies_ms) // 3, 1)
        first, last = self.latencies_ms[:third] or [0.0], self.latencies_ms[-third:] or [0.0]
        return float(np.median(first)), float(np.median(last))

    @property
    def unaccounted(self) -> int:
        """Number of sweeps without labels that the node does not report."""
        return self.sweeps - self.labelled - sum(self.unlabelled.values())

    @property
    def failures(self) -> list[str]:
        """Failed checks."""
        dropped = self.unlabelled.get(_OUT_OF_ORDER, 0)
        unexpected = sorted(set(self.unlabelled) - _EXPECTED_REASONS)
        first, last = self.thirds_ms
        checks = {
            f"played at {self.rate:.0%} of its rate": self.rate < _MIN_RATE,
            f"{self.unaccounted} unaccounted for": self.unaccounted != 0,
            "labels out of order or duplicated": not self.in_order,
            f"{self.labelled} labelled instead of {self.min_labelled}": self.labelled < self.min_labelled,
            f"unexpected reason: {', '.join(unexpected)}": bool(unexpected),
            f"{dropped} dropped as out of order instead of {self.out_of_order}": dropped != self.out_of_order,
            f"latency above {self.bound_ms:.0f} ms": (self.worst_ms or 0.0) > self.bound_ms,
            f"latency grew from {first:.0f} to {last:.0f} ms": last > _MAX_LATENCY_GROWTH * first + _LATENCY_GROWTH_MS,
            f"memory grew by {self.memory_growth_mb:.0f} MB": self.memory_growth_mb > _MAX_MEMORY_GROWTH_MB,
            f"median was {self.baseline_ms or 0:.0f} ms without the subscriber": self.baseline_ms is not None
            and self.p50_ms is not None
            and self.p50_ms > _MAX_SLOWDOWN * self.baseline_ms + _SLOWDOWN_MS,
        }
        return [failure for failure, failed in checks.items() if failed]


@dataclass(frozen=True, eq=False)
class ScenarioRun:
    """Traffic of one node in one scenario, and what was recorded of its process.

    Attributes:
        scenario: the scenario.
        node: name of the node.
        sent: published sweeps.
        received: labelled clouds.
        report: counters and service times of the node.
        usage: samples of the node's process, from the first sweep on.
        baseline_ms: see :class:`Outcome`.
    """

    scenario: Scenario
    node: str
    sent: Arrivals
    received: Arrivals
    report: NodeReport
    usage: Sequence[ProcessUsage]
    baseline_ms: float | None = None

    def outcome(self) -> Outcome:
        """Match published sweeps with labelled clouds and evaluate the measurements."""
        service_ms = float(np.percentile(self.report.service_ms, 99)) if self.report.service_ms else 0.0
        memory = [usage.memory_mb for usage in self.usage]
        third = max(len(memory) // 3, 1)
        at_s = [(at - self.sent[0][1]) * 1e-9 for _, at in self.sent]
        scheduled, out_of_order = self.scenario.sweeps, self.scenario.out_of_order
        min_labelled = newest_wins(at_s, service_ms * 1e-3) - out_of_order - round(_OUTLIERS * len(self.sent))
        return Outcome(
            scenario=self.scenario.name,
            node=self.node,
            sweeps=len(self.sent),
            rate=(scheduled[-1].at_s - scheduled[0].at_s) / max(at_s[-1], 1e-9),
            labelled=len(self.received),
            min_labelled=max(min_labelled, 1),
            unlabelled=self.report.unlabelled,
            out_of_order=out_of_order,
            in_order=is_in_order([key for key, _ in self.sent], [key for key, _ in self.received]),
            latencies_ms=latencies_ms(self.sent, self.received),
            bound_ms=2 * service_ms + _TRANSPORT_MS,
            baseline_ms=self.baseline_ms if self.scenario.subscriber else None,
            memory_mb=max(memory),
            memory_growth_mb=float(np.median(memory[-third:]) - np.median(memory[third : 2 * third] or memory)),
        )


def newest_wins(at_s: Iterable[float], service_s: float) -> int:
    """Number of sweeps that a worker labels if each takes the same time and only the newest one waits.

    Args:
        at_s: arrival times in order; of simultaneous ones the newest may replace all others.
        service_s: time per sweep.
    """
    labelled, free_s, is_waiting = 0, 0.0, False
    for now_s in (now for now, after in itertools.pairwise([*at_s, math.inf]) if after - now > _SIMULTANEOUS_S):
        if is_waiting and free_s <= now_s:  # the waiting one was started in between
            labelled, free_s, is_waiting = labelled + 1, free_s + service_s, False
        if not is_waiting and free_s <= now_s:
            labelled, free_s = labelled + 1, now_s + service_s
        else:
            is_waiting = True
    return labelled + is_waiting


def latencies_ms(sent: Arrivals, received: Arrivals) -> list[float]:
    """Milliseconds from publication to labels, in the order of the labelled sweeps.

    Sweeps that share stamp and size are matched by their order if all of them were labelled, else left out.
    """
    sent_count, received_count = Counter(key for key, _ in sent), Counter(key for key, _ in received)
    times = {key: [at for other, at in received if other == key] for key, count in sent_count.items() if count > 1}
    unique = dict(received)
    latencies = []
    for key, at in sent:
        if sent_count[key] == received_count[key]:
            arrival = times[key].pop(0) if key in times else unique[key]
            latencies.append((arrival - at) / 1e6)
    return latencies


def is_in_order(sent: Sequence[Key], received: Sequence[Key]) -> bool:
    """Whether the received keys are a subsequence of the sent ones."""
    remaining = iter(sent)
    return all(any(key == other for other in remaining) for key in received)
