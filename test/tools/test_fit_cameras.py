import numpy as np
import pytest
import yaml

from test.example_bags import with_damaged_jpegs, without_topics
from xmodelkd_ros.bags.recorded_sweep import scan_time_s
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.tools.cli import main


def parameters_of(path):
    return yaml.safe_load(path.read_text())["/**"]["ros__parameters"]


def test_writes_the_cameras_of_a_bag_as_parameters(drive, tmp_path, capsys):
    out = tmp_path / "cameras.yaml"
    assert main(["fit-cameras", str(drive.path), "--out", str(out)]) == 0
    found = parameters_of(out)
    assert found["cameras"] == ["front"]
    of_front = {key.removeprefix("cameras.front."): value for key, value in found.items() if key != "cameras"}
    extrinsic = of_front.pop("extrinsic")
    assert of_front == {
        "image_topic": "/camera/front/image_raw",
        "info_topic": "/camera/front/camera_info",
        "compressed": False,
        "rectified": False,
        "time_offset": 0.0,
    }
    camera_from_lidar = transform(extrinsic[:3], extrinsic[3:])
    np.testing.assert_allclose(camera_from_lidar @ [10.5, 0, 0, 1], [0, 0, 10, 1], atol=1e-6)
    captured = capsys.readouterr()
    assert captured.err.endswith(
        "the clouds have no field with the times of their points: all points count as taken at the stamp, so cameras "
        "get a time_offset of 0 ms\n"
    )
    assert captured.out.splitlines() == [
        "front: /camera/front/image_raw, 320x160, +0 ms",
        f"written to {out}; give it to segment.launch.py as cameras_file",
    ]


def test_time_offset_is_when_the_lidar_scans_the_field_of_view(real_drive, tmp_path):
    """PandaSet's sweeps are stamped at their end; its cameras are triggered one after the other during the sweep."""
    out = tmp_path / "cameras.yaml"
    assert main(["fit-cameras", str(real_drive), "--out", str(out)]) == 0
    found = parameters_of(out)
    offsets = {name: found[f"cameras.{name}.time_offset"] for name in found["cameras"]}
    assert len(offsets) == 6 and all(name.endswith("_camera") for name in offsets)
    # Images come this long before the stamp: left 81 ms, front left 60, front 50, front right 39, right 18.
    expected = {"left": 0.081, "front_left": 0.060, "front": 0.050, "front_right": 0.039, "right": 0.018}
    for name, seconds in expected.items():
        assert offsets[f"{name}_camera"] == pytest.approx(seconds, abs=0.01)
    assert offsets["back_camera"] == pytest.approx(0.0, abs=0.01), "the seam of the revolution is there"


@pytest.mark.parametrize(
    ("times", "note"),
    [
        (("time", 7, 1.0), ""),
        (("time_stamp", 6, 1e9), ""),  # Autoware
        (("offset_time", 6, 1e9), ""),
        (("t", 6, 1e6), "field 't' is read in microseconds, unlike drivers' uint32"),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_every_spelling_of_point_times_gives_the_time_offset(make_drive, times, note, tmp_path, capsys):
    """Half a turn of 0.1 s after the stamp, the LiDAR looks to where the front camera does."""
    out = tmp_path / "cameras.yaml"
    assert main(["fit-cameras", str(make_drive(times=times)), "--out", str(out)]) == 0
    assert parameters_of(out)["cameras.front.time_offset"] == pytest.approx(-0.05, abs=0.003)
    printed = capsys.readouterr().err
    assert note in printed if note else not printed


@pytest.mark.parametrize("turn_s", [0.0, 1e-39, 1e-8])
def test_scan_time_of_simultaneous_points(turn_s):
    times = (0.02 + np.linspace(0, turn_s, 9)).astype(np.float32)
    assert scan_time_s(PointCloud(np.ones((9, 3), np.float32)), times, np.arange(9) > 4) == pytest.approx(0.02)
    assert scan_time_s(PointCloud(np.ones((9, 3), np.float32)), times - times[0], np.arange(9) > 4) == pytest.approx(0)


def test_scan_time_ignores_points_without_position():
    """One invalid time would shift all images of a camera."""
    times, seen = np.linspace(-0.1, 0, 100, dtype=np.float32), np.arange(100) // 10 == 5
    xyz = np.ones((103, 3), np.float32)
    xyz[100:] = np.nan
    all_times = np.append(times, np.array([np.nan, np.inf, 1e30], np.float32))
    found = scan_time_s(PointCloud(xyz), all_times, np.append(seen, [False] * 3))
    assert found == pytest.approx(float(times[seen].mean()), abs=1e-4)


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        ((), "no colour images (Image or CompressedImage), no CameraInfo, no /tf_static"),
        (("image",), "no colour images (Image or CompressedImage)"),
        (("camera_info",), "no CameraInfo"),
        (("tf_static",), "no /tf_static"),
        (("camera_info", "tf_static"), "no CameraInfo, no /tf_static"),
    ],
)
def test_names_what_a_bag_without_usable_cameras_lacks(make_drive, left_out, missing, tmp_path, capsys):
    bag = make_drive(cameras=("front",) if left_out else ())
    bag = without_topics(bag, tmp_path / "bag", *left_out) if left_out else bag
    assert main(["fit-cameras", str(bag), "--out", str(tmp_path / "c.yaml")]) == 1
    them = "them" if ", " in missing else "it"
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {bag} has {missing}; record {them} too"


def test_refers_to_the_notes_if_the_cameras_lack_different_things(make_drive, tmp_path, capsys):
    bag = make_drive(tf_prefix="car1/")
    assert main(["fit-cameras", str(bag), "--out", str(tmp_path / "c.yaml")]) == 1
    note, error = capsys.readouterr().err.splitlines()
    assert "/tf_static does not connect" in note
    assert error == f"error: {bag} has no camera that can be used; the notes above name what each one lacks"


def test_damaged_images_are_noted(real_drive, tmp_path, capsys):
    bag = with_damaged_jpegs(real_drive, tmp_path / "bag")
    assert main(["fit-cameras", str(bag), "--out", str(tmp_path / "c.yaml")]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "the JPEG data is damaged" in line]
    assert len(notes) == 6 and notes[0].startswith("note: camera back_camera: cannot decode image 'jpeg' of ")


def test_rejects_missing_output_folder(drive, tmp_path, capsys):
    assert main(["fit-cameras", str(drive.path), "--out", str(tmp_path / "no" / "c.yaml")]) == 1
    assert "No such file or directory; choose another file" in capsys.readouterr().err
