import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.node.diagnostics import ERROR, OK, WARN, LabelledSweep, Report, SweepStatistics, Throttle, to_array
from xmodelkd_ros.segmentation.pipeline import Result


def labelled(infer_ms=10.0, mode="student", used=(), missing=None):
    result = Result(Segmentation.unlabelled(3), mode, {}, 1)
    return LabelledSweep(result, 3, "complete", used, missing or {}, {"infer": infer_ms})


def add_sweeps_at_10_hz(statistics, count=20, start=100.0):
    for i in range(count):
        statistics.received(start + i / 10)
        statistics.published(20.0 + i, labelled())
    return start + (count - 1) / 10


def test_report_before_the_first_sweep():
    report = SweepStatistics().report(5.0)
    assert (report.level, report.message) == (WARN, "no sweep has arrived yet")
    assert report.values["received"] == "0"


def test_rate_age_and_percentiles():
    statistics = SweepStatistics()
    report = statistics.report(add_sweeps_at_10_hz(statistics) + 0.03)
    assert report.level == OK
    assert report.values["input_rate_hz"] == "10.00"
    assert report.values["input_age_s"] == "0.030"
    assert report.values["received"] == report.values["published"] == "20"
    assert report.values["latency_ms.p50"] == "29.50"
    assert 38 < float(report.values["latency_ms.p99"]) <= 39
    assert report.values["infer_ms.p50"] == "10.00"


def test_statistics_cover_the_last_sweeps_only():
    statistics = SweepStatistics()
    add_sweeps_at_10_hz(statistics, start=0.0)
    for i in range(200):
        statistics.received(50 + i / 20)
        statistics.published(5.0, labelled(2.0))
    report = statistics.report(60.0)
    assert report.values["input_rate_hz"] == "20.00"
    assert report.values["latency_ms.p99"] == "5.00"
    assert report.values["received"] == "220"


def test_stopped_input_is_an_error():
    statistics = SweepStatistics()
    last = add_sweeps_at_10_hz(statistics)
    assert statistics.report(last + 0.45).level == OK
    report = statistics.report(last + 0.6)
    assert (report.level, report.message) == (ERROR, "stale: no sweep for 0.6 s")
    assert report.values["input_rate_hz"] == "0.00"


def test_slow_replay_is_not_stale():
    statistics = SweepStatistics()
    for i in range(5):
        statistics.received(i * 1.0)
    assert statistics.report(7.0).level == OK
    assert statistics.report(9.5).level == ERROR


def test_single_sweep_becomes_stale():
    statistics = SweepStatistics()
    statistics.received(0.0)
    assert statistics.report(0.9).level == OK
    assert statistics.report(1.1).level == ERROR


def test_drops_warn_once_and_stay_counted():
    statistics = SweepStatistics()
    last = add_sweeps_at_10_hz(statistics)
    statistics.problem("dropped", "overload")
    statistics.problem("dropped", "overload")
    statistics.problem("dropped", "bad_cloud", "no field x")
    report = statistics.report(last)
    assert (report.level, report.message) == (WARN, "sweeps without labels: 1 dropped.bad_cloud, 2 dropped.overload")
    report = statistics.report(last)
    assert report.level == OK
    assert (report.values["dropped.overload"], report.values["dropped.bad_cloud"]) == ("2", "1")
    assert report.values["last_problem"] == "no field x"


def test_no_labelled_sweep_is_an_error():
    statistics = SweepStatistics()
    statistics.received(1.0)
    statistics.problem("dropped", "bad_cloud", "no field x")
    report = statistics.report(1.1)
    assert (report.level, report.message) == (ERROR, "no sweep is labelled: 1 dropped.bad_cloud: no field x")


def test_throttle_passes_one_line_of_a_kind_per_interval():
    throttle = Throttle(interval_s=5.0)
    assert throttle.due("a", 0.0) == 0
    assert throttle.due("b", 0.1) == 0
    assert [throttle.due("a", t) for t in (1.0, 4.9)] == [None, None]
    assert throttle.due("a", 5.0) == 2
    assert throttle.due("a", 10.0) == 0


@pytest.mark.parametrize(
    ("level", "number"), [(OK, DiagnosticStatus.OK), (WARN, DiagnosticStatus.WARN), (ERROR, DiagnosticStatus.ERROR)]
)
def test_converts_report_to_message(level, number):
    array = to_array(Report(level, "text", {"key": "value"}), Time(sec=3), "node: part", "lidar")
    assert array.header.stamp.sec == 3
    (status,) = array.status
    assert (status.level, status.name, status.message, status.hardware_id) == (number, "node: part", "text", "lidar")
    assert [(pair.key, pair.value) for pair in status.values] == [("key", "value")]


def test_report_names_missing_cameras_until_they_return():
    statistics = SweepStatistics()
    statistics.received(1.0)
    statistics.published(5.0, labelled(mode="teacher", used=["left"], missing={"front": "no image"}))
    report = statistics.report(1.01)
    assert (report.level, report.message) == (WARN, "labelling sweeps without cameras front: no image")
    assert (report.values["front.missing"], report.values["published.teacher"]) == ("1", "1")
    statistics.published(5.0, labelled(mode="teacher", used=["front", "left"]))
    assert statistics.report(1.02).level == OK


def test_status_of_a_sweep_names_its_cameras():
    status = labelled(mode="teacher", used=["front", "left"], missing={"rear": "no CameraInfo on /rear/info"}).report(7)
    assert (status.level, status.message) == (WARN, "labelled")
    assert (status.values["mode"], status.values["cameras"], status.values["release_reason"]) == (
        "teacher",
        "front,left",
        "complete",
    )
    assert status.values["rear.missing"] == "no CameraInfo on /rear/info"
    assert (status.values["points_invalid"], status.values["latency_ms"]) == ("1", "7.00")
    assert "release_reason" not in labelled().report(7).values


@pytest.mark.parametrize(("age_s", "level"), [(0.12, OK), (-0.04, OK), (-0.5, WARN)])
def test_stamps_ahead_of_the_clock_warn(age_s, level):
    statistics = SweepStatistics()
    statistics.received(1.0, age_s)
    statistics.published(5.0, labelled())
    report = statistics.report(1.01)
    assert (report.level, report.values["stamp_age_s"]) == (level, f"{age_s:.3f}")
    if level == WARN:
        assert report.message.startswith("sweeps are stamped 0.50 s ahead of this node's time; synchronise the clocks")
