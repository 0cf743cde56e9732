"""What is made of sweeps that went and labels that came, and which promise that breaks."""

from dataclasses import replace

import pytest

from xmodelkd_ros.harness.load_scenarios import scenarios
from xmodelkd_ros.harness.node_under_load import NodeReport
from xmodelkd_ros.harness.process_usage import ProcessUsage
from xmodelkd_ros.tools.load_outcome import Outcome, is_in_order, latencies_ms, newest_wins, outcome

MS = 1_000_000
GOOD = Outcome(
    "rate_40", "segmenter", 10, 1.0, 8, 6, {"dropped.overload": 2}, 0, True,
    [60.0, 60.0, 60.0, 70.0, 90.0, 70.0], 200.0, None, 250.0, 3.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labelled": 7}, "1 unaccounted for"),
        ({"labelled": 9}, "-1 unaccounted for"),
        ({"in_order": False}, "labels out of order or twice"),
        ({"promised": 9}, "labelled 8, not 9"),
        ({"said": {"dropped.overload": 1, "unlabelled.failed": 1}}, "not labelled for unlabelled.failed"),
        ({"said": {"dropped.out_of_order": 2}}, "2 refused as out of order, not 0"),
        ({"out_of_order": 1}, "0 refused as out of order, not 1"),
        ({"latencies_ms": [60.0] * 8 + [201.0]}, "labels after more than 200 ms"),
        ({"latencies_ms": [60.0] * 6 + [101.0] * 3}, "from 60 to 101 ms"),
        ({"memory_growth_mb": 9.0}, "memory grew by 9 MB"),
        ({"alone_ms": 24.0}, "24 ms alone"),
        ({"rate": 0.8}, "played at 80% of its rate"),
    ],
    ids=str,
)
def test_what_breaks_the_promise(change, said):
    assert GOOD.broken == []
    assert replace(GOOD, **change).broken == [said]


@pytest.mark.parametrize(
    ("came", "in_order"),
    [([1, 2, 4], True), ([], True), ([2, 1], False), ([1, 1], False), ([1, 2, 3, 4, 5], False)],
)
def test_order(came, in_order):
    assert is_in_order([(k, 0) for k in (1, 2, 3, 4)], [(k, 0) for k in came]) is in_order


@pytest.mark.parametrize(
    ("at_s", "service_s", "labelled"),
    [
        ([0, 1, 2], 0.9, 3),
        ([0, 1, 2], 1.0, 3),  # the next one comes when the one before is done
        ([0, 1, 2], 1.5, 3),  # at 1.5 the second is begun, and the third waits
        ([0, 1, 2, 3], 2.5, 3),  # at 2.5 the third, which has replaced the second, and then the fourth
        ([0, 0, 0, 0, 0], 0.1, 1),
        ([0, 0.02, 0.03, 0.04, 1, 1.005], 0.1, 3),  # the first, and the newest
        ([0, 0.1, 0.2, 5.0], 1.0, 3),
        ([0, 1, 2, 3], 100.0, 2),
        ([], 1.0, 0),
    ],
)
def test_the_newest_wins(at_s, service_s, labelled):
    assert newest_wins(at_s, service_s) == labelled


def arrivals(stamps, *at_ms):
    return [((stamp, 5), at * MS) for stamp, at in zip(stamps, at_ms, strict=True)]


def test_latencies_of_sweeps_that_stamps_tell_apart():
    assert latencies_ms(arrivals([1, 2, 3], 0, 10, 20), arrivals([1, 3], 4, 25)) == [4, 5]


def test_latencies_of_sweeps_that_share_a_stamp():
    went = arrivals([1, 2, 1, 2], 0, 10, 20, 30)
    assert latencies_ms(went, arrivals([1, 2, 1, 2], 3, 14, 25, 36)) == [3, 4, 5, 6]
    assert latencies_ms(went, arrivals([1, 2, 2], 3, 14, 36)) == [
        4,
        6,
    ]  # of the first two one is lost, and who knows which


def test_what_went_and_came_is_joined():
    scenario = next(s for s in scenarios(5, 1.0) if s.name == "dead_subscriber")
    went = arrivals(range(10), *(k * 100 for k in range(10)))
    came = arrivals(range(1, 10), *(k * 100 + 30 + k for k in range(1, 10)))
    uses = [ProcessUsage(megabytes, 20, 20) for megabytes in (100, 200, 201, 202, 205, 206)]
    said = {"received": "10", "published": "9", "published.student": "9", "dropped.overload": "1", "infer_ms.p99": "9"}
    labelled = {"mode": "student", "latency_ms": "300.0", "infer_ms": "100.0", "decode_ms": "20.0"}
    report = NodeReport.from_values(said, [labelled] * 9 + [{"detail": "a newer sweep came"}])
    assert report == NodeReport(10, {"student": 9}, {"dropped.overload": 1}, [120.0] * 9)
    found = outcome(scenario, "segmenter", went, came, report, uses, alone_ms=20.0)
    # One at a time of 120 ms, ten in 900 ms: seven are done and one is at work at 840, and the last waits.
    assert (found.sweeps, found.labelled, found.promised, found.unaccounted) == (10, 9, 9, 0)
    assert (found.p50_ms, found.worst_ms, found.bound_ms, found.thirds_ms) == (35, 39, 340, (32, 38))
    assert (found.alone_ms, found.memory_mb, found.memory_growth_mb) == (20.0, 206, 4)
    assert found.rate == pytest.approx(1.0) and found.in_order and found.broken == []
