"""What may be asked of a node beyond the everyday: more sweeps than it can label, other clocks, bad company."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_HZ = 10.0
_PERIOD_NS = 100_000_000
_START_NS = 1_000 * 1_000_000_000
_HOUR_NS = 3_600 * 1_000_000_000
_BURST = 5


@dataclass(frozen=True)
class Arrival:
    """A sweep that is published.

    Attributes:
        at_s: when, seconds from the start.
        stamp_ns: its stamp.
        points: how many it has.
    """

    at_s: float
    stamp_ns: int
    points: int


@dataclass(frozen=True)
class Scenario:
    """Sweeps, and who takes part.

    Attributes:
        name: of it.
        what: one line for people.
        arrivals: the sweeps.
        nodes: how many nodes label all of them.
        subscriber: one more, to the labels of the first node, that is ``slow`` or ``dead``; none if empty.
        sim_time: whether the nodes wait for a ``/clock`` that nobody publishes.
    """

    name: str
    what: str
    arrivals: Sequence[Arrival]
    nodes: int = 1
    subscriber: str = ""
    sim_time: bool = False


def steady(seconds: float, rate_hz: float, points: Iterable[int], period_ns: int | None = None) -> list[Arrival]:
    """Sweeps at one rate.

    Args:
        seconds: how long.
        rate_hz: how many in a second.
        points: of one sweep after the other, over and over.
        period_ns: between stamps; that between sweeps if None.
    """
    between_ns = round(1e9 / rate_hz) if period_ns is None else period_ns
    sizes = itertools.cycle(points)
    return [Arrival(k / rate_hz, _START_NS + k * between_ns, next(sizes)) for k in range(round(seconds * rate_hz))]


def scenarios(points: int, seconds: float) -> list[Scenario]:
    """All of them.

    Args:
        points: of an everyday sweep.
        seconds: how long each lasts.
    """
    everyday = steady(seconds, _HZ, [points])
    return [
        *(Scenario(f"rate_{hz}", f"{hz} sweeps a second", steady(seconds, hz, [points])) for hz in (10, 20, 40)),
        Scenario("bursts", f"{_BURST} sweeps at once, twice a second", _bursts(seconds, points)),
        Scenario("no_points", "clouds without points", steady(seconds, _HZ, [0])),
        Scenario("one_point", "clouds of one point", steady(seconds, _HZ, [1])),
        Scenario("large", "four times as many points, 2 sweeps a second", steady(seconds, 2, [4 * points])),
        Scenario("sizes_change", "0, 1, an everyday number, and twice as many", steady(seconds, 5, _sizes(points))),
        Scenario("two_nodes", "two nodes label the same 5 sweeps a second", steady(seconds, 5, [points]), nodes=2),
        Scenario("slow_subscriber", "somebody takes half a second for each cloud", everyday, subscriber="slow"),
        Scenario("dead_subscriber", "a subscriber's process stands still", everyday, subscriber="dead"),
        Scenario("pause", "no sweep for two seconds, in the middle", _pause(everyday)),
        Scenario("slow_motion", "a tenth of the speed", steady(10 * seconds / 4, 1, [points], _PERIOD_NS)),
        Scenario("fast_motion", "ten times the speed", steady(seconds / 2, 100, [points], _PERIOD_NS)),
        Scenario("loop", "stamps start again, as in a bag that loops", _loop(everyday)),
        Scenario("stamps_equal", "all sweeps have one stamp", steady(seconds, _HZ, [points], 0)),
        Scenario("stamps_zero", "all stamps are zero", _restamped(steady(seconds, _HZ, [points], 0), -_START_NS)),
        Scenario("stamps_ahead", "stamps are ten years ahead", _restamped(everyday, 10 * 8_766 * _HOUR_NS)),
        Scenario("no_clock", "use_sim_time, and nobody publishes /clock", everyday, sim_time=True),
    ]


def _sizes(points: int) -> tuple[int, ...]:
    return 0, 1, points, 2 * points


def _bursts(seconds: float, points: int) -> list[Arrival]:
    sweeps = [(burst, k) for burst in range(round(seconds * 2)) for k in range(_BURST)]
    return [Arrival(b / 2, _START_NS + (b * _BURST + k) * _PERIOD_NS, points) for b, k in sweeps]


def _pause(arrivals: Sequence[Arrival], seconds: float = 2.0) -> list[Arrival]:
    half = len(arrivals) // 2
    later = [Arrival(a.at_s + seconds, a.stamp_ns + round(seconds * 1e9), a.points) for a in arrivals[half:]]
    return [*arrivals[:half], *later]


def _loop(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Halfway the stamps jump back by an hour, to where those of the first half would have been."""
    half = len(arrivals) // 2
    first = _restamped(arrivals[:half], _HOUR_NS)
    again = zip(arrivals[half : 2 * half], arrivals[:half], strict=True)
    return [*first, *(Arrival(late.at_s, early.stamp_ns, late.points) for late, early in again)]


def _restamped(arrivals: Sequence[Arrival], later_ns: int) -> list[Arrival]:
    return [Arrival(a.at_s, a.stamp_ns + later_ns, a.points) for a in arrivals]
