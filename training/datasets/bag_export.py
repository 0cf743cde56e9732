"""Export of drives to bags with sweeps, ground truth, images, calibrations and transforms."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.datasets.sequence import CameraImage, DriveSequence
from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, ROSBAGS_TYPES, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter, Storage
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.transforms import inverse, quaternion
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.messages.headers import data_source_json, label_info_json, stamp_from_ns
from xmodelkd_ros.messages.topics import DATA_SOURCE_JSON, LABEL_INFO_JSON, POINTS, STATIC_TF, TF

BASE_FRAME = "base_link"
LIDAR_FRAME = "lidar"
MAP_FRAME = "map"
LABEL_INFO_TOPIC, DATA_SOURCE_TOPIC = f"/{LABEL_INFO_JSON}", f"/{DATA_SOURCE_JSON}"
_IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
_TF_TYPE = "tf2_msgs/msg/TFMessage"


def write_bag(
    sequence: DriveSequence, frames: range, out: Path, points_topic: str = POINTS, storage: Storage = "mcap"
) -> bool:
    """Write frames of a sequence, in ascending order, into a new bag; returns whether any has ground truth.

    Raises:
        BagError: ``out`` exists already, or cannot be created.
        ConfigError: the drive lacks a frame, or a file of it cannot be read.
    """
    has_truth = False
    with BagWriter(out, storage) as bag:
        _announce(bag, sequence, points_topic)
        _write_latched(bag, sequence, frames[0])
        for index in tqdm(frames, "to_bag", unit=" frames", file=sys.stderr, disable=None, leave=False):
            has_truth |= _write_frame(bag, sequence, index, points_topic)
    return has_truth


def image_topic(camera: CameraModel) -> str:
    """Topic of a camera's compressed images."""
    return f"/{camera.name}/image/compressed"


def info_topic(camera: CameraModel) -> str:
    """Topic of a camera's calibration."""
    return f"/{camera.name}/camera_info"


def optical_frame(camera: CameraModel) -> str:
    """Frame of a camera's optical centre (REP-103: x right, y down, z forward)."""
    return f"{camera.name}_optical_frame"


def _announce(bag: BagWriter, sequence: DriveSequence, points_topic: str) -> None:
    bag.add_topic(points_topic, POINT_CLOUD_TYPE)
    bag.add_topic(LABEL_INFO_TOPIC, "std_msgs/msg/String", latched=True)
    if sequence.source.attribution:
        bag.add_topic(DATA_SOURCE_TOPIC, "std_msgs/msg/String", latched=True)
    bag.add_topic(STATIC_TF, _TF_TYPE, latched=True)
    bag.add_topic(TF, _TF_TYPE)
    for camera in sequence.cameras:
        bag.add_topic(image_topic(camera), _IMAGE_TYPE)
        bag.add_topic(info_topic(camera), _INFO_TYPE)


def _write_latched(bag: BagWriter, sequence: DriveSequence, first: int) -> None:
    """Write the latched messages, with the time of the first message."""
    start_ns = min([sequence.stamp_ns(first), *(image.stamp_ns for image in sequence.images(first))])
    text = label_info_json(sequence.label_map)
    bag.write(LABEL_INFO_TOPIC, start_ns, message_class("std_msgs/msg/String")(data=text))
    if sequence.source.attribution:
        text = data_source_json(sequence.source)
        bag.write(DATA_SOURCE_TOPIC, start_ns, message_class("std_msgs/msg/String")(data=text))
    base_from_lidar = sequence.base_from_lidar
    poses = {LIDAR_FRAME: base_from_lidar}
    poses.update({optical_frame(c): base_from_lidar @ inverse(c.from_lidar) for c in sequence.cameras})
    transforms = [_transform(BASE_FRAME, frame, pose, start_ns) for frame, pose in poses.items()]
    bag.write(STATIC_TF, start_ns, message_class(_TF_TYPE)(transforms=transforms))


def _write_frame(bag: BagWriter, sequence: DriveSequence, index: int, points_topic: str) -> bool:
    """Write a frame; returns whether any of its points has a label."""
    images = sequence.images(index)
    for image in sorted(images, key=lambda i: i.stamp_ns):
        header = _header(image.stamp_ns, optical_frame(image.camera))
        bag.write(info_topic(image.camera), image.stamp_ns, _camera_info(image.camera, header))
        bag.write(image_topic(image.camera), image.stamp_ns, _compressed_image(image, header))
    stamp_ns = sequence.stamp_ns(index)
    with suppress(ConfigError):  # without poses, which the drive's notes say
        map_from_base = sequence.world_from_lidar(index) @ inverse(sequence.base_from_lidar)
        vehicle = _transform(MAP_FRAME, BASE_FRAME, map_from_base, stamp_ns)
        bag.write(TF, stamp_ns, message_class(_TF_TYPE)(transforms=[vehicle]))
    header = _header(stamp_ns, LIDAR_FRAME)
    points = sequence.cloud(index), sequence.labels(index)
    cloud = truth_to_msg(*points, header, ROSBAGS_TYPES, sequence.time_s(index))
    bag.write(points_topic, stamp_ns, cloud)
    return bool((points[1] != IGNORE).any())


def _header(stamp_ns: int, frame_id: str) -> Any:
    stamp = stamp_from_ns(stamp_ns, message_class("builtin_interfaces/msg/Time"))
    return message_class("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)


def _compressed_image(image: CameraImage, header: Any) -> Any:
    return message_class(_IMAGE_TYPE)(header=header, format="jpeg", data=np.frombuffer(image.jpeg(), np.uint8))


def _camera_info(camera: CameraModel, header: Any) -> Any:
    """CameraInfo of a rectified image: R is the identity, P is K without an offset."""
    return message_class(_INFO_TYPE)(
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=camera.intrinsic.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([camera.intrinsic, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=message_class("sensor_msgs/msg/RegionOfInterest")(
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        ),
    )


def _transform(parent: str, child: str, pose: NDArray[np.float64], stamp_ns: int) -> Any:
    """A TransformStamped: the pose of a child frame in its parent."""
    x, y, z = (float(v) for v in pose[:3, 3])
    qx, qy, qz, qw = quaternion(pose[:3, :3])
    return message_class("geometry_msgs/msg/TransformStamped")(
        header=_header(stamp_ns, parent),
        child_frame_id=child,
        transform=message_class("geometry_msgs/msg/Transform")(
            translation=message_class("geometry_msgs/msg/Vector3")(x=x, y=y, z=z),
            rotation=message_class("geometry_msgs/msg/Quaternion")(x=qx, y=qy, z=qz, w=qw),
        ),
    )
