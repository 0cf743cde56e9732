"""Bags for tests: a small synthetic drive, and part of a real drive if it is available."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from test.street import street
from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, ROSBAGS_TYPES, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.harness import dds_domain
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.messages.headers import label_info_json, stamp_from_ns
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.tools.benchmark import synthetic_sweep
from xmodelkd_ros.tools.cli import main

ROAD, BUILDING, CAR = 4, 9, 0
SWEEPS, POINTS = 5, 3000
PERIOD_NS = 100_000_000
START_NS = 1_700_000_000_000_000_000
_TF_TYPE = "tf2_msgs/msg/TFMessage"
BEAMS = ProjectionSpec(tuple(np.linspace(14, -24, 32).tolist()), 512)


def make_header(stamp_ns, frame="lidar"):
    stamp = stamp_from_ns(stamp_ns, message_class("builtin_interfaces/msg/Time"))
    return message_class("std_msgs/msg/Header")(stamp, frame)


@dataclass
class Drive:
    """A bag of SWEEPS sweeps in which the height model is wrong on every tenth point."""

    path: Path
    clouds: list
    truths: list


def sweep_and_truth(index):
    """A sweep and its truth: building above the sensor, road below, like the height model; every tenth point is car."""
    cloud = synthetic_sweep(BEAMS, POINTS + index)
    truth = np.where(cloud.xyz[:, 2] > 0, BUILDING, ROAD).astype(np.uint8)
    truth[::10] = CAR
    cloud.xyz[7] = np.nan
    truth[7] = IGNORE
    return cloud, truth


@dataclass(frozen=True)
class DriveContents:
    """Contents of a test drive.

    Attributes:
        label_set: label set in label_info_json; empty: none is written.
        cameras: names of the cameras; "front" and "rear" are mounted accordingly.
        topics: topics that get every sweep.
        with_truth: whether the clouds have the field ``label``.
        rename: new names of cloud fields.
        empty: whether the clouds have no points.
        depth: whether the front camera also records depth images.
        speed: forward speed of the vehicle, m/s; 0: no transforms over time are written.
        image_topics: topics of each camera; its CameraInfo is next to the first.
        encoding: the encoding that its images claim.
        frame: frame of the clouds.
        tf_prefix: in front of the frames in the transforms.
        camera_prefix: in front of the frames of the cameras.
        times: name, PointField datatype and units per second of a field with the times of the points: they fire
            clockwise from behind, and the stamp is the start of the sweep.
    """

    label_set: str = "drive13"
    cameras: tuple = ("front",)
    topics: tuple = ("/points",)
    with_truth: bool = True
    rename: dict = field(default_factory=dict)
    empty: bool = False
    depth: bool = False
    speed: float = 0.0
    image_topics: tuple = ("/camera/{}/image_raw",)
    encoding: str = "rgb8"
    frame: str = "lidar"
    tf_prefix: str = ""
    camera_prefix: str = ""
    times: tuple = ()

    def message(self, cloud, truth, stamp_ns):
        """A sweep as PointCloud2."""
        msg = truth_to_msg(cloud, truth, make_header(stamp_ns, self.frame), ROSBAGS_TYPES)
        if not self.with_truth:
            msg.fields = msg.fields[:-1]
        for entry in msg.fields:
            entry.name = self.rename.get(entry.name, entry.name)
        if self.times:
            name, datatype, per_second = self.times
            turn = (np.pi - np.arctan2(cloud.xyz[:, 1], cloud.xyz[:, 0])) / (2 * np.pi)
            code = {6: "u4", 7: "f4", 8: "f8"}[datatype]
            values = (np.nan_to_num(turn) * 0.1 * per_second).astype(code)
            points = [msg.data.reshape(-1, msg.point_step), values.view(np.uint8).reshape(len(cloud), -1)]
            msg.fields.append(ROSBAGS_TYPES.PointField(name, msg.point_step, datatype, 1))
            msg.data = np.concatenate(points, axis=1).ravel()
            msg.point_step += values.itemsize
            msg.row_step = msg.width * msg.point_step
        if self.empty:
            msg.width = msg.row_step = 0
            msg.data = msg.data[:0]
        return msg


def write_drive(path, sweeps, **contents):
    """Write a bag of sweeps, given as clouds and truths; see :class:`DriveContents` for the options."""
    contents = DriveContents(**contents)
    with BagWriter(path) as bag:
        for topic in contents.topics:
            bag.add_topic(topic, POINT_CLOUD_TYPE)
        if contents.label_set:
            bag.add_topic("/label_info_json", "std_msgs/msg/String", latched=True)
            text = label_info_json(label_map(contents.label_set))
            bag.write("/label_info_json", START_NS, message_class("std_msgs/msg/String")(text))
        if contents.cameras:
            announce_cameras(bag, contents)
        if contents.speed:
            bag.add_topic("/tf", _TF_TYPE)
        if contents.depth:
            bag.add_topic("/camera/front/depth/image_raw", "sensor_msgs/msg/Image")
            bag.add_topic("/camera/front/image_raw/compressedDepth", "sensor_msgs/msg/CompressedImage")
        for index, (cloud, truth) in enumerate(sweeps):
            stamp_ns = START_NS + index * PERIOD_NS
            for name in contents.cameras:
                for topic in contents.image_topics:
                    write_image(bag, topic.format(name), name, stamp_ns - 20_000_000, (index, contents.encoding))
            if contents.depth:
                write_depth(bag, stamp_ns)
            if contents.speed:
                write_pose(bag, stamp_ns, contents.speed * index * PERIOD_NS * 1e-9, contents.tf_prefix)
            for topic in contents.topics:
                bag.write(topic, stamp_ns, contents.message(cloud, truth, stamp_ns))
    return path


def scaled_drive(path, factors):
    """Write a bag without truth of a sweep for each factor of the positions and factor of the intensities."""
    sweeps = []
    for index, (of_xyz, of_intensity) in enumerate(factors):
        cloud, truth = sweep_and_truth(index)
        xyz, intensity = cloud.xyz * np.float32(of_xyz), cloud.intensity * np.float32(of_intensity)
        sweeps.append((PointCloud(xyz, intensity), truth))
    return write_drive(path, sweeps, label_set="", with_truth=False, cameras=())


def street_drive(path, sweeps=2):
    """Write a bag of a street whose truth calls the upper part of the left wall a car, and all other walls building."""
    clouds = [street(x=k, seed=k) for k in range(sweeps)]
    truths = [np.where(c.xyz[:, 2] > 0, np.where(c.xyz[:, 1] > 0, CAR, BUILDING), ROAD) for c in clouds]
    pairs = [(cloud, truth.astype(np.uint8)) for cloud, truth in zip(clouds, truths, strict=True)]
    return write_drive(path, pairs, cameras=())


def announce_cameras(bag, contents):
    """Cameras of 320 x 160 pixels: ``rear`` faces backward, 0.5 m behind the LiDAR; all others face forward."""
    names, image_topics = contents.cameras, contents.image_topics
    bag.add_topic("/tf_static", _TF_TYPE, latched=True)
    # x right, y down, z forward from x forward, y left, z up; and from behind
    mounts = {"front": ((0.5, 0, 2), (-0.5, 0.5, -0.5, 0.5)), "rear": ((-0.5, 0, 2), (0.5, 0.5, -0.5, -0.5))}
    transforms = [transform("lidar", (0, 0, 2), (0, 0, 0, 1))]
    transforms += [transform(f"{name}_optical", *mounts.get(name, mounts["front"])) for name in names]
    for stamped in transforms:
        stamped.header.frame_id = contents.tf_prefix + stamped.header.frame_id
        stamped.child_frame_id = contents.tf_prefix + stamped.child_frame_id
    bag.write("/tf_static", START_NS, message_class(_TF_TYPE)(transforms))
    for name in names:
        for topic in image_topics:
            bag.add_topic(topic.format(name), "sensor_msgs/msg/Image")
        info_topic = image_topics[0].format(name).rpartition("/")[0] + "/camera_info"
        bag.add_topic(info_topic, "sensor_msgs/msg/CameraInfo")
        info = message_class("sensor_msgs/msg/CameraInfo")(
            make_header(START_NS, f"{contents.camera_prefix}{name}_optical"), 160, 320, "plumb_bob", np.zeros(5),
            np.array([200.0, 0, 160, 0, 200, 80, 0, 0, 1]), np.eye(3).ravel(),
            np.array([200.0, 0, 160, 0, 0, 200, 80, 0, 0, 0, 1, 0]), 0, 0,
            message_class("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False),
        )  # fmt: skip
        bag.write(info_topic, START_NS, info)


def write_pose(bag, stamp_ns, ahead_m, prefix=""):
    pose = transform(f"{prefix}base_link", (ahead_m, 0, 0), (0, 0, 0, 1))
    pose.header = make_header(stamp_ns, f"{prefix}odom")
    bag.write("/tf", stamp_ns, message_class(_TF_TYPE)([pose]))


def transform(child, translation, quaternion):
    geometry = "geometry_msgs/msg/"
    return message_class(geometry + "TransformStamped")(
        make_header(START_NS, "base_link"),
        child,
        message_class(geometry + "Transform")(
            message_class(geometry + "Vector3")(*map(float, translation)),
            message_class(geometry + "Quaternion")(*quaternion),
        ),
    )


def write_image(bag, topic, name, stamp_ns, content):
    """An image of a uniform shade; its content is a number and the encoding that it claims."""
    shade, encoding = content
    pixels = np.full(160 * 320 * 3, 10 * shade, np.uint8)
    image = message_class("sensor_msgs/msg/Image")(
        make_header(stamp_ns, f"{name}_optical"), 160, 320, encoding, 0, 960, pixels
    )
    bag.write(topic, stamp_ns, image)


def write_depth(bag, stamp_ns):
    header = make_header(stamp_ns, "front_optical")
    raw = message_class("sensor_msgs/msg/Image")(header, 160, 320, "16UC1", 0, 640, np.zeros(160 * 640, np.uint8))
    bag.write("/camera/front/depth/image_raw", stamp_ns, raw)
    packed = message_class("sensor_msgs/msg/CompressedImage")(
        header, "16UC1; compressedDepth png", np.zeros(9, np.uint8)
    )
    bag.write("/camera/front/image_raw/compressedDepth", stamp_ns, packed)


@pytest.fixture(scope="session")
def drive(tmp_path_factory):
    sweeps = [sweep_and_truth(i) for i in range(SWEEPS)]
    path = write_drive(tmp_path_factory.mktemp("bags") / "drive", sweeps)
    return Drive(path, [cloud for cloud, _ in sweeps], [truth for _, truth in sweeps])


@pytest.fixture(name="header")
def header_function():
    """Function that makes a header from a stamp in nanoseconds."""
    return make_header


@pytest.fixture
def make_drive(tmp_path):
    """Function that writes a bag of ``sweeps`` sweeps with given :class:`DriveContents`."""

    def make(name="other", sweeps=2, **options):
        return write_drive(tmp_path / name, [sweep_and_truth(i) for i in range(sweeps)], **options)

    return make


@pytest.fixture(scope="session")
def write_test_drive():
    """Function that writes a bag of a number of sweeps to a path, with given :class:`DriveContents`."""
    return lambda path, sweeps, **options: write_drive(path, [sweep_and_truth(i) for i in range(sweeps)], **options)


@pytest.fixture(scope="session")
def real_drive(pandaset, tmp_path_factory):
    """Three real sweeps with truth and six cameras."""
    pytest.importorskip("pandas")
    from training.datasets.bag_export import write_bag
    from training.datasets.pandaset import PandaSetSequence

    path = tmp_path_factory.mktemp("bags") / "real.mcap"
    write_bag(PandaSetSequence(pandaset), range(45, 48), path)
    return path


@pytest.fixture(scope="session")
def real_evaluation(real_drive, height_model, tmp_path_factory):
    """Folder of the report of evaluating the height model on the real sweeps."""
    out = tmp_path_factory.mktemp("reports") / "real"
    assert (
        main(["evaluate", str(real_drive), "--model", str(height_model), "--label-set", "pandaset9", "--out", str(out)])
        == 0
    )
    return out


@pytest.fixture
def own_domain(monkeypatch):
    """A DDS domain that no other test process uses."""
    monkeypatch.setenv("ROS_DOMAIN_ID", dds_domain.reserve_domain(os.environ.get("ROS_DOMAIN_ID", "0")))
