"""Thousands of sweeps through a running node, in short: small models and clouds, real DDS."""

import json
from dataclasses import replace

import pytest

from xmodelkd_ros.tools.cli import main
from xmodelkd_ros.tools.endurance import Endurance

pytest.importorskip("rclpy")

SAID = {"received": 10000, "student": 10000}
STEADY = Endurance(
    "student", 10000, 10000, True, SAID, 600.0, 0.2, (240.0, 242.0), (25, 25), (23, 23), (60.0,) * 10, (90.0,) * 10
)


def test_nothing_grows_over_thousands_of_sweeps(height_model, tmp_path):
    options = ["--model", str(height_model), "--points", "3000", "--sweeps", "3000", "--out", str(tmp_path)]
    code = main(["endurance", *options])
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["sweeps"] == found["labels"] == 3000 and found["in_order"]
    assert found["said"] == {"received": 3000, "student": 3000}
    assert found["memory_slope"] < 1.0
    assert found["handles"][0] == found["handles"][1] and found["threads"][0] == found["threads"][1]
    assert code == (1 if found["broken"] else 0)
    assert all(what.startswith("p99 ") for what in found["broken"])  # which a busy machine spoils
    assert (tmp_path / "endurance.png").stat().st_size > 10_000


def test_a_teacher_sees_a_drive_that_never_ends(write_test_drive, light_model, height_model, tmp_path):
    bag = write_test_drive(tmp_path / "drive", sweeps=5, cameras=("front", "rear"))
    models = ["--model", str(light_model), "--student", str(height_model), "--mode", "teacher"]
    main(["endurance", str(bag), *models, "--sweeps", "150", "--out", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["sweeps"] == found["labels"] == 150 and found["in_order"]
    by_mode = {mode: count for mode, count in found["said"].items() if mode != "received"}
    # On a busy machine the teacher may rest for a while.
    assert found["said"]["received"] == sum(by_mode.values()) == 150 and set(by_mode) <= {"teacher", "student"}
    assert by_mode["teacher"] >= 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": 9999}, "9999 labelled"),
        ({"labels": 10001}, "10001 labelled"),
        ({"in_order": False}, "labels out of order or twice"),
        ({"said": {"received": 10000, "student": 9999, "teacher": 1}}, "the node says otherwise"),
        ({"said": {**SAID, "dropped.overload": 1}}, "the node says otherwise"),
        ({"memory_slope": 1.1}, "memory grows"),
        ({"handles": (25, 26)}, "handles grow"),
        ({"threads": (23, 24)}, "threads grow"),
        ({"p99_ms": (90.0,) * 5 + (140.0,) * 5}, "p99 from 90 to 140 ms"),
    ],
    ids=str,
)
def test_what_breaks_endurance(change, said):
    assert STEADY.broken == []
    assert replace(STEADY, **change).broken == [said]


def test_a_teacher_needs_a_bag_with_images(light_model, make_drive, tmp_path, capsys):
    options = ["--model", str(light_model), "--mode", "teacher", "--out", str(tmp_path)]
    assert main(["endurance", *options]) == 1
    assert capsys.readouterr().err == "error: a teacher needs images: give a bag that has them\n"
    assert main(["endurance", str(make_drive(cameras=())), *options]) == 1
    assert "has no camera that a teacher could look through; give another bag" in capsys.readouterr().err


def test_too_few_sweeps_are_refused_at_once(height_model, tmp_path, capsys):
    assert main(["endurance", "--model", str(height_model), "--sweeps", "5", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: --sweeps: give 20 or more, for fewer show nothing\n"
