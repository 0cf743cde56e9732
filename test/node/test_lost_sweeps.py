"""Sweeps that never got here are counted, whether the middleware says so or not."""

from xmodelkd_ros.node import cloud_subscription as sweep_input
from xmodelkd_ros.node.lost_sweeps import LostSweepCounter


def info(number, publisher=b"a"):
    return {"publication_sequence_number": number, "publisher_gid": {"data": publisher}}


def taken(*messages):
    lost = LostSweepCounter()
    return [lost.add_message(message) for message in messages]


def test_gaps_are_counted():
    assert taken(info(7), info(8), info(12), info(13)) == [0, 0, 3, 0]


def test_each_publisher_has_its_own_numbers():
    assert taken(info(1), info(90, b"b"), info(2), info(92, b"b"), info(5)) == [0, 0, 0, 1, 2]


def test_numbers_that_start_again_are_no_loss():
    assert taken(info(50), info(1), info(2)) == [0, 0, 0]


def test_of_many_publishers_the_latest_are_remembered():
    lost = LostSweepCounter()
    for number in range(1000):
        lost.add_message(info(1, str(number).encode()))
    assert lost.add_message(info(4, b"999")) == 2
    assert len(lost._numbers) <= 64


def test_a_loss_that_is_an_event_too_counts_once():
    lost = LostSweepCounter()
    assert [lost.add_message(info(1)), lost.add_event(3), lost.add_message(info(5))] == [0, 3, 0]
    assert [lost.add_message(info(8)), lost.add_event(2), lost.add_event(2)] == [2, 0, 2]


def test_losses_of_two_kinds_are_added():
    """The last three of one publisher, of which only an event tells, and then a gap of another."""
    lost = LostSweepCounter()
    told = [
        lost.add_message(info(1)),
        lost.add_event(3),
        lost.add_message(info(1, b"b")),
        lost.add_message(info(5, b"b")),
    ]
    assert told == [0, 3, 0, 3]


def test_where_nobody_says_who_published_events_count():
    lost = LostSweepCounter()
    assert [lost.add_message({"publication_sequence_number": 9}), lost.add_message({}), lost.add_event(1)] == [0, 0, 1]


def test_sweeps_that_a_full_queue_lost_are_counted_and_said(bench, sweep, capfd):
    """The subscription keeps a few, and tells nobody of the others."""
    bench.outcome(sweep(10, stamp=1.0))
    for k in range(12):
        bench.points.publish(sweep(10, stamp=2 + k / 10))

    def counts():
        values = bench.diagnostics[-1].values if bench.diagnostics else {}
        return int(values.get("received", 0)), int(values.get("dropped.lost_in_transport", 0))

    bench.wait(lambda: sum(counts()) == 13)
    assert counts() == (1 + sweep_input.DEPTH, 12 - sweep_input.DEPTH)
    assert "7 clouds were lost between publisher and node; give the publisher" in capfd.readouterr().err
