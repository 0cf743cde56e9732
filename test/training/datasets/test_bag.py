"""Bags as datasets, compared with the drives they were exported from."""

from types import SimpleNamespace

import numpy as np
import pytest

from test.training.folders import point_visibility
from training.config.data import SourceConfig
from training.data.registry import open_drives
from training.data.sources import load_source
from training.datasets.bag import BagImage, BagSequence
from training.world.stored import stored_drives
from xmodelkd_ros.bags.bag import BagReader, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.bags.image_replay import RecordedImage
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep, point_times_s
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import BagError, ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.normalization import ChannelSpec, Normalizer


@pytest.fixture(scope="module")
def original(generated):
    (drive,) = stored_drives(generated.folder)
    return drive


@pytest.fixture(scope="module")
def recorded(generated):
    (drive,) = open_drives("bag", generated.bag)
    return drive


@pytest.fixture
def copied(generated, tmp_path):
    """Rewrites the bag without some topics, or with changed clouds."""

    def copy(*without, change=lambda message: None):
        with BagReader(generated.bag) as reader, BagWriter(tmp_path / "copy.mcap") as writer:
            kept = [topic for topic in reader.topics.values() if topic.name not in without]
            for topic in kept:
                writer.add_topic(topic.name, topic.type, topic.latched)
            for topic, log_time_ns, message in reader.messages([topic.name for topic in kept]):
                if topic == "/points":
                    change(message)
                writer.write(topic, log_time_ns, message)
        return tmp_path / "copy.mcap"

    return copy


def test_bag_sweeps_equal_those_of_the_drive(original, recorded):
    assert len(recorded) == len(original) == 2
    for index in (1, 0):
        assert recorded.stamp_ns(index) == original.stamp_ns(index)
        np.testing.assert_array_equal(recorded.cloud(index).xyz, original.cloud(index).xyz)
        np.testing.assert_array_equal(recorded.cloud(index).intensity, original.cloud(index).intensity)
        np.testing.assert_array_equal(recorded.labels(index), original.labels(index))
        np.testing.assert_allclose(recorded.time_s(index), original.time_s(index), atol=1e-6)
    assert recorded.notes == []


def test_sweeps_recorded_at_the_same_time_are_told_apart(copied, generated):
    """Converters write log times of zero."""
    path = copied("/tf")
    renamed = path.rename(path.with_name("original.mcap"))
    with BagReader(renamed) as reader, BagWriter(path) as writer:
        writer.add_topic("/points", "sensor_msgs/msg/PointCloud2")
        for topic, _, message in reader.messages(["/points"]):
            writer.write(topic, 0, message)
    drive = BagSequence(path)
    assert len({drive.stamp_ns(index) for index in (1, 0, 1)}) == len(drive) == 2
    drive.close()


def test_bag_poses_equal_those_of_the_drive(original, recorded):
    np.testing.assert_allclose(recorded.base_from_lidar, original.base_from_lidar, atol=1e-9)
    for index in range(2):
        np.testing.assert_allclose(recorded.world_from_lidar(index), original.world_from_lidar(index), atol=1e-6)
    # Between two sweeps the bag knows no poses: they are taken on the straight line.
    middle = recorded.poses(0, np.array([0.05]))[0][:3, 3]
    ends = [original.world_from_lidar(index)[:3, 3] for index in range(2)]
    np.testing.assert_allclose(middle, np.mean(ends, axis=0), atol=1e-3)


def test_bag_images_equal_those_of_the_drive(original, recorded):
    assert {camera.name for camera in recorded.cameras} == {camera.name for camera in original.cameras}
    taken = {(image.camera.name, image.stamp_ns): image for index in range(2) for image in original.images(index)}
    for image in recorded.images(0):
        own = taken[image.camera.name, image.stamp_ns]
        assert image.jpeg() == own.jpeg()
        np.testing.assert_allclose(image.camera.from_lidar, own.camera.from_lidar, atol=1e-6)
    # Those taken when the LiDAR passed over what they show; behind it passes at a turn's begin and at its end.
    ahead = {image.camera.name: image.stamp_ns for image in original.images(0) if image.camera.name != "back_camera"}
    assert {i.camera.name: i.stamp_ns for i in recorded.images(0) if i.camera.name != "back_camera"} == ahead
    names = [[camera.name for camera in drive.cameras] for drive in (original, recorded)]
    views = [point_visibility(drive, 1) for drive in (original, recorded)]
    seen = [(view.camera >= 0).any(axis=1) for view in views]
    assert (seen[0] == seen[1]).mean() > 0.98 and seen[0].mean() > 0.5
    first = [np.array(own)[view.camera[:, 0]] for own, view in zip(names, views, strict=True)]
    assert (first[0] == first[1])[seen[0] & seen[1]].mean() > 0.98


def test_raw_image_is_encoded_as_jpeg():
    pixels = np.full((32, 48, 3), (200, 60, 20), np.uint8)
    header = message_class("std_msgs/msg/Header")(message_class("builtin_interfaces/msg/Time")(0, 0), "front")
    message = message_class("sensor_msgs/msg/Image")(header, 32, 48, "rgb8", 0, 144, pixels.ravel())
    image = BagImage(RecordedImage(None, 0, 0, message))
    np.testing.assert_array_equal(image.pixels(), pixels)
    assert image.jpeg()[:2] == b"\xff\xd8" and image.labels() is None


@pytest.mark.parametrize(
    ("name", "dtype", "values", "seconds"),
    [
        ("time", np.float32, [-0.1, 0.0], [-0.1, 0.0]),
        ("t", np.uint32, [0, 50_000_000], [0.0, 0.05]),
        ("timestamp", np.float64, [1.7e9 + 2.9, 1.7e9 + 3.0], [-0.1, 0.0]),
        ("timestamp", np.float64, [1.7e18 + 2.9e9, 1.7e18 + 3.0e9], [-0.1, 0.0]),  # Livox
    ],
)
def test_reads_time_fields_of_drivers(name, dtype, values, seconds):
    field = message_class("sensor_msgs/msg/PointField")
    datatype = {np.float32: 7, np.uint32: 6, np.float64: 8}[dtype]
    data = np.array(values, dtype).view(np.uint8)
    size = np.dtype(dtype).itemsize
    message = SimpleNamespace(
        height=1,
        width=2,
        fields=[field(name, 0, datatype, 1)],
        is_bigendian=False,
        point_step=size,
        row_step=2 * size,
        data=data,
        is_dense=True,
    )
    cloud = PointCloud(np.ones((2, 3), np.float32), np.ones(2, np.float32))
    sweep = RecordedSweep(message, 1_700_000_003_000_000_000, 0, cloud, None, 0.0)
    np.testing.assert_allclose(point_times_s(sweep), seconds, atol=1e-6)


def test_without_motion_the_vehicle_stands_still_with_a_note(copied):
    drive = BagSequence(copied("/tf"))
    np.testing.assert_array_equal(drive.poses(1, np.array([0.0, 0.1]))[0], drive.world_from_lidar(0))
    assert drive.notes == ["bag copy.mcap: /tf has no motion of lidar; images are matched as if it stood still"]
    assert len(drive.images(0)) == 6


def test_without_calibrations_there_are_no_cameras(copied, original):
    infos = [f"/{camera.name}/camera_info" for camera in original.cameras]
    drive = BagSequence(copied(*infos))
    assert drive.cameras == () and drive.images(0) == ()


def test_without_ground_truth_points_are_unlabelled(copied):
    drive = BagSequence(copied("/label_info_json"))
    assert (drive.labels(0) == IGNORE).all()
    assert any("is not used as ground truth" in note for note in drive.notes)


def test_points_without_finite_coordinates_are_left_out(copied, original):
    def break_first(message):
        message.data = message.data.copy()
        message.data[:4] = np.array([np.nan], np.float32).view(np.uint8)

    drive = BagSequence(copied(change=break_first))
    counts = {len(drive.cloud(0).xyz), len(drive.labels(0)), len(drive.time_s(0))}
    assert counts == {len(original.cloud(0).xyz) - 1}


def test_rejects_bad_input_with_one_line(tmp_path, recorded):
    with pytest.raises(BagError, match="does not exist; give the path of a rosbag2 folder"):
        open_drives("bag", tmp_path / "nothing")
    with pytest.raises(ConfigError, match="has no sweep 2; it has 0 to 1"):
        recorded.cloud(2)


def test_bag_without_intensity_is_read_and_its_sensor_says_so(copied):
    def without_intensity(message):
        message.fields = [field for field in message.fields if field.name != "intensity"]

    path = copied(change=without_intensity)
    (drive,) = open_drives("bag", path)
    assert not drive.cloud(0).intensity.any() and len(drive.cloud(0)) > 1000
    assert "the clouds have no intensity: only models for any LiDAR label them well" in drive.notes
    (sweep, _) = load_source(SourceConfig("bag", str(path)), "train").sweeps
    assert sweep.sensor.ground_intensity == 0 and sweep.sensor.height_m > 1
    channels = tuple(ChannelSpec(name, 0, 1) for name in ("relative_intensity", "has_intensity"))
    values = Normalizer(channels, (0, 255), sweep.sensor).points(sweep.cloud, np.ones(len(sweep.cloud), np.float32))
    assert not values.any()
