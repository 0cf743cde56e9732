import numpy as np
import pytest

from xmodelkd_ros.node.teacher_pace import TeacherPace


def paced(period_s, seconds):
    """A teacher that took so many seconds for each sweep of a steady LiDAR, and what it was told."""
    pace, told = TeacherPace(), []
    for number, took in enumerate(seconds):
        pace.add_arrival(number * period_s)
        told.append(pace.add_duration(took, number * period_s + took))
    return pace, told


def test_a_teacher_that_keeps_up_works_on():
    pace, told = paced(0.1, [0.089] * 100)
    assert not any(told) and not pace.is_resting(11.0)


def test_one_that_does_not_rests_for_ten_seconds_and_is_tried_again():
    pace, told = paced(0.1, [0.095] * 20)
    assert told == [False] * 19 + [True]
    since = 19 * 0.1 + 0.095
    assert pace.is_resting(since) and pace.is_resting(since + 9.99) and not pace.is_resting(since + 10)
    assert not any(pace.add_duration(0.25, since + 11 + n) for n in range(19)), "it is judged by its new sweeps alone"


@pytest.mark.parametrize(("slow", "rests"), [(1, False), (4, True)])
def test_single_slow_sweeps_do_not_count(slow, rests):
    seconds = [0.02] * (20 - slow) + [0.29] * slow
    assert any(paced(0.1, seconds)[1]) == rests


def test_one_that_can_never_keep_up_is_tried_ever_more_rarely():
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
    assert not pace.is_resting(now_s + 10), "it kept up in between"


def test_nothing_is_judged_before_the_period_is_known():
    pace = TeacherPace()
    assert pace.period_s == np.inf
    assert not any(pace.add_duration(5.0, 0.0) for _ in range(30))


def test_the_period_is_that_of_the_sweeps_that_came_last():
    pace = TeacherPace()
    for time in [*np.arange(0, 3, 0.1), *np.arange(3, 6, 0.05)]:
        pace.add_arrival(time)
    assert pace.period_s == pytest.approx(0.05)


def test_one_sweep_that_was_lost_is_enough():
    pace, _ = paced(0.1, [0.05] * 5)
    pace.rest(1.0)
    assert pace.is_resting(1.0) and pace.is_resting(10.9) and not pace.is_resting(11.0)
