"""Sweeps that never got here are counted, whether the middleware says so or not."""

from rclpy.qos import QoSProfile

from xmodelkd_ros.node.lost_sweeps import LostSweeps


def info(number, publisher=b"a"):
    return {"publication_sequence_number": number, "publisher_gid": {"data": publisher}}


def taken(*messages):
    lost = LostSweeps()
    return [lost.received(message) for message in messages]


def test_gaps_are_counted():
    assert taken(info(7), info(8), info(12), info(13)) == [0, 0, 3, 0]


def test_each_publisher_has_its_own_numbers():
    assert taken(info(1), info(90, b"b"), info(2), info(92, b"b"), info(5)) == [0, 0, 0, 1, 2]


def test_numbers_that_start_again_are_no_loss():
    assert taken(info(50), info(1), info(2)) == [0, 0, 0]


def test_of_many_publishers_the_latest_are_remembered():
    lost = LostSweeps()
    for number in range(1000):
        lost.received(info(1, str(number).encode()))
    assert lost.received(info(4, b"999")) == 2
    assert len(lost._numbers) <= 64


def test_a_loss_that_is_an_event_too_counts_once():
    lost = LostSweeps()
    assert [lost.received(info(1)), lost.reported(3), lost.received(info(5))] == [0, 3, 0]
    assert [lost.received(info(8)), lost.reported(2), lost.reported(2)] == [2, 0, 2]


def test_where_nobody_says_who_published_events_count():
    lost = LostSweeps()
    assert [lost.received({"publication_sequence_number": 9}), lost.received({}), lost.reported(1)] == [0, 0, 1]


def test_sweeps_that_a_full_queue_lost_are_counted(bench, sweep):
    """The subscription keeps five, and tells nobody of the others."""
    bench.outcome(sweep(10, stamp=1.0))
    for k in range(12):
        bench.points.publish(sweep(10, stamp=2 + k / 10))
    bench.wait(lambda: any("dropped.lost_in_transport" in d.values for d in bench.diagnostics))
    values = bench.diagnostics[-1].values
    assert int(values["received"]) + int(values["dropped.lost_in_transport"]) == 13
    assert QoSProfile(depth=5).depth == 5 and int(values["received"]) == 6
