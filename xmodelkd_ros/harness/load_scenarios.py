"""What may be asked of a node beyond the everyday: more sweeps than it can label, other clocks, bad company."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_HZ = 10.0
_PERIOD_NS = 100_000_000
_S = 1_000_000_000
_START_NS = 1_000 * _S
_HOUR_NS = 3_600 * _S
_BURST = 5
_LONG = 6
"""Times as long as the others lasts what is to show growth."""
_EVERY_OLD, _OLD_NS = 10, 150_000_000
_JITTER_NS = (0, 20_000_000, -25_000_000, 10_000_000, -5_000_000)


@dataclass(frozen=True)
class ScheduledSweep:
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
class ClockSegment:
    """How ``/clock`` goes on from a moment.

    Attributes:
        at_s: when, seconds from the start.
        clock_s: what it shows then.
        rate: its seconds per second from then on; 0 where it stands still.
    """

    at_s: float
    clock_s: float
    rate: float


@dataclass(frozen=True)
class Scenario:
    """Sweeps, and who takes part.

    Attributes:
        name: of it.
        what: one line for people.
        arrivals: the sweeps.
        nodes: how many nodes label all of them.
        subscriber: one more, to the labels of the first node, that is ``slow`` or ``dead``; none if empty.
        sim_time: whether the nodes go by ``/clock``.
        clock: how it goes; empty: nobody publishes it.
        out_of_order: how many sweeps are stamped before the one before them, which is no loop: these get no labels.
    """

    name: str
    what: str
    arrivals: Sequence[ScheduledSweep]
    nodes: int = 1
    subscriber: str = ""
    sim_time: bool = False
    clock: Sequence[ClockSegment] = ()
    out_of_order: int = 0


def steady(seconds: float, rate_hz: float, points: Iterable[int], period_ns: int | None = None) -> list[ScheduledSweep]:
    """Sweeps at one rate.

    Args:
        seconds: how long.
        rate_hz: how many in a second.
        points: of one sweep after the other, over and over.
        period_ns: between stamps; that between sweeps if None.
    """
    between_ns = round(1e9 / rate_hz) if period_ns is None else period_ns
    sizes = itertools.cycle(points)
    return [
        ScheduledSweep(k / rate_hz, _START_NS + k * between_ns, next(sizes)) for k in range(round(seconds * rate_hz))
    ]


def scenarios(points: int, seconds: float) -> list[Scenario]:
    """All of them.

    Args:
        points: of an everyday sweep.
        seconds: how long most of them last; ``overload`` six times as long.
    """
    return [*_many(points, seconds), *_in_company(points, seconds), *_other_clocks(points, seconds)]


# --- how many, how large ---------------------------------------------------------------------------------------------


def _many(points: int, seconds: float) -> list[Scenario]:
    long = steady(_LONG * seconds, 40, [points])
    return [
        *(Scenario(f"rate_{hz}", f"{hz} sweeps a second", steady(seconds, hz, [points])) for hz in (10, 20, 40)),
        Scenario("overload", f"40 sweeps a second, {_LONG} times as long", long),
        Scenario("bursts", f"{_BURST} sweeps at once, twice a second", _bursts(seconds, points)),
        Scenario("no_points", "clouds without points", steady(seconds, _HZ, [0])),
        Scenario("one_point", "clouds of one point", steady(seconds, _HZ, [1])),
        Scenario("large", "four times as many points, 2 sweeps a second", steady(seconds, 2, [4 * points])),
        Scenario("sizes_change", "0, 1, an everyday number, and twice as many", steady(seconds, 5, _sizes(points))),
    ]


def _sizes(points: int) -> tuple[int, ...]:
    return 0, 1, points, 2 * points


def _bursts(seconds: float, points: int) -> list[ScheduledSweep]:
    sweeps = [(burst, k) for burst in range(round(seconds * 2)) for k in range(_BURST)]
    return [ScheduledSweep(b / 2, _START_NS + (b * _BURST + k) * _PERIOD_NS, points) for b, k in sweeps]


# --- who else is there -----------------------------------------------------------------------------------------------


def _in_company(points: int, seconds: float) -> list[Scenario]:
    everyday = steady(seconds, _HZ, [points])
    return [
        Scenario("two_nodes", "two nodes label the same 5 sweeps a second", steady(seconds, 5, [points]), nodes=2),
        Scenario("slow_subscriber", "somebody takes half a second for each cloud", everyday, subscriber="slow"),
        Scenario("dead_subscriber", "a subscriber's process stands still", everyday, subscriber="dead"),
    ]


# --- time ------------------------------------------------------------------------------------------------------------


def _other_clocks(points: int, seconds: float) -> list[Scenario]:
    everyday = steady(seconds, _HZ, [points])
    half_s = everyday[len(everyday) // 2].at_s
    start_s = _START_NS / _S
    slow, fast = steady(2.5 * seconds, 1, [points], _PERIOD_NS), steady(seconds / 2, 100, [points], _PERIOD_NS)
    all_equal = steady(seconds, _HZ, [points], 0)
    paused = (
        ClockSegment(0, start_s, 1),
        ClockSegment(half_s, start_s + half_s, 0),
        ClockSegment(half_s + 2, start_s + half_s, 1),
    )
    stopped, again = paused[:2], (ClockSegment(0, start_s, 1), ClockSegment(half_s, start_s, 1))
    ahead = (ClockSegment(0, start_s, 1), ClockSegment(half_s, start_s + _HOUR_NS / _S, 1))
    later = [replace(a, stamp_ns=a.stamp_ns + _HOUR_NS - round(half_s * _S)) for a in everyday if a.at_s >= half_s]
    jumping = [*everyday[: len(everyday) // 2], *later]
    jittered = _jittered(everyday)
    return [
        Scenario(
            "pause", "sweeps and /clock stand still for two seconds", _pause(everyday), sim_time=True, clock=paused
        ),
        Scenario("slow_motion", "a tenth of the speed", slow, sim_time=True, clock=(ClockSegment(0, start_s, 0.1),)),
        Scenario("fast_motion", "ten times the speed", fast, sim_time=True, clock=(ClockSegment(0, start_s, 10),)),
        Scenario("loop", "stamps and /clock start again, the same", _loop(everyday), sim_time=True, clock=again),
        Scenario("clock_jumps", "stamps and /clock jump an hour ahead", jumping, sim_time=True, clock=ahead),
        Scenario("clock_stops", "/clock stands still, sweeps do not", everyday, sim_time=True, clock=stopped),
        Scenario("no_clock", "use_sim_time, and nobody publishes /clock", everyday, sim_time=True),
        Scenario("stamps_equal", "all sweeps have one stamp", all_equal),
        Scenario("stamps_zero", "all stamps are zero", _restamped(all_equal, -_START_NS)),
        Scenario("stamps_ahead", "stamps are ten years ahead", _restamped(everyday, 10 * 8_766 * _HOUR_NS)),
        Scenario(
            "stamps_jitter",
            f"stamps are up to 25 ms off, and each {_EVERY_OLD}th is older than the one before",
            jittered,
            out_of_order=sum(b.stamp_ns < a.stamp_ns for a, b in itertools.pairwise(jittered)),
        ),
    ]


def _pause(arrivals: Sequence[ScheduledSweep], seconds: float = 2.0) -> list[ScheduledSweep]:
    """No sweep for some seconds, in the middle; stamps go by a clock that stands still meanwhile."""
    half = len(arrivals) // 2
    return [*arrivals[:half], *(replace(a, at_s=a.at_s + seconds) for a in arrivals[half:])]


def _loop(arrivals: Sequence[ScheduledSweep]) -> list[ScheduledSweep]:
    """The second half has the stamps of the first."""
    half = len(arrivals) // 2
    again = zip(arrivals[half : 2 * half], arrivals[:half], strict=True)
    return [*arrivals[:half], *(replace(late, stamp_ns=early.stamp_ns) for late, early in again)]


def _jittered(arrivals: Sequence[ScheduledSweep]) -> list[ScheduledSweep]:
    offsets_ns = [
        -_OLD_NS if k % _EVERY_OLD == _EVERY_OLD - 1 else _JITTER_NS[k % len(_JITTER_NS)] for k in range(len(arrivals))
    ]
    return [replace(a, stamp_ns=a.stamp_ns + offset) for a, offset in zip(arrivals, offsets_ns, strict=True)]


def _restamped(arrivals: Sequence[ScheduledSweep], later_ns: int) -> list[ScheduledSweep]:
    return [replace(a, stamp_ns=a.stamp_ns + later_ns) for a in arrivals]
