"""``xmodelkd faults`` with short faults: every sweep is labelled in the expected mode."""

import json
from dataclasses import replace
from importlib.util import find_spec

import pytest

from xmodelkd_ros.harness.fault_schedule import FAULTS, FaultWindow, fault_schedule
from xmodelkd_ros.tools.cli import main
from xmodelkd_ros.tools.faults import DriveOutcome, FaultOutcome, _metrics, _Traffic, as_table

pytest.importorskip("rclpy")

HAS_TF2 = find_spec("tf2_ros") is not None
INJECTED = [fault for fault in FAULTS if HAS_TF2 or not fault.needs_tf]


@pytest.fixture(scope="module")
def run(tmp_path_factory, light_model, height_model, write_test_drive):
    """Exit code, outcomes by fault and table of a run with all faults and small models."""
    folder = tmp_path_factory.mktemp("faults")
    bag = write_test_drive(folder / "drive", sweeps=5, cameras=("front", "rear"), speed=8.0)
    models = ["--model", str(light_model), "--student", str(height_model)]
    timing = ["--fault-seconds", "2.6", "--rest-seconds", "0.8", "--rate", "1.6"]
    code = main(["faults", str(bag), *models, *timing, "--out", str(folder / "out")])
    outcomes = json.loads((folder / "out" / "metrics.json").read_text())["faults"]
    return code, {outcome["fault"]: outcome for outcome in outcomes}, (folder / "out" / "faults.md").read_text()


@pytest.mark.parametrize("fault", INJECTED, ids=lambda fault: fault.name)
def test_every_sweep_is_labelled_in_the_expected_mode(run, fault):
    outcome = run[1][fault.name]
    assert outcome["sweeps_in"] == outcome["sweeps_out"] > 10
    assert fault.expected in (outcome["seen"], "either")
    assert outcome["recovery_s"] is not None


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("camera_stops", "labelling sweeps without cameras front: no image"),
        ("cameras_stop", "labelling sweeps without cameras front, rear: no image"),
        ("images_frozen", "labelling sweeps without cameras front, rear: its images are bit-identical"),
        ("images_corrupt", "bytes, but"),
        ("images_resized", "is 320x80, but the camera is calibrated for 320x160"),
        ("calibration_zero", "is not calibrated"),
    ],
)
def test_diagnostics_name_the_fault(run, fault, message):
    # An image that is late once on a busy machine adds a message of its own.
    assert any(message in text for text in run[1][fault]["diagnostics"])


def test_teacher_continues_with_the_remaining_cameras(run):
    assert run[1]["camera_stops"]["cameras"] == 1
    assert run[1]["cameras_swapped"]["cameras"] == 2


def test_exit_code_and_table_agree_with_the_outcomes(run):
    code, outcomes, table = run
    assert code == 0
    assert len(table.splitlines()) == 2 + len(INJECTED) + 2 and len(outcomes) == len(INJECTED)


@pytest.mark.skipif(not HAS_TF2, reason="tf2_ros is not installed")
def test_diagnostics_name_the_missing_transform(run):
    diagnostics = run[1]["transforms_stop"]["diagnostics"]
    assert any("no transform of 'lidar' in fixed_frame 'odom'" in text for text in diagnostics)


@pytest.mark.skipif(HAS_TF2, reason="tf2_ros is installed")
def test_faults_of_tf_need_tf2(drive, light_model, tmp_path, capsys):
    options = ["--model", str(light_model), "--faults", "transforms_stop", "--out", str(tmp_path)]
    assert main(["faults", str(drive.path), *options]) == 1
    assert "error: cannot inject faults of TF: tf2_ros is not installed; leave them out" in capsys.readouterr().err


PASSED = FaultOutcome(
    fault="cameras_stop",
    expected="student",
    observed="student",
    cameras=0,
    sweeps_in=20,
    sweeps_out=20,
    worst_ms=50.0,
    diagnostics=(),
    recovery_s=0.1,
)


def test_missing_labels_wrong_mode_and_no_recovery_fail():
    assert PASSED.passed
    either = replace(PASSED, expected="either")
    assert either.passed and not replace(either, observed="none").passed
    for change in (
        {"sweeps_out": 19},
        {"observed": "teacher"},
        {"recovery_s": None},
        {"sweeps_in": 0, "sweeps_out": 0},
    ):
        assert not replace(PASSED, **change).passed
    assert "| never |" in as_table([replace(PASSED, recovery_s=None)])


def test_metrics_keep_their_keys():
    assert list(_metrics(PASSED)) == [
        *("fault", "expected", "seen", "cameras", "sweeps_in", "sweeps_out", "worst_ms", "diagnostics", "recovery_s"),
    ]
    assert list(_metrics(DriveOutcome(11, 11, 0, True))) == ["sweeps_in", "sweeps_out", "twice", "in_order"]


def traffic(**changes):
    """Faults from 2 s to 4 s and from 6 s to 8 s; one sweep per second, the last three labelled by the teacher."""
    sent = {(stamp, 5): stamp * 10**9 for stamp in range(11)}
    status = {stamp: ("teacher", 2) if stamp in (8, 9, 10) else ("student", 0) for stamp in range(11)}
    windows = {"cameras_stop": (2 * 10**9, 4 * 10**9), "images_late": (6 * 10**9, 8 * 10**9)}
    values = {"received": dict(sent), "outputs": list(sent), **changes}
    return _Traffic(sent, values["received"], values["outputs"], status, [], windows)


def test_recovery_after_the_next_fault_does_not_count():
    outcomes = [traffic().fault_outcome(fault, 2) for fault in FAULTS if fault.name in ("cameras_stop", "images_late")]
    assert [outcome.recovery_s for outcome in outcomes] == [None, 0.0]
    assert [outcome.passed for outcome in outcomes] == [False, True]


def test_duplicated_and_unordered_labels_fail():
    keys = [(stamp, 5) for stamp in range(11)]
    whole = traffic().drive_outcome()
    assert whole == DriveOutcome(11, 11, 0, True) and whole.passed
    failed = {
        DriveOutcome(11, 9, 0, True): keys[:4] + keys[6:],
        DriveOutcome(11, 11, 1, True): [*keys, keys[3]],
        DriveOutcome(11, 11, 0, False): [keys[1], keys[0], *keys[2:]],
    }
    for expected, outputs in failed.items():
        assert traffic(outputs=outputs).drive_outcome() == expected and not expected.passed
    line = DriveOutcome(11, 11, 1, False).line()
    assert line == "Whole drive: 11 sweeps in, 11 out, 1 DUPLICATES, OUT OF ORDER.\n"


def test_schedule_has_rests_between_faults():
    assert fault_schedule(["a", "b"], 3.0, 2.0, 1.0) == [FaultWindow("a", 3.0, 5.0), FaultWindow("b", 6.0, 8.0)]


def test_rejects_unknown_fault(drive, light_model, tmp_path, capsys):
    options = ["--model", str(light_model), "--faults", "flood", "--out", str(tmp_path)]
    assert main(["faults", str(drive.path), *options]) == 1
    assert "unknown fault flood; choose from camera_stops, " in capsys.readouterr().err


def test_rejects_bag_without_cameras(make_drive, light_model, tmp_path, capsys):
    bag = make_drive(cameras=())
    assert main(["faults", str(bag), "--model", str(light_model), "--out", str(tmp_path)]) == 1
    assert "has no camera; give a bag with images, CameraInfo and /tf_static" in capsys.readouterr().err


def test_rejects_student_before_starting_a_node(drive, height_model, tmp_path, capsys):
    assert main(["faults", str(drive.path), "--model", str(height_model), "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (
        "",
        f"error: --model {height_model} names a student; give a teacher, such as --model teacher\n",
    )
    assert not (tmp_path / "out").exists()
