"""Count of lost messages, with and without events of the middleware."""

from xmodelkd_ros.node import adaptive_subscription
from xmodelkd_ros.node.lost_messages import LostMessageCounter


def info(number, publisher=b"a"):
    return {"publication_sequence_number": number, "publisher_gid": {"data": publisher}}


def losses(*messages):
    lost = LostMessageCounter()
    return [lost.add_message(message) for message in messages]


def test_counts_gaps():
    assert losses(info(7), info(8), info(12), info(13)) == [0, 0, 3, 0]


def test_sequence_numbers_are_per_publisher():
    assert losses(info(1), info(90, b"b"), info(2), info(92, b"b"), info(5)) == [0, 0, 0, 1, 2]


def test_restarted_sequence_numbers_are_no_loss():
    assert losses(info(50), info(1), info(2)) == [0, 0, 0]


def test_stores_a_limited_number_of_publishers():
    lost = LostMessageCounter()
    for number in range(1000):
        lost.add_message(info(1, str(number).encode()))
    assert lost.add_message(info(4, b"999")) == 2
    assert len(lost._numbers) <= 64


def test_counts_loss_with_gap_and_event_once():
    lost = LostMessageCounter()
    assert [lost.add_message(info(1)), lost.add_event(3), lost.add_message(info(5))] == [0, 3, 0]
    assert [lost.add_message(info(8)), lost.add_event(2), lost.add_event(2)] == [2, 0, 2]


def test_adds_losses_of_different_publishers():
    """The last three of one publisher, which cause an event only, and then a gap of another."""
    lost = LostMessageCounter()
    counts = [
        lost.add_message(info(1)),
        lost.add_event(3),
        lost.add_message(info(1, b"b")),
        lost.add_message(info(5, b"b")),
    ]
    assert counts == [0, 3, 0, 3]


def test_counts_events_only_without_publisher_ids():
    lost = LostMessageCounter()
    assert [lost.add_message({"publication_sequence_number": 9}), lost.add_message({}), lost.add_event(1)] == [0, 0, 1]


def test_counts_and_reports_sweeps_lost_in_a_full_queue(bench, sweep, capfd):
    """The subscription drops them without an event."""
    bench.outcome(sweep(10, stamp=1.0))
    for k in range(12):
        bench.points.publish(sweep(10, stamp=2 + k / 10))

    def counts():
        values = bench.diagnostics[-1].values if bench.diagnostics else {}
        return int(values.get("received", 0)), int(values.get("dropped.lost_in_transport", 0))

    bench.wait(lambda: sum(counts()) == 13)
    assert counts() == (1 + adaptive_subscription.DEPTH, 12 - adaptive_subscription.DEPTH)
    assert "7 clouds were lost between publisher and node; give the publisher" in capfd.readouterr().err
