"""Recorded and generated frames exported to a bag and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training import to_bag
from training.datasets import bag_export
from training.datasets.pandaset import PandaSetSequence
from training.world.stored import stored_drives
from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.core.transforms import inverse
from xmodelkd_ros.messages.camera_info import to_camera
from xmodelkd_ros.messages.clouds import read_field, to_cloud
from xmodelkd_ros.messages.headers import data_source_from_json, label_map_from_json, stamp_ns, static_transforms
from xmodelkd_ros.messages.images import image_to_array

FRAMES = range(40, 42)
CAMERAS = 6


@pytest.fixture(scope="module")
def sequence(pandaset: Path) -> PandaSetSequence:
    return PandaSetSequence(pandaset)


@pytest.fixture(scope="module")
def bag_path(pandaset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "drive.mcap"
    assert (
        to_bag.main(["pandaset", str(pandaset), str(path), "--frames", "40:42", "--points-topic", "/roof/points"]) == 0
    )
    return path


@pytest.fixture
def bag(bag_path: Path):
    with BagReader(bag_path) as reader:
        yield reader


def messages(bag: BagReader, topic: str) -> list:
    return [m.message for m in bag.messages([topic])]


def test_points_and_ground_truth_equal_the_dataset(bag: BagReader, sequence: PandaSetSequence):
    clouds = messages(bag, bag.points_topic())
    assert bag.points_topic() == "/roof/points" and len(clouds) == len(FRAMES)
    for index, msg in zip(FRAMES, clouds, strict=True):
        original, decoded = sequence.cloud(index), to_cloud(msg)
        assert decoded.xyz.tobytes() == original.xyz.tobytes()
        assert decoded.intensity.tobytes() == original.intensity.tobytes()
        np.testing.assert_array_equal(read_field(msg, "label"), sequence.labels(index))
        np.testing.assert_array_equal(read_field(msg, "time"), sequence.time_s(index))
        assert -0.11 < sequence.time_s(index).min() < -0.09 and abs(sequence.time_s(index).max()) < 0.01
        assert (stamp_ns(msg.header.stamp), msg.header.frame_id) == (sequence.stamp_ns(index), "lidar")
        assert decoded.ring is None and [f.name for f in msg.fields] == ["x", "y", "z", "intensity", "label", "time"]


def test_the_label_set_is_latched(bag: BagReader, sequence: PandaSetSequence):
    (text,) = messages(bag, "/label_info_json")
    assert bag.topics["/label_info_json"].latched
    assert label_map_from_json(text.data) == sequence.label_map


def test_the_attribution_is_latched(bag: BagReader, sequence: PandaSetSequence):
    (text,) = messages(bag, "/data_source_json")
    assert bag.topics["/data_source_json"].latched
    assert data_source_from_json(text.data) == sequence.source
    assert sequence.source.attribution.startswith("PandaSet by Scale AI and Hesai")


def test_images_are_the_unchanged_files(bag: BagReader, sequence: PandaSetSequence):
    for index in FRAMES:
        for image in sequence.images(index):
            read = messages(bag, bag_export.image_topic(image.camera))[index - FRAMES[0]]
            assert bytes(read.data) == image.path.read_bytes()
            assert (read.format, stamp_ns(read.header.stamp)) == ("jpeg", image.stamp_ns)
    assert image_to_array(read).shape == (1080, 1920, 3)


def test_camera_calibrations_and_transforms(bag: BagReader, sequence: PandaSetSequence):
    (tf,) = messages(bag, "/tf_static")
    assert bag.topics["/tf_static"].latched
    poses = static_transforms(tf)
    assert len(poses) == 1 + CAMERAS == 1 + len(sequence.cameras)
    xyz = sequence.cloud(FRAMES[0]).xyz[::50]
    for camera in sequence.cameras:
        info = messages(bag, bag_export.info_topic(camera))[0]
        assert info.header.frame_id == bag_export.optical_frame(camera)
        extrinsic = inverse(poses["base_link", info.header.frame_id]) @ poses["base_link", "lidar"]
        read = to_camera(info, camera.name, extrinsic)
        pixels, inside = camera.project(xyz)
        pixels_read, inside_read = read.project(xyz)
        assert inside.sum() > 20
        np.testing.assert_array_equal(inside_read, inside)
        np.testing.assert_allclose(pixels_read[inside], pixels[inside], atol=1e-6)
        np.testing.assert_allclose(info.p.reshape(3, 4)[:, :3], camera.intrinsic)


def test_base_link_is_level_forward_and_near_the_road(bag: BagReader, sequence: PandaSetSequence):
    poses = static_transforms(messages(bag, "/tf_static")[0])
    lidar = poses["base_link", "lidar"]
    # On the middle of a car's roof, looking ahead within a few degrees.
    assert 1.5 < lidar[2, 3] < 2.2 and abs(lidar[1, 3]) < 0.1
    np.testing.assert_allclose(lidar[:3, :3], np.eye(3), atol=0.05)
    is_road = sequence.labels(FRAMES[0]) == sequence.label_map.id_of("road")
    road = sequence.cloud(FRAMES[0]).xyz[is_road] @ lidar[:3, :3].T + lidar[:3, 3]
    near = road[np.linalg.norm(road[:, :2], axis=1) < 15]
    slope_x, slope_y, height = np.linalg.lstsq(np.c_[near[:, :2], np.ones(len(near))], near[:, 2], rcond=None)[0]
    assert abs(slope_x) < 0.05 and abs(slope_y) < 0.05 and -0.45 < height < -0.15
    # Optical axes: the front camera's z points ahead, its y down.
    front = poses["base_link", "front_camera_optical_frame"]
    assert front[0, 2] > 0.98 and front[2, 1] < -0.98
    assert poses["base_link", "left_camera_optical_frame"][1, 2] > 0.9


def test_messages_are_ordered_by_stamp(bag: BagReader):
    times = [m.log_time_ns for m in bag.raw()]
    assert times == sorted(times)
    for message in bag.messages([t.name for t in bag.topics.values() if not t.latched]):
        stamped = message.message.transforms[0] if message.topic == "/tf" else message.message
        assert message.log_time_ns == stamp_ns(stamped.header.stamp)
    assert bag.start_ns == next(bag.raw(["/tf_static"])).log_time_ns


def test_the_vehicle_has_a_pose_at_each_sweeps_stamp(bag: BagReader, sequence: PandaSetSequence):
    for index, tf in zip(FRAMES, messages(bag, "/tf"), strict=True):
        (stamped,) = tf.transforms
        assert stamp_ns(stamped.header.stamp) == sequence.stamp_ns(index)
        map_from_lidar = static_transforms(tf)["map", "base_link"] @ sequence.base_from_lidar
        np.testing.assert_allclose(map_from_lidar, sequence.world_from_lidar(index), atol=1e-6)


def test_exports_selected_frames_of_a_generated_drive(generated, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "drive.mcap"
    assert to_bag.main(["world", str(generated.folder), str(out), "--frames", "1:2"]) == 0
    assert capsys.readouterr().out == f"{out}: 1 sweeps\n"
    (drive,) = stored_drives(generated.folder)
    with BagReader(out) as bag:
        (sweep,) = messages(bag, "/points")
        assert to_cloud(sweep).xyz.tobytes() == drive.cloud(1).xyz.tobytes()
        assert stamp_ns(sweep.header.stamp) == drive.stamp_ns(1)
        assert len([name for name in bag.topics if name.endswith("/image/compressed")]) == CAMERAS
        (tf,) = messages(bag, "/tf")
        assert set(static_transforms(tf)) == {("map", "base_link")}


def test_exports_a_drive_without_cameras(drives, tmp_path: Path):
    out = tmp_path / "drive"
    assert to_bag.main(["world", str(drives.folder / "drive_000001"), str(out), "--storage", "sqlite3"]) == 0
    with BagReader(out) as bag:
        assert set(bag.topics) == {"/points", "/tf_static", "/tf", "/label_info_json"}
        assert len(messages(bag, "/points")) == 2


def test_rejects_a_folder_of_several_drives(drives, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert to_bag.main(["world", str(drives.folder), str(tmp_path / "out")]) == 1
    complaint = f"error: {drives.folder} holds 2 drives; give the folder of one of them\n"
    assert capsys.readouterr().err == complaint


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["/nowhere", "out"], "error: /nowhere is not a PandaSet sequence"),
        (["{pandaset}", "out", "--frames", "40"], "error: --frames is '40', but must be A:B"),
        (["{pandaset}", "out", "--frames", "66:68"], "has no frame 67; it has 0 to 66"),
        (["{pandaset}", "there", "--frames", "0:1"], "exists already; remove it or choose another"),
    ],
)
def test_rejects_wrong_arguments_with_one_line(
    pandaset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
):
    (tmp_path / "there").mkdir()
    path, out, *options = (a.format(pandaset=pandaset) for a in arguments)
    assert to_bag.main(["pandaset", path, str(tmp_path / out), *options]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and complaint in lines[0]
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
