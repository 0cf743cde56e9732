"""Evaluation of published sweeps and received labels of a load scenario."""

from dataclasses import replace

import pytest

from xmodelkd_ros.harness.load_scenarios import scenarios
from xmodelkd_ros.harness.node_under_load import NodeReport
from xmodelkd_ros.harness.process_usage import ProcessUsage
from xmodelkd_ros.tools.load_outcome import Outcome, ScenarioRun, is_in_order, latencies_ms, newest_wins
from xmodelkd_ros.tools.load_report import _metrics

MS = 1_000_000
PASSED = Outcome(
    scenario="rate_40",
    node="segmenter",
    sweeps=10,
    rate=1.0,
    labelled=8,
    min_labelled=6,
    unlabelled={"dropped.overload": 2},
    out_of_order=0,
    in_order=True,
    latencies_ms=[60.0, 60.0, 60.0, 70.0, 90.0, 70.0],
    bound_ms=200.0,
    baseline_ms=None,
    memory_mb=250.0,
    memory_growth_mb=3.0,
)


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"labelled": 7}, "1 unaccounted for"),
        ({"labelled": 9}, "-1 unaccounted for"),
        ({"in_order": False}, "labels out of order or duplicated"),
        ({"min_labelled": 9}, "8 labelled instead of 9"),
        ({"unlabelled": {"dropped.overload": 1, "unlabelled.failed": 1}}, "unexpected reason: unlabelled.failed"),
        ({"unlabelled": {"dropped.out_of_order": 2}}, "2 dropped as out of order instead of 0"),
        ({"out_of_order": 1}, "0 dropped as out of order instead of 1"),
        ({"latencies_ms": [60.0] * 8 + [201.0]}, "latency above 200 ms"),
        ({"latencies_ms": [60.0] * 6 + [101.0] * 3}, "latency grew from 60 to 101 ms"),
        ({"memory_growth_mb": 9.0}, "memory grew by 9 MB"),
        ({"baseline_ms": 24.0}, "median was 24 ms without the subscriber"),
        ({"rate": 0.8}, "played at 80% of its rate"),
    ],
    ids=str,
)
def test_each_check_fails_alone(change, failure):
    assert PASSED.failures == []
    assert replace(PASSED, **change).failures == [failure]


@pytest.mark.parametrize(
    ("received", "in_order"),
    [([1, 2, 4], True), ([], True), ([2, 1], False), ([1, 1], False), ([1, 2, 3, 4, 5], False)],
)
def test_is_in_order(received, in_order):
    assert is_in_order([(k, 0) for k in (1, 2, 3, 4)], [(k, 0) for k in received]) is in_order


@pytest.mark.parametrize(
    ("at_s", "service_s", "labelled"),
    [
        ([0, 1, 2], 0.9, 3),
        ([0, 1, 2], 1.0, 3),  # each arrives when the previous one is finished
        ([0, 1, 2], 1.5, 3),  # at 1.5 the second is started, and the third waits
        ([0, 1, 2, 3], 2.5, 3),  # at 2.5 the third, which replaced the second, and then the fourth
        ([0, 0, 0, 0, 0], 0.1, 1),
        ([0, 0.02, 0.03, 0.04, 1, 1.005], 0.1, 3),  # the first and the newest
        ([0, 0.1, 0.2, 5.0], 1.0, 3),
        ([0, 1, 2, 3], 100.0, 2),
        ([], 1.0, 0),
    ],
)
def test_newest_wins(at_s, service_s, labelled):
    assert newest_wins(at_s, service_s) == labelled


def arrivals(stamps, *at_ms):
    return [((stamp, 5), at * MS) for stamp, at in zip(stamps, at_ms, strict=True)]


def test_latencies_with_distinct_stamps():
    assert latencies_ms(arrivals([1, 2, 3], 0, 10, 20), arrivals([1, 3], 4, 25)) == [4, 5]


def test_latencies_with_equal_stamps():
    sent = arrivals([1, 2, 1, 2], 0, 10, 20, 30)
    assert latencies_ms(sent, arrivals([1, 2, 1, 2], 3, 14, 25, 36)) == [3, 4, 5, 6]
    # One of the two sweeps with stamp 1 is lost, and it is unknown which.
    assert latencies_ms(sent, arrivals([1, 2, 2], 3, 14, 36)) == [4, 6]


def test_outcome_matches_sweeps_and_labels():
    usage = [ProcessUsage(megabytes, 20, 20) for megabytes in (100, 200, 201, 202, 205, 206)]
    diagnostics = {
        "received": "10", "published": "9", "published.student": "9", "dropped.overload": "1", "infer_ms.p99": "9",
    }  # fmt: skip
    labelled = {"mode": "student", "latency_ms": "300.0", "infer_ms": "100.0", "decode_ms": "20.0"}
    report = NodeReport.from_values(diagnostics, [labelled] * 9 + [{"detail": "a newer sweep came"}])
    assert report == NodeReport(10, {"student": 9}, {"dropped.overload": 1}, [120.0] * 9)
    run = ScenarioRun(
        scenario=next(s for s in scenarios(5, 1.0) if s.name == "dead_subscriber"),
        node="segmenter",
        sent=arrivals(range(10), *(k * 100 for k in range(10))),
        received=arrivals(range(1, 10), *(k * 100 + 30 + k for k in range(1, 10))),
        report=report,
        usage=usage,
        baseline_ms=20.0,
    )
    outcome = run.outcome()
    # 120 ms per sweep and ten sweeps in 900 ms: seven are finished at 840 ms, one is processed, the last one waits.
    assert (outcome.sweeps, outcome.labelled, outcome.min_labelled, outcome.unaccounted) == (10, 9, 9, 0)
    assert (outcome.p50_ms, outcome.worst_ms, outcome.bound_ms, outcome.thirds_ms) == (35, 39, 340, (32, 38))
    assert (outcome.baseline_ms, outcome.memory_mb, outcome.memory_growth_mb) == (20.0, 206, 4)
    assert outcome.rate == pytest.approx(1.0) and outcome.in_order and outcome.failures == []


def test_metrics_keep_their_keys():
    assert list(_metrics(PASSED)) == [
        *("scenario", "node", "sweeps", "rate", "labelled", "promised", "said", "out_of_order", "in_order"),
        *("latencies_ms", "bound_ms", "alone_ms", "memory_mb", "memory_growth_mb"),
        *("p50_ms", "worst_ms", "thirds_ms", "unaccounted", "broken"),
    ]
