"""Load scenarios: sweep rates and sizes, several nodes, slow or stalled subscribers, clock and stamp faults."""

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
_OVERLOAD_LENGTH = 6
"""Duration of ``overload`` relative to the other scenarios: long enough to reveal growth of latency and memory."""
_OUT_OF_ORDER_EVERY, _OUT_OF_ORDER_NS = 10, 150_000_000
_JITTER_NS = (0, 20_000_000, -25_000_000, 10_000_000, -5_000_000)


@dataclass(frozen=True)
class ScheduledSweep:
    """A sweep to publish ``at_s`` seconds after the start."""

    at_s: float
    stamp_ns: int
    points: int


@dataclass(frozen=True)
class ClockSegment:
    """A linear segment of ``/clock``.

    Attributes:
        at_s: its begin, seconds from the start.
        clock_s: time of ``/clock`` at its start.
        rate: seconds of ``/clock`` per second; 0 for a stopped clock.
    """

    at_s: float
    clock_s: float
    rate: float


@dataclass(frozen=True)
class Scenario:
    """Published sweeps and the processes that take part.

    Attributes:
        name: its name on the command line.
        description: one line for reports.
        sweeps: the published sweeps.
        nodes: number of nodes that label them.
        subscriber: additional ``slow`` or ``dead`` (suspended) subscriber of the first node's labels; none if empty.
        sim_time: whether the nodes follow ``/clock``.
        clock: segments of ``/clock``, which is not published if empty.
        out_of_order: number of sweeps stamped before their predecessor (no loop), which the node must drop.
    """

    name: str
    description: str
    sweeps: Sequence[ScheduledSweep]
    nodes: int = 1
    subscriber: str = ""
    sim_time: bool = False
    clock: Sequence[ClockSegment] = ()
    out_of_order: int = 0


def constant_rate(
    seconds: float, rate_hz: float, points: Iterable[int], stamp_period_ns: int | None = None
) -> list[ScheduledSweep]:
    """Sweeps at a constant rate.

    Args:
        seconds: duration.
        rate_hz: sweeps per second.
        points: sizes of consecutive sweeps, repeated.
        stamp_period_ns: time between stamps; None for the time between sweeps.
    """
    period_ns = round(1e9 / rate_hz) if stamp_period_ns is None else stamp_period_ns
    sizes = itertools.cycle(points)
    return [
        ScheduledSweep(k / rate_hz, _START_NS + k * period_ns, next(sizes)) for k in range(round(seconds * rate_hz))
    ]


def scenarios(points: int, seconds: float) -> list[Scenario]:
    """All load scenarios.

    Args:
        points: number of points of a regular sweep.
        seconds: duration of most scenarios; ``overload`` lasts six times as long.
    """
    return [*_rates_and_sizes(points, seconds), *_participants(points, seconds), *_clock_faults(points, seconds)]


# --- rates and sizes -------------------------------------------------------------------------------------------------


def _rates_and_sizes(points: int, seconds: float) -> list[Scenario]:
    overload = constant_rate(_OVERLOAD_LENGTH * seconds, 40, [points])
    sizes = (0, 1, points, 2 * points)
    return [
        *(Scenario(f"rate_{hz}", f"{hz} sweeps/s", constant_rate(seconds, hz, [points])) for hz in (10, 20, 40)),
        Scenario("overload", f"40 sweeps/s, {_OVERLOAD_LENGTH} times as long", overload),
        Scenario("bursts", f"bursts of {_BURST} sweeps, 2 bursts/s", _bursts(seconds, points)),
        Scenario("no_points", "empty clouds", constant_rate(seconds, _HZ, [0])),
        Scenario("one_point", "clouds of one point", constant_rate(seconds, _HZ, [1])),
        Scenario("large", "four times as many points, 2 sweeps/s", constant_rate(seconds, 2, [4 * points])),
        Scenario("sizes_change", "0, 1, N and 2 N points in turn", constant_rate(seconds, 5, sizes)),
    ]


def _bursts(seconds: float, points: int) -> list[ScheduledSweep]:
    sweeps = [(burst, k) for burst in range(round(seconds * 2)) for k in range(_BURST)]
    return [ScheduledSweep(b / 2, _START_NS + (b * _BURST + k) * _PERIOD_NS, points) for b, k in sweeps]


# --- participants ----------------------------------------------------------------------------------------------------


def _participants(points: int, seconds: float) -> list[Scenario]:
    regular = constant_rate(seconds, _HZ, [points])
    return [
        Scenario("two_nodes", "two nodes label 5 sweeps/s", constant_rate(seconds, 5, [points]), nodes=2),
        Scenario("slow_subscriber", "a subscriber that takes 0.5 s per cloud", regular, subscriber="slow"),
        Scenario("dead_subscriber", "a suspended subscriber process", regular, subscriber="dead"),
    ]


# --- clocks and stamps -----------------------------------------------------------------------------------------------


def _clock_faults(points: int, seconds: float) -> list[Scenario]:
    regular = constant_rate(seconds, _HZ, [points])
    half_s = regular[len(regular) // 2].at_s
    start_s = _START_NS / _S
    slow = constant_rate(2.5 * seconds, 1, [points], _PERIOD_NS)
    fast = constant_rate(seconds / 2, 100, [points], _PERIOD_NS)
    all_equal = constant_rate(seconds, _HZ, [points], 0)
    paused = (
        ClockSegment(0, start_s, 1),
        ClockSegment(half_s, start_s + half_s, 0),
        ClockSegment(half_s + 2, start_s + half_s, 1),
    )
    stopped, restarted = paused[:2], (ClockSegment(0, start_s, 1), ClockSegment(half_s, start_s, 1))
    ahead = (ClockSegment(0, start_s, 1), ClockSegment(half_s, start_s + _HOUR_NS / _S, 1))
    late_half = [replace(a, stamp_ns=a.stamp_ns + _HOUR_NS - round(half_s * _S)) for a in regular if a.at_s >= half_s]
    jumping = [*regular[: len(regular) // 2], *late_half]
    jittered = _jittered(regular)
    return [
        Scenario("pause", "sweeps and /clock pause for 2 s", _paused(regular), sim_time=True, clock=paused),
        Scenario("slow_motion", "a tenth of real time", slow, sim_time=True, clock=(ClockSegment(0, start_s, 0.1),)),
        Scenario("fast_motion", "ten times real time", fast, sim_time=True, clock=(ClockSegment(0, start_s, 10),)),
        Scenario("loop", "stamps and /clock restart", _looped(regular), sim_time=True, clock=restarted),
        Scenario("clock_jumps", "stamps and /clock jump an hour ahead", jumping, sim_time=True, clock=ahead),
        Scenario("clock_stops", "/clock stops, sweeps continue", regular, sim_time=True, clock=stopped),
        Scenario("no_clock", "use_sim_time without /clock", regular, sim_time=True),
        Scenario("stamps_equal", "all stamps are equal", all_equal),
        Scenario("stamps_zero", "all stamps are zero", _shifted(all_equal, -_START_NS)),
        Scenario("stamps_ahead", "stamps are ten years ahead", _shifted(regular, 10 * 8_766 * _HOUR_NS)),
        Scenario(
            "stamps_jitter",
            f"stamps are up to 25 ms off, every {_OUT_OF_ORDER_EVERY}th is older than its predecessor",
            jittered,
            out_of_order=sum(b.stamp_ns < a.stamp_ns for a, b in itertools.pairwise(jittered)),
        ),
    ]


def _paused(sweeps: Sequence[ScheduledSweep]) -> list[ScheduledSweep]:
    """Sweeps with a pause of two seconds in the middle; stamps follow a clock that is stopped meanwhile."""
    half = len(sweeps) // 2
    return [*sweeps[:half], *(replace(a, at_s=a.at_s + 2) for a in sweeps[half:])]


def _looped(sweeps: Sequence[ScheduledSweep]) -> list[ScheduledSweep]:
    """Sweeps whose second half repeats the stamps of the first half."""
    half = len(sweeps) // 2
    pairs = zip(sweeps[half : 2 * half], sweeps[:half], strict=True)
    return [*sweeps[:half], *(replace(late, stamp_ns=early.stamp_ns) for late, early in pairs)]


def _jittered(sweeps: Sequence[ScheduledSweep]) -> list[ScheduledSweep]:
    offsets_ns = [
        -_OUT_OF_ORDER_NS if k % _OUT_OF_ORDER_EVERY == _OUT_OF_ORDER_EVERY - 1 else _JITTER_NS[k % len(_JITTER_NS)]
        for k in range(len(sweeps))
    ]
    return [replace(a, stamp_ns=a.stamp_ns + offset) for a, offset in zip(sweeps, offsets_ns, strict=True)]


def _shifted(sweeps: Sequence[ScheduledSweep], offset_ns: int) -> list[ScheduledSweep]:
    return [replace(a, stamp_ns=a.stamp_ns + offset_ns) for a in sweeps]
