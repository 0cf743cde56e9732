"""Sweeps that the model does not expect: a warning in the log, in ~/status and in /diagnostics, over real DDS."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Header

from test.ros import TYPES, random_points
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.training_statistics import TrainingStatistics
from xmodelkd_ros.messages.clouds import truth_to_msg


def message(stamp, xyz=1.0, intensity=1.0, points=2000):
    """A sweep with positions in other units, and intensity on another scale."""
    positions = (random_points(points) * xyz).astype(np.float32)
    values = np.random.default_rng(0).integers(0, 256, points).astype(np.float32) * np.float32(intensity)
    header = Header(frame_id="lidar")
    header.stamp.sec = stamp
    return truth_to_msg(PointCloud(positions, values), np.zeros(points, np.uint8), header, TYPES)


@pytest.fixture(scope="module")
def model(height_model, tmp_path_factory):
    """The height model, which has learnt a drive with a fuller range image."""
    folder = tmp_path_factory.mktemp("models") / "height"
    shutil.copytree(height_model, folder)
    fill = TrainingStatistics(9, {"fill": (0.9, 0.95, 0.99)}, "test")
    replace(ModelSpec.read(folder), statistics=fill).write(folder)
    return folder


def check(bench, capfd, kind, said):
    """The last sweep's status, the diagnostics and the log all name the finding."""
    status = bench.status[-1]
    assert (status.level, said in status.message) == (DiagnosticStatus.WARN, True), status.message
    assert status.message.startswith("labelled; ") and said in status.values[f"warning.{kind}"]
    bench.diagnostics.clear()
    bench.wait(lambda: len(bench.diagnostics) > 1, "diagnostics")
    diagnostics = bench.diagnostics[-1]
    assert diagnostics.level == DiagnosticStatus.WARN and said in diagnostics.message
    assert said in diagnostics.values[f"warning.{kind}"]
    log = [line for line in capfd.readouterr().err.splitlines() if said in line]
    assert len(log) == 1 and "[WARN]" in log[0], "throttled"


def send(bench, stamps, **options):
    for stamp in stamps:
        bench.outcome(message(stamp, **options))


def test_good_sweeps_are_ok(make_bench):
    bench = make_bench().start()
    send(bench, range(1, 6))
    assert {(status.level, status.message) for status in bench.status} == {(DiagnosticStatus.OK, "labelled")}
    bench.diagnostics.clear()
    bench.wait(lambda: bench.diagnostics, "diagnostics")
    assert bench.diagnostics[-1].level == DiagnosticStatus.OK


def test_each_kind_of_unexpected_input_is_said_everywhere(make_bench, capfd):
    bench = make_bench().start()
    capfd.readouterr()
    send(bench, range(1, 4), intensity=1 / 255)
    check(bench, capfd, "intensity", "a scale of 0 to 1, but model height expects 0 to 255")
    send(bench, range(4, 20))
    assert bench.status[-1].message == "labelled", "the scale is right again"
    for stamp, (xyz, said) in enumerate(
        [(1000, "millimetres?"), (np.nan, "NaN or infinite"), (0, "at the origin")], 20
    ):
        capfd.readouterr()
        send(bench, [stamp], xyz=xyz)
        status = bench.status[-1]
        assert (status.level, status.values["points_invalid"]) == (DiagnosticStatus.WARN, "2000")
        assert said in status.values["warning.no_usable_points"]


def test_reason_for_unusable_points_is_logged(make_bench, capfd):
    bench = make_bench().start()
    capfd.readouterr()
    send(bench, [1, 2], xyz=1000)
    check(bench, capfd, "no_usable_points", "100% of the points have no usable position: median range")


def test_drive_unlike_the_training_data_is_said_with_the_numbers(make_bench, capfd, model):
    bench = make_bench(model=str(model)).start()
    capfd.readouterr()
    send(bench, range(1, 6))
    check(bench, capfd, "unlike_training", "fill of the range image")
    assert "learnt 0.90 to 0.99" in bench.status[-1].message


def test_cloud_without_intensity_that_is_filled_is_said(make_bench, sweep, capfd):
    bench = make_bench(missing_intensity="fill").start()
    capfd.readouterr()
    bench.outcome(sweep(1000, stamp=1.0, intensity=False))
    check(bench, capfd, "intensity", "intensity is 0 for all points, so it carries no information")
