"""``xmodelkd view --save``: the recording is read back with Rerun's own command."""

import subprocess

import pytest

from test.example_drive import SWEEPS
from test.rerun_files import RERUN, chunks_of
from xmodelkd_ros.tools.cli import main

pytest.importorskip("rerun", reason="Rerun is not installed (extra view)")


def run(*words):
    return main(["view", *map(str, words)])


def test_labels_truth_cameras_and_poses_are_in_the_recording(make_drive, height_model, tmp_path, capsys):
    bag, out = make_drive("street", sweeps=4, speed=3.0), tmp_path / "street.rrd"
    assert run(bag, "--model", height_model, "--save", out) == 0
    assert f"{out}: 4 sweeps | rerun {out}" in capsys.readouterr().out
    assert subprocess.run([RERUN, "rrd", "verify", str(out)], capture_output=True, timeout=60).returncode == 0
    entities = chunks_of(out)
    for name in ("labels/road", "labels/building", "truth/car", "errors", "probability", "entropy"):
        rows, components = entities[f"/world/lidar/{name}"]
        assert rows == 4 and "Points3D:positions" in components, name
    assert "Points3D:class_ids" in entities["/world/lidar/labels/road"][1]
    assert "Points3D:colors" in entities["/world/lidar/entropy"][1]
    rows, components = entities["/world/lidar/front"]
    assert {"Pinhole:image_from_camera", "Transform3D:translation"} <= components and rows >= 5
    assert entities["/world/lidar/front/labels"][0] == 4
    assert entities["/world/path"][0] == 4 and entities["/world/lidar"][0] == 4
    assert "AnnotationContext:context" in entities["/world"][1]


def test_labels_of_a_labelled_bag(drive, height_model, tmp_path, make_drive, capsys):
    plain = make_drive("plain", sweeps=3, with_truth=False, label_set="", cameras=())
    assert run(plain, "--save", tmp_path / "plain.rrd") == 1
    assert "has no labels; name a model with --model, or label it first" in capsys.readouterr().err
    assert main(["label", str(plain), "--model", str(height_model), "--out", str(tmp_path / "out")]) == 0
    assert run(tmp_path / "out" / "plain.mcap", "--every", 2, "--save", tmp_path / "plain.rrd") == 0
    entities = chunks_of(tmp_path / "plain.rrd")
    assert entities["/world/lidar/labels/road"][0] == 2 and "/world/lidar/errors" not in entities
    assert run(drive.path, "--save", tmp_path / "truth.rrd") == 0
    assert chunks_of(tmp_path / "truth.rrd")["/world/lidar/labels/car"][0] == SWEEPS


def test_a_bag_or_a_running_node_is_shown(drive, capsys):
    for words in ([], [drive.path, "--live"]):
        assert run(*words) == 1
        assert "give a BAG, or --live for the labels of a running node" in capsys.readouterr().err
