"""``xmodelkd endurance`` over DDS, with small models, small clouds and few sweeps."""

import json
from dataclasses import replace

import pytest

from xmodelkd_ros.tools.cli import main
from xmodelkd_ros.tools.endurance import Endurance

pytest.importorskip("rclpy")

COUNTERS = {"received": 10000, "student": 10000}
PASSED = Endurance(
    mode="student",
    sweeps=10000,
    labels=10000,
    in_order=True,
    counters=COUNTERS,
    seconds=600.0,
    memory_slope=0.2,
    memory_mb=(240.0, 242.0),
    handles=(25, 25),
    threads=(23, 23),
    p50_ms=(60.0,) * 10,
    p99_ms=(90.0,) * 10,
)


def test_student_does_not_grow(height_model, tmp_path):
    options = ["--model", str(height_model), "--points", "3000", "--sweeps", "1500", "--out", str(tmp_path)]
    code = main(["endurance", *options])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["sweeps"] == metrics["labels"] == 1500 and metrics["in_order"]
    assert metrics["said"] == {"received": 1500, "student": 1500}
    assert metrics["memory_slope"] < 3.0  # MB per 1,000 sweeps; keeping every labelled cloud would take 72
    assert metrics["handles"][0] == metrics["handles"][1] and metrics["threads"][0] == metrics["threads"][1]
    assert code == (1 if metrics["broken"] else 0)
    assert all(failure.startswith("p99 ") for failure in metrics["broken"])  # other load on the machine causes it
    assert (tmp_path / "endurance.png").stat().st_size > 10_000


def test_teacher_labels_a_repeated_bag(write_test_drive, light_model, height_model, tmp_path):
    bag = write_test_drive(tmp_path / "drive", sweeps=5, cameras=("front", "rear"))
    models = ["--model", str(light_model), "--student", str(height_model), "--mode", "teacher"]
    main(["endurance", str(bag), *models, "--sweeps", "240", "--out", str(tmp_path / "out")])
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["sweeps"] == metrics["labels"] == 240 and metrics["in_order"]
    by_mode = {mode: count for mode, count in metrics["said"].items() if mode != "received"}
    # On a busy machine the node falls back to the student for a while.
    assert metrics["said"]["received"] == sum(by_mode.values()) == 240 and set(by_mode) <= {"teacher", "student"}
    assert by_mode["teacher"] > 5, "more than one pass"


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"labels": 9999}, "9999 labelled"),
        ({"labels": 10001}, "10001 labelled"),
        ({"in_order": False}, "labels out of order or duplicated"),
        ({"counters": {"received": 10000, "student": 9999, "teacher": 1}}, "counters of the node differ"),
        ({"counters": {**COUNTERS, "dropped.overload": 1}}, "counters of the node differ"),
        ({"memory_slope": 1.1}, "memory grows"),
        ({"handles": (25, 26)}, "handles grow"),
        ({"threads": (23, 24)}, "threads grow"),
        ({"p99_ms": (90.0,) * 5 + (140.0,) * 5}, "p99 grew from 90 to 140 ms"),
    ],
    ids=str,
)
def test_each_check_fails_alone(change, failure):
    assert PASSED.failures == []
    assert replace(PASSED, **change).failures == [failure]


def test_teacher_needs_a_bag_with_images(light_model, make_drive, tmp_path, capsys):
    options = ["--model", str(light_model), "--mode", "teacher", "--out", str(tmp_path)]
    assert main(["endurance", *options]) == 1
    assert capsys.readouterr().err == "error: a teacher needs images: give a bag with cameras\n"
    assert main(["endurance", str(make_drive(cameras=())), *options]) == 1
    assert "has no camera for a teacher; give a bag with images and CameraInfo" in capsys.readouterr().err


def test_rejects_too_few_sweeps(height_model, tmp_path, capsys):
    assert main(["endurance", "--model", str(height_model), "--sweeps", "5", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: --sweeps: give 20 or more; fewer are not conclusive\n"
