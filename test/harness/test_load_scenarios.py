"""Rates, sizes, stamps and clocks of the load scenarios."""

from itertools import pairwise

import pytest

from xmodelkd_ros.harness.load_scenarios import scenarios

S = 1_000_000_000
BY_NAME = {scenario.name: scenario for scenario in scenarios(100, 5.0)}


def stamps(name):
    return [sweep.stamp_ns for sweep in BY_NAME[name].sweeps]


def test_rates_and_sizes():
    assert len(BY_NAME["rate_40"].sweeps) == 200
    assert BY_NAME["overload"].sweeps[-1].at_s == pytest.approx(30 - 1 / 40)
    assert {sweep.points for sweep in BY_NAME["sizes_change"].sweeps} == {0, 1, 100, 200}
    assert [sweep.at_s for sweep in BY_NAME["bursts"].sweeps[:6]] == [0, 0, 0, 0, 0, 0.5]
    assert all(b.at_s >= a.at_s for s in BY_NAME.values() for a, b in pairwise(s.sweeps))


def test_clocks():
    pause, at_s = BY_NAME["pause"], [sweep.at_s for sweep in BY_NAME["pause"].sweeps]
    gap = max(range(49), key=lambda k: at_s[k + 1] - at_s[k])
    assert at_s[gap + 1] - at_s[gap] == pytest.approx(2.1)
    assert stamps("pause")[gap + 1] - stamps("pause")[gap] == S // 10
    assert [segment.rate for segment in pause.clock] == [1, 0, 1] and pause.clock[1].clock_s == pause.clock[2].clock_s
    assert [BY_NAME[name].clock[0].rate for name in ("slow_motion", "fast_motion")] == [0.1, 10]
    for scenario in BY_NAME.values():  # /clock equals the stamp of a sweep when it is published
        segments = scenario.clock
        for sweep in scenario.sweeps if segments and scenario.name != "clock_stops" else ():
            segment = [segment for segment in segments if segment.at_s <= sweep.at_s + 1e-9][-1]
            assert segment.clock_s + (sweep.at_s - segment.at_s) * segment.rate == pytest.approx(
                sweep.stamp_ns / S, abs=1e-3
            )


def test_stamps():
    assert stamps("loop")[:25] == stamps("loop")[25:]
    assert set(stamps("stamps_zero")) == {0} and len(set(stamps("stamps_equal"))) == 1
    assert stamps("stamps_ahead")[0] - stamps("rate_10")[0] == pytest.approx(10 * 365.25 * 86400 * S)
    ahead = [b - a for a, b in pairwise(stamps("clock_jumps"))]
    assert sorted(ahead)[-2:] == [S // 10, 3600 * S - 24 * S // 10]
    assert BY_NAME["stamps_jitter"].out_of_order == sum(b < a for a, b in pairwise(stamps("stamps_jitter"))) == 5
    assert len({b - a for a, b in pairwise(stamps("stamps_jitter"))}) > 4
