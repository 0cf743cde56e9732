import numpy as np
import pytest

from xmodelkd_ros.node.teacher_pace import TeacherPace


def run(period_s, durations_s):
    """Pace of a teacher with the given durations at a constant sweep rate, and its results."""
    pace, results = TeacherPace(), []
    for number, duration_s in enumerate(durations_s):
        pace.add_arrival(number * period_s)
        results.append(pace.add_duration(duration_s, number * period_s + duration_s))
    return pace, results


def test_teacher_that_keeps_up_does_not_rest():
    pace, results = run(0.1, [0.089] * 100)
    assert not any(results) and not pace.is_resting(11.0)


def test_slow_teacher_rests_for_ten_seconds():
    pace, results = run(0.1, [0.095] * 20)
    assert results == [False] * 19 + [True]
    since = 19 * 0.1 + 0.095
    assert pace.is_resting(since) and pace.is_resting(since + 9.99) and not pace.is_resting(since + 10)
    assert not any(pace.add_duration(0.25, since + 11 + n) for n in range(19)), "earlier durations no longer count"


@pytest.mark.parametrize(("slow", "expected"), [(1, False), (4, True)])
def test_few_slow_sweeps_do_not_count(slow, expected):
    seconds = [0.02] * (20 - slow) + [0.29] * slow
    assert any(run(0.1, seconds)[1]) == expected


def test_rest_doubles_while_the_teacher_is_far_too_slow():
    pace, now_s, rests = TeacherPace(), 0.0, []
    for number in range(30):
        pace.add_arrival(number * 0.1)
    for _ in range(8):
        assert pace.add_duration(0.31, now_s)
        rests.append(next(s for s in range(400) if not pace.is_resting(now_s + s)))
        now_s += rests[-1]
    assert rests == [10, 20, 40, 80, 160, 300, 300, 300]
    assert not any(pace.add_duration(0.05, now_s) for _ in range(20))
    pace.add_duration(0.31, now_s)
    assert not pace.is_resting(now_s + 10), "the rest is reset after keeping up"


def test_does_not_rest_before_the_period_is_known():
    pace = TeacherPace()
    assert pace.period_s == np.inf
    assert not any(pace.add_duration(5.0, 0.0) for _ in range(30))


def test_period_is_that_of_the_last_sweeps():
    pace = TeacherPace()
    for time in [*np.arange(0, 3, 0.1), *np.arange(3, 6, 0.05)]:
        pace.add_arrival(time)
    assert pace.period_s == pytest.approx(0.05)


def test_rests_after_one_dropped_sweep():
    pace, _ = run(0.1, [0.05] * 5)
    pace.rest(1.0)
    assert pace.is_resting(1.0) and pace.is_resting(10.9) and not pace.is_resting(11.0)
