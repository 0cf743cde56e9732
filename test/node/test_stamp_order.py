import pytest

from xmodelkd_ros.node.stamp_order import StampOrder

S = 1_000_000_000


@pytest.mark.parametrize(
    ("stamps", "accepted"),
    [
        ([0, 0, 0], [0, 0, 0]),  # drivers that leave stamps at zero
        ([5 * S, 6 * S, 6 * S], [5 * S, 6 * S, 6 * S]),
        ([5 * S, 5 * S - 1, 5 * S + 1], [5 * S, 5 * S + 1]),  # late
        ([5 * S, 4 * S, 5 * S + 1], [5 * S, 5 * S + 1]),  # late by just a second
        ([5 * S, 4 * S - 1, 4 * S], [5 * S, 4 * S - 1, 4 * S]),  # the clock jumped back
        ([5 * S, 3 * S, 4 * S, 5 * S], [5 * S, 3 * S, 4 * S, 5 * S]),  # a bag that loops
        ([9, 1, 2, 3, 4], [9, 3, 4]),  # shorter than a second, or a clock that was set back a little
        ([9, 1, 2, 10, 3, 4, 11], [9, 10, 11]),  # late sweeps among others
        ([9, 3, 2, 1, 4, 5], [9, 5]),  # unordered
    ],
)
def test_refuses_late_sweeps_and_accepts_clock_jumps(stamps, accepted):
    order = StampOrder()
    assert [stamp for stamp in stamps if order.accept(stamp)] == accepted
