"""What a node made of a kind of load, and which of its promises that breaks."""

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
"""Clouds as they came, and monotonic nanoseconds."""

_AT_ONCE_S = 0.01
"""Before a thread that was woken is at work, so much later is not later."""
_PLAYED = 0.9
"""Of the rate that was asked for, that has to be reached for a scenario to show what it is to show."""
_OUTLIERS = 0.01
_TRANSPORT_MS = 100.0
"""What DDS and the scheduler of a busy machine may add to twice the time of the slowest hundredth of sweeps."""
_GROWTH, _GROWTH_MS = 1.5, 10.0
_GROWTH_MB = 8.0
_COMPANY, _COMPANY_MS = 2.0, 10.0
"""What a bad subscriber may do to the median latency."""
_OUT_OF_ORDER = "dropped.out_of_order"
_COUNTED = {"dropped.overload", "dropped.lost_in_transport", _OUT_OF_ORDER}
"""Reasons that a load may give: too slow for it, so slow that the subscription's queue overflows, and its stamps."""


@dataclass(frozen=True)
class Outcome:
    """What a node made of a scenario.

    Attributes:
        scenario: its name.
        node: the node's name.
        sweeps: how many were published.
        rate: at which they were, as a share of that which was asked for.
        labelled: how many came back.
        promised: how many had to, where each takes as long as the slowest hundredth and the newest wins; less one in a
            hundred.
        said: how many the node says it has not labelled, by reason.
        out_of_order: how many the node had to refuse, for their stamps.
        in_order: whether labels came in the order of the sweeps, and none twice.
        latencies_ms: time from a sweep's publication to its labels, of each that can be told from others.
        bound_ms: the longest that is allowed.
        alone_ms: median without the company that a scenario adds; None if not known, or without company.
        memory_mb: the most that the node's process held.
        memory_growth_mb: median over the last third of the time less that over the middle one.
    """

    scenario: str
    node: str
    sweeps: int
    rate: float
    labelled: int
    promised: int
    said: Mapping[str, int]
    out_of_order: int
    in_order: bool
    latencies_ms: Sequence[float]
    bound_ms: float
    alone_ms: float | None
    memory_mb: float
    memory_growth_mb: float

    @property
    def p50_ms(self) -> float | None:
        """Median of the latencies, if there are any."""
        return float(np.median(self.latencies_ms)) if self.latencies_ms else None

    @property
    def worst_ms(self) -> float | None:
        """The longest latency, if there are any."""
        return max(self.latencies_ms, default=None)

    @property
    def thirds_ms(self) -> tuple[float, float]:
        """Median latency of the first and of the last third of the labelled sweeps; zero if there are none."""
        third = max(len(self.latencies_ms) // 3, 1)
        first, last = self.latencies_ms[:third] or [0.0], self.latencies_ms[-third:] or [0.0]
        return float(np.median(first)), float(np.median(last))

    @property
    def unaccounted(self) -> int:
        """Sweeps that got no labels, and of which the node does not say so."""
        return self.sweeps - self.labelled - sum(self.said.values())

    @property
    def broken(self) -> list[str]:
        """What does not hold, in a few words each."""
        refused = self.said.get(_OUT_OF_ORDER, 0)
        unknown = sorted(set(self.said) - _COUNTED)
        first, last = self.thirds_ms
        wrong = {
            f"played at {self.rate:.0%} of its rate": self.rate < _PLAYED,
            f"{self.unaccounted} unaccounted for": self.unaccounted != 0,
            "labels out of order or twice": not self.in_order,
            f"labelled {self.labelled}, not {self.promised}": self.labelled < self.promised,
            f"not labelled for {', '.join(unknown)}": bool(unknown),
            f"{refused} refused as out of order, not {self.out_of_order}": refused != self.out_of_order,
            f"labels after more than {self.bound_ms:.0f} ms": (self.worst_ms or 0.0) > self.bound_ms,
            f"from {first:.0f} to {last:.0f} ms": last > _GROWTH * first + _GROWTH_MS,
            f"memory grew by {self.memory_growth_mb:.0f} MB": self.memory_growth_mb > _GROWTH_MB,
            f"{self.alone_ms or 0:.0f} ms alone": self.alone_ms is not None
            and self.p50_ms is not None
            and self.p50_ms > _COMPANY * self.alone_ms + _COMPANY_MS,
        }
        return [what for what, is_so in wrong.items() if is_so]


def outcome(
    scenario: Scenario,
    node: str,
    went: Arrivals,
    came: Arrivals,
    report: NodeReport,
    uses: Sequence[ProcessUsage],
    alone_ms: float | None = None,
) -> Outcome:
    """Join what went into a node and what came out.

    Args:
        scenario: that was played.
        node: its name.
        went: the sweeps that were published.
        came: the labels that were received.
        report: what the node said of them.
        uses: what its process held, from the first sweep on.
        alone_ms: see :class:`Outcome`.
    """
    service_ms = float(np.percentile(report.service_ms, 99)) if report.service_ms else 0.0
    memory = [use.memory_mb for use in uses]
    third = max(len(memory) // 3, 1)
    at_s = [(at - went[0][1]) * 1e-9 for _, at in went]
    promised = newest_wins(at_s, service_ms * 1e-3) - scenario.out_of_order - round(_OUTLIERS * len(went))
    return Outcome(
        scenario.name,
        node,
        len(went),
        (scenario.arrivals[-1].at_s - scenario.arrivals[0].at_s) / max(at_s[-1], 1e-9),
        len(came),
        max(promised, 1),
        report.unlabelled,
        scenario.out_of_order,
        is_in_order([key for key, _ in went], [key for key, _ in came]),
        latencies_ms(went, came),
        2 * service_ms + _TRANSPORT_MS,
        alone_ms if scenario.subscriber else None,
        max(memory),
        float(np.median(memory[-third:]) - np.median(memory[third : 2 * third] or memory)),
    )


def newest_wins(at_s: Iterable[float], service_s: float) -> int:
    """How many sweeps get labels where each takes as long, and one waits, the newest.

    Args:
        at_s: when sweeps come, in order. Of those that come at once the newest may replace all others.
        service_s: how long one takes.
    """
    labelled, free_s, waits = 0, 0.0, False
    for now_s in (now for now, after in itertools.pairwise([*at_s, math.inf]) if after - now > _AT_ONCE_S):
        if waits and free_s <= now_s:  # the one that waited was begun in between
            labelled, free_s, waits = labelled + 1, free_s + service_s, False
        if not waits and free_s <= now_s:
            labelled, free_s = labelled + 1, now_s + service_s
        else:
            waits = True
    return labelled + waits


def latencies_ms(went: Arrivals, came: Arrivals) -> list[float]:
    """Milliseconds from publication to labels, in the order of the sweeps that came back.

    Sweeps of one stamp and size are told apart by their order, if all of them came back; else they are left out.
    """
    sent, received = Counter(key for key, _ in went), Counter(key for key, _ in came)
    times = {key: [at for other, at in came if other == key] for key, count in sent.items() if count > 1}
    once = dict(came)
    found = []
    for key, at in went:
        if sent[key] == received[key]:
            back = times[key].pop(0) if key in times else once[key]
            found.append((back - at) / 1e6)
    return found


def is_in_order(went: Sequence[Key], came: Sequence[Key]) -> bool:
    """Whether one is the other with gaps."""
    left = iter(went)
    return all(any(key == other for other in left) for key in came)
