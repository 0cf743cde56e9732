"""Cameras of a bag: topics, calibration, extrinsic and time offset."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep, point_times_s, scan_time_s
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ImageError, XModelKDError, quoted
from xmodelkd_ros.core.transforms import inverse, quaternion
from xmodelkd_ros.messages.camera_info import to_camera
from xmodelkd_ros.messages.headers import frame_name, nearest_frame_hint, static_transforms
from xmodelkd_ros.messages.images import check_encoding, is_depth
from xmodelkd_ros.messages.topics import STATIC_TF

_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_IMAGE_TYPES = ("sensor_msgs/msg/Image", _COMPRESSED)
_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
_VIDEO_TYPES = (
    "foxglove_msgs/msg/CompressedVideo",
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
    "theora_image_transport/msg/Packet",
)


@dataclass(frozen=True, eq=False)
class MountedCamera:
    """A camera of a bag with everything that the node's parameters describe.

    Attributes:
        model: its camera model.
        image_topic: topic of its images.
        info_topic: topic of its CameraInfo.
        compressed: whether the images are compressed.
        rectified: whether the images are rectified.
        from_lidar: (4, 4) p_optical = T p_lidar, of the raw camera if images are rectified.
        time_offset_s: to add to the stamps of its images: the time from the LiDAR's scan of the camera's field of view
            to the sweep's stamp. Cameras are often triggered by that scan, while drivers stamp a sweep at its start or
            end. 0 if points have no times.
    """

    model: CameraModel
    image_topic: str
    info_topic: str
    compressed: bool
    rectified: bool
    from_lidar: NDArray[np.float64]
    time_offset_s: float


def find_cameras(
    reader: BagReader, lidar_frame: str, read_sweeps: Callable[[], Sequence[RecordedSweep]], note: Callable[[str], None]
) -> dict[str, MountedCamera]:
    """The cameras with calibration and extrinsic in a bag, by image topic and sorted by name.

    Of several image topics of a camera a compressed one is preferred, then an unrectified one.

    Args:
        reader: the open bag.
        lidar_frame: frame of the sweeps.
        read_sweeps: returns some sweeps, from whose point times the time offsets are estimated.
        note: callback for a line about each unused topic.
    """
    cameras: dict[str, MountedCamera] = {}
    calibrations = _calibrations(reader, note)
    sweeps = read_sweeps() if calibrations else []
    order = sorted(calibrations, key=lambda topic: (reader.topics[topic].type != _COMPRESSED, _is_rectified(topic)))
    preferred = {calibrations[topic][0]: topic for topic in reversed(order)}  # by CameraInfo topic
    names = _camera_names(list(preferred.values()))
    frames = _static_transforms(reader) if calibrations else {}
    for topic in order:
        info_topic, info = calibrations[topic]
        if any(camera.info_topic == info_topic for camera in cameras.values()):
            continue
        camera_frame = frame_name(info.header.frame_id) or frame_name(reader.first(topic).message.header.frame_id)
        from_lidar = find_transform(frames, camera_frame, lidar_frame)
        if from_lidar is None:
            known = {name for pair in frames for name in pair}
            hints = nearest_frame_hint(camera_frame, known) + nearest_frame_hint(frame_name(lidar_frame), known)
            pair = f"its frame {quoted(camera_frame)} to the LiDAR's {quoted(frame_name(lidar_frame))}"
            note(f"{topic} not used: /tf_static does not connect {pair}{hints}")
            continue
        try:
            model = to_camera(info, names[preferred[info_topic]], from_lidar, _is_rectified(topic))
        except XModelKDError as error:
            note(f"{topic} not used: {error}")
            continue
        compressed = reader.topics[topic].type == _COMPRESSED
        offset_s = _time_offset_s(model, sweeps, note)
        cameras[topic] = MountedCamera(model, topic, info_topic, compressed, _is_rectified(topic), from_lidar, offset_s)
    return dict(sorted(cameras.items(), key=lambda item: item[1].model.name))


def _time_offset_s(camera: CameraModel, sweeps: Sequence[RecordedSweep], note: Callable[[str], None]) -> float:
    scan_times = []
    for index, sweep in enumerate(sweeps):
        visible = camera.project(sweep.cloud.xyz)[1]
        times = point_times_s(sweep, note) if index == 0 else point_times_s(sweep)
        if visible.any():
            scan_times.append(scan_time_s(sweep.cloud, times, visible))
    return round(-float(np.median(scan_times)), 3) + 0.0 if scan_times else 0.0  # + 0.0 turns -0.0 into 0.0


def _calibrations(reader: BagReader, note: Callable[[str], None]) -> dict[str, tuple[str, Any]]:
    """Topic and first message of the CameraInfo of each image topic, the closest one in the tree of names."""
    topics = reader.topics.values()
    info_topics = [t.name for t in topics if t.type == _INFO_TYPE and t.count]
    for video in (t for t in topics if t.type in _VIDEO_TYPES and t.count):
        note(f"{video.name} not used: {video.type} holds packets of a video; record raw or jpeg images")
    calibrations = {}
    without_info: dict[str, str] = {}
    for topic in (t.name for t in topics if t.type in _IMAGE_TYPES and t.count):
        info_topic = closest_topic(topic, info_topics)
        if info_topic is None:
            missing = f"{image_namespace(topic)}camera_info"
            without_info.setdefault(missing, topic)
            continue
        try:
            check_encoding(reader.first(topic).message)
        except ImageError as error:
            note(f"{topic} not used: {error}")
            continue
        calibrations[topic] = info_topic, reader.first(info_topic).message
    for missing, topic in without_info.items():
        if not is_depth(reader.first(topic).message):
            note(f"{topic} not used: the bag has no CameraInfo of this camera; record {missing} too")
    return calibrations


def image_namespaces(reader: BagReader) -> set[str]:
    """Namespaces of a bag's colour images, one for each camera: its topics lie side by side."""
    topics = [t.name for t in reader.topics.values() if t.type in _IMAGE_TYPES and t.count]
    return {image_namespace(topic) for topic in topics if not is_depth(reader.first(topic).message)}


def missing_for_cameras(reader: BagReader) -> list[str]:
    """What a bag must hold for its cameras to be used, and does not hold at all."""
    types = {topic.type for topic in reader.topics.values() if topic.count}
    has_transforms = STATIC_TF in reader.topics and reader.topics[STATIC_TF].count
    missing = [] if image_namespaces(reader) else ["colour images (Image or CompressedImage)"]
    missing += [] if _INFO_TYPE in types else ["CameraInfo"]
    return missing + ([] if has_transforms else [STATIC_TF])


def _static_transforms(reader: BagReader) -> dict[tuple[str, str], NDArray[np.float64]]:
    """(parent, child) to the (4, 4) matrix with p_parent = M @ p_child, as ``/tf_static`` has them."""
    transforms: dict[tuple[str, str], NDArray[np.float64]] = {}
    if STATIC_TF in reader.topics:
        for message in reader.messages([STATIC_TF]):
            transforms.update(static_transforms(message.message))
    return transforms


def find_transform(
    transforms: Mapping[tuple[str, str], NDArray[np.float64]], target: str, source: str
) -> NDArray[np.float64] | None:
    """(4, 4) transform with p_target = T @ p_source along the tree of frames; None if the frames are not connected.

    Args:
        transforms: (parent, child) to the matrix with p_parent = M @ p_child.
        target: frame of the result.
        source: frame of the points.
    """
    steps = [(child, parent, matrix) for (parent, child), matrix in transforms.items()]
    steps += [(parent, child, inverse(matrix)) for (parent, child), matrix in transforms.items()]
    known = {frame_name(source): np.eye(4)}
    frontier = list(known)
    while frontier:
        frame = frontier.pop()
        for start, end, matrix in steps:
            if start == frame and end not in known:
                known[end] = matrix @ known[frame]
                frontier.append(end)
    return known.get(frame_name(target))


def closest_topic(topic: str, candidates: list[str]) -> str | None:
    """The candidate that shares the longest namespace with a topic."""
    related = [name for name in candidates if topic.startswith(_namespace(name))]
    return max(related, key=lambda name: len(_namespace(name)), default=None)


def _namespace(topic: str) -> str:
    return topic.rsplit("/", 1)[0] + "/"


def image_namespace(topic: str) -> str:
    """The namespace of an image topic, in which image_transport expects the topic ``camera_info``."""
    return _namespace(topic.removesuffix("/compressed"))


def _is_rectified(topic: str) -> bool:
    """Whether the images of a topic are rectified, by image_proc's naming convention."""
    return any(part.startswith("image_rect") for part in topic.split("/"))


def _camera_names(topics: list[str]) -> dict[str, str]:
    """A name for each image topic: short, or from the full topic where two cameras would share the short one."""
    short = {topic: _camera_name(topic) for topic in topics}
    cameras: dict[str, set[str]] = {}
    for topic, name in short.items():
        cameras.setdefault(name, set()).add(topic.removesuffix("/compressed"))
    ambiguous = {name for name, bases in cameras.items() if len(bases) > 1}
    full = {topic: re.sub(r"\W", "_", topic.removesuffix("/compressed").strip("/")) for topic in topics}
    return {topic: full[topic] if short[topic] in ambiguous else short[topic] for topic in topics}


def _camera_name(topic: str) -> str:
    """The part of an image topic that identifies the camera: ``/camera/front/image_raw/compressed`` is ``front``."""
    parts = [
        p
        for p in topic.split("/")
        if p and p not in ("image", "image_raw", "image_rect", "image_rect_color", "image_color", "compressed")
    ]
    name = re.sub(r"\W", "_", parts[-1] if parts else "camera")
    return name if name.isidentifier() else f"camera_{name}"


def node_parameters(camera: MountedCamera, from_tf: bool = False) -> dict[str, Any]:
    """The node's parameters ``cameras.NAME.`` of a camera; with ``from_tf``, TF provides its extrinsic."""
    position, rotation = camera.from_lidar[:3, 3], quaternion(camera.from_lidar[:3, :3])
    extrinsic = [round(float(value), 7) for value in (*position, *rotation)]
    return {
        "image_topic": camera.image_topic,
        "info_topic": camera.info_topic,
        "compressed": camera.compressed,
        "rectified": camera.rectified,
        **({} if from_tf else {"extrinsic": extrinsic}),
        "time_offset": camera.time_offset_s,
    }
