"""What the tools read from a bag: sweeps with their truth, and the cameras' images of a moment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bag import BagReader, Message
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import BagError, CloudError, XModelKDError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.transforms import inverse
from xmodelkd_ros.core.views import Shot
from xmodelkd_ros.messages import (
    MissingIntensity,
    has_field,
    image_to_array,
    is_depth,
    label_map_from_json,
    read_field,
    stamp_ns,
    static_transforms,
    to_camera,
    to_cloud,
)
from xmodelkd_ros.resources import translation
from xmodelkd_ros.tools.pictures import CameraView
from xmodelkd_ros.tools.transform_tree import TransformTree, poses_in

TRUTH_FIELD = "label"
_TIME_FIELDS = ("time", "t", "timestamp", "offset_time")
_LONGEST_SWEEP_S = 1.0
_NANOSECONDS = 1e14
"""No time since 1970 is as many seconds."""
_SEAM = 0.1
"""Share of a turn before its begin and after its end that is both."""
_TIMED_SWEEPS = 3
"""Sweeps that tell when the LiDAR passes over what a camera sees."""
_LABEL_INFO = "label_info_json"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_IMAGE_TYPES = ("sensor_msgs/msg/Image", _COMPRESSED)
_SEARCH_NS = 1_000_000_000
"""Images are looked for this far around a sweep's time of recording."""
_MAX_GAP_NS = 100_000_000
"""An image farther from the sweep than this, one sweep period, shows another scene."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep as recorded.

    Attributes:
        message: as it was recorded.
        stamp_ns: its stamp.
        log_time_ns: when it was recorded.
        cloud: its points.
        truth: (N,) uint8 true ids in the set asked for, 255 where there is none; None without truth.
        decode_ms: time it took to turn the message into arrays.
    """

    message: Any
    stamp_ns: int
    log_time_ns: int
    cloud: PointCloud
    truth: NDArray[np.uint8] | None
    decode_ms: float


@dataclass(frozen=True, eq=False)
class RecordedImage:
    """An image as recorded.

    Attributes:
        camera: that took it.
        stamp_ns: its stamp.
        matched_ns: the same with the camera's ``time_offset_s``, as the node compares it with the sweep's stamp.
        message: Image or CompressedImage, not decoded.
    """

    camera: CameraModel
    stamp_ns: int
    matched_ns: int
    message: Any


@dataclass(frozen=True)
class Look:
    """How the cameras of a bag are looked through.

    Attributes:
        slop_ns: an image farther from a sweep than this is not of it.
        fixed_frame: frame that stands still, in which ``/tf`` says how the vehicle moved between sweep and image;
            empty: it did not.
        without: names of cameras whose images are not used.
        age_ns: how old images are when they come, to see what that costs.
    """

    slop_ns: int
    fixed_frame: str = ""
    without: tuple[str, ...] = ()
    age_ns: int = 0

    def check(self, names: Sequence[str]) -> None:
        """Raise a BagError if a camera that is not used is none of the bag's."""
        unknown = [name for name in self.without if name not in names]
        if unknown:
            raise BagError(f"no camera {', '.join(unknown)} to drop; the bag has {', '.join(names) or 'none'}")


@dataclass(frozen=True, eq=False)
class MountedCamera:
    """A camera of a bag, with all that a node must know of it.

    Attributes:
        model: the camera.
        image_topic: of its images.
        info_topic: of its CameraInfo.
        compressed: whether they are compressed.
        rectified: whether they are rectified.
        from_lidar: (4, 4) p_optical = T p_lidar, of the raw camera where images are rectified.
        time_offset_s: to be added to the stamps of its images: from when the LiDAR passes over what the camera sees to
            the sweep's stamp. A camera that is triggered when the LiDAR looks its way takes the image that belongs to
            a sweep then, and drivers stamp a sweep at its beginning or its end. 0 where points have no times.
    """

    model: CameraModel
    image_topic: str
    info_topic: str
    compressed: bool
    rectified: bool
    from_lidar: NDArray[np.float64]
    time_offset_s: float


class Recording:
    """The part of a bag that the tools use.

    Args:
        reader: the open bag.
        points_topic: topic of the sweeps; may be empty if the bag has only one of PointCloud2.
        labels: the set that truth is translated into; None if truth does not matter.
        missing_intensity: what to do with clouds without intensity.

    Attributes:
        points_topic: the topic of the sweeps.
        count: number of sweeps.
        duration_s: length of the bag in seconds.
        truth_map: the set that the bag's truth is in; None if the bag names none.
        notes: what the user should know, one line each.

    Raises:
        BagError: the choice of the topic is not clear.
        LabelError: the bag's label set is broken, or has nothing in common with ``labels``.
    """

    def __init__(
        self,
        reader: BagReader,
        points_topic: str = "",
        labels: LabelMap | None = None,
        missing_intensity: MissingIntensity = "reject",
    ) -> None:
        self._reader = reader
        self._labels = labels
        self._missing_intensity = missing_intensity
        self.points_topic = reader.points_topic(points_topic)
        self.count = reader.topics[self.points_topic].count
        self.duration_s = (reader.end_ns - reader.start_ns) / 1e9
        self.notes: list[str] = []
        self.truth_map = _truth_map(reader, self.points_topic)
        self._rigs: dict[str, dict[str, MountedCamera]] = {}
        self._tree: TransformTree | None = None
        self._to_labels = None
        if self.truth_map is not None and labels is not None:
            self._to_labels = translation(self.truth_map, labels)

    def sweeps(self) -> Iterator[Sweep]:
        """Every sweep, in the order of recording.

        Raises:
            BagError: the bag is damaged.
            CloudError: a cloud cannot be read; the message names its stamp.
        """
        for message in self._reader.messages([self.points_topic]):
            yield self._read(message)

    def log_times_ns(self) -> list[int]:
        """When each sweep was recorded."""
        return [message.log_time_ns for message in self._reader.raw([self.points_topic])]

    def sweep_at(self, log_time_ns: int) -> Sweep:
        """The sweep recorded at one of :meth:`log_times_ns`; errors as in :meth:`sweeps`."""
        return self._read(next(self._reader.messages([self.points_topic], log_time_ns, log_time_ns + 1)))

    def _read(self, message: Message) -> Sweep:
        stamp = stamp_ns(message.message.header.stamp)
        try:
            return self._sweep(message, stamp)
        except CloudError as error:
            raise CloudError(f"{self.points_topic}, sweep at {stamp} ns: {error}") from error

    def _sweep(self, message: Message, stamp: int) -> Sweep:
        start = perf_counter()
        cloud = to_cloud(message.message, self._missing_intensity)
        decode_ms = (perf_counter() - start) * 1e3
        truth = self._truth(message.message)
        return Sweep(message.message, stamp, message.log_time_ns, cloud, truth, decode_ms)

    def _truth(self, msg: Any) -> NDArray[np.uint8] | None:
        if self._labels is None:
            return None
        if not has_field(msg, TRUTH_FIELD):
            self._note(f"no score: the clouds have no field '{TRUTH_FIELD}' with the truth")
            return None
        if self._to_labels is None:
            self._note(f"field '{TRUTH_FIELD}' is not taken for truth: no {_LABEL_INFO} says what its numbers mean")
            return None
        truth = read_field(msg, TRUTH_FIELD)
        if truth.dtype != np.uint8:
            raise CloudError(f"field '{TRUTH_FIELD}' is {truth.dtype}; truth must be UINT8")
        return self._to_labels.apply(truth)

    def cameras(self, sweep: Sweep) -> tuple[CameraView, ...]:
        """The image of each camera nearest to a sweep, for cameras with calibration and extrinsic in the bag."""
        views = []
        for image in self.images(sweep):
            try:
                views.append(CameraView(image.camera, image_to_array(image.message)))
            except XModelKDError as error:
                self._note(f"camera {image.camera.name} not used: {error}")
        return tuple(views)

    def shots(self, sweep: Sweep, look: Look) -> tuple[Shot | None, ...]:
        """What each camera of the bag took of a sweep; None for those without an image within the slop.

        Args:
            sweep: the sweep.
            look: how cameras are looked through.

        Raises:
            BagError: no transform joins the LiDAR's frame to the look's ``fixed_frame``, or it drops a camera that the
                bag does not have.
        """
        names = [camera.name for camera in self.rig(sweep.message.header.frame_id).values()]
        look.check(names)
        taken = {image.camera.name: image for image in self.images(sweep, look.slop_ns, look.age_ns)}
        wanted = [taken.get(name) for name in names if name not in look.without]
        return tuple(None if image is None else self._shot(image, sweep, look.fixed_frame) for image in wanted)

    def _shot(self, image: RecordedImage, sweep: Sweep, fixed_frame: str) -> Shot | None:
        motion = self._motion(sweep, image.matched_ns, fixed_frame) if fixed_frame else None
        try:
            return Shot(image.camera, image_to_array(image.message), motion)
        except XModelKDError as error:
            self._note(f"camera {image.camera.name} not used: {error}")
            return None

    def _motion(self, sweep: Sweep, stamp_ns: int, fixed_frame: str) -> NDArray[np.float64]:
        """(4, 4) from the LiDAR's frame at the sweep's stamp to the LiDAR's frame at another one."""
        self._tree = self._tree or TransformTree(self._reader, sweep.stamp_ns)
        frame = sweep.message.header.frame_id
        chain = self._tree.chain_above(frame, fixed_frame)
        if not chain or chain[-1][0] != fixed_frame:
            there = ", ".join(name for name, _ in chain) or "none"
            raise BagError(
                f"{self._reader.path}: no transform joins '{frame}' to fixed frame '{fixed_frame}'; above it is {there}"
            )
        stamps = np.array([sweep.stamp_ns, stamp_ns])
        at_sweep, at_image = poses_in(chain, (stamps - self._tree.origin_ns) * 1e-9)
        return np.asarray(inverse(at_image) @ at_sweep)

    def images(self, sweep: Sweep, slop_ns: int = _MAX_GAP_NS, age_ns: int = 0) -> list[RecordedImage]:
        """The image of each camera nearest to a sweep, or to some time before it, and within the slop; not decoded."""
        rig = self.mounted(sweep.message.header.frame_id)
        if not rig:
            return []
        nearest: dict[str, tuple[int, RecordedImage]] = {}
        middle = sweep.log_time_ns - age_ns
        around = (middle - _SEARCH_NS, middle + _SEARCH_NS)
        for topic, _, message in self._reader.messages(list(rig), *around):
            stamp, mounted = stamp_ns(message.header.stamp), rig[topic]
            image = RecordedImage(mounted.model, stamp, stamp + round(mounted.time_offset_s * 1e9), message)
            gap = abs(image.matched_ns + age_ns - sweep.stamp_ns)
            if gap <= slop_ns and (topic not in nearest or gap < nearest[topic][0]):
                nearest[topic] = gap, image
        return [image for _, image in nearest.values()]

    def rig(self, lidar_frame: str) -> dict[str, CameraModel]:
        """The cameras with calibration and extrinsic in the bag, by image topic and in the order of their names."""
        return {topic: mounted.model for topic, mounted in self.mounted(lidar_frame).items()}

    def mounted(self, lidar_frame: str) -> dict[str, MountedCamera]:
        """What :meth:`rig` gives, with topics and extrinsics: compressed images where there are, else raw ones."""
        if lidar_frame not in self._rigs:
            self._rigs[lidar_frame] = self._found_rig(lidar_frame)
        return self._rigs[lidar_frame]

    def _found_rig(self, lidar_frame: str) -> dict[str, MountedCamera]:
        rig: dict[str, MountedCamera] = {}
        calibrations = self._calibrations()
        order = sorted(
            calibrations, key=lambda topic: (self._reader.topics[topic].type != _COMPRESSED, _is_rectified(topic))
        )
        first = {calibrations[topic][0]: topic for topic in reversed(order)}  # of each camera
        names = _camera_names(list(first.values()))
        frames = self.static_transforms() if calibrations else {}
        for topic in order:
            info_topic, info = calibrations[topic]
            if any(camera.info_topic == info_topic for camera in rig.values()):
                continue
            from_lidar = lookup(frames, info.header.frame_id, lidar_frame)
            if from_lidar is None:
                self._note(f"{topic} not used: /tf_static does not join its frame to the LiDAR's")
                continue
            try:
                model = to_camera(info, names[first[info_topic]], from_lidar, _is_rectified(topic))
            except XModelKDError as error:
                self._note(f"{topic} not used: {error}")
                continue
            compressed = self._reader.topics[topic].type == _COMPRESSED
            offset_s = self._time_offset_s(model)
            rig[topic] = MountedCamera(model, topic, info_topic, compressed, _is_rectified(topic), from_lidar, offset_s)
        return dict(sorted(rig.items(), key=lambda item: item[1].model.name))

    def _time_offset_s(self, camera: CameraModel) -> float:
        passing = []
        for sweep in islice(self.sweeps(), _TIMED_SWEEPS):
            seen = camera.project(sweep.cloud.xyz)[1]
            try:
                times = point_times_s(sweep)
            except CloudError as error:
                self._note(f"times of the points are not used: {error}")
                return 0.0
            if seen.any():
                passing.append(_passing_s(times, seen))
        return round(-float(np.median(passing)), 3) + 0.0 if passing else 0.0

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _calibrations(self) -> dict[str, tuple[str, Any]]:
        """The CameraInfo of each image topic, and its topic: the nearest one above it in the tree of names."""
        topics = self._reader.topics.values()
        info_topics = [t.name for t in topics if t.type == "sensor_msgs/msg/CameraInfo" and t.count]
        calibrations = {}
        for topic in (t.name for t in topics if t.type in _IMAGE_TYPES and t.count):
            nearest = _nearest_above(topic, info_topics)
            if nearest is None:
                continue
            if is_depth(next(self._reader.messages([topic])).message):
                self._note(f"{topic} not used: its images show distances")
            else:
                calibrations[topic] = nearest, next(self._reader.messages([nearest])).message
        return calibrations

    def static_transforms(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        """(parent, child) to the (4, 4) matrix with p_parent = M @ p_child, as ``/tf_static`` has them."""
        found: dict[tuple[str, str], NDArray[np.float64]] = {}
        if "/tf_static" in self._reader.topics:
            for message in self._reader.messages(["/tf_static"]):
                found.update(static_transforms(message.message))
        return found


def lookup(
    transforms: Mapping[tuple[str, str], NDArray[np.float64]], target: str, source: str
) -> NDArray[np.float64] | None:
    """(4, 4) transform with p_target = T @ p_source along the tree of frames; None if nothing joins the two.

    Args:
        transforms: (parent, child) to the matrix with p_parent = M @ p_child.
        target: frame of the result.
        source: frame of the points.
    """
    steps = [(child, parent, matrix) for (parent, child), matrix in transforms.items()]
    steps += [(parent, child, inverse(matrix)) for (parent, child), matrix in transforms.items()]
    known = {source.lstrip("/"): np.eye(4)}
    frontier = list(known)
    while frontier:
        here = frontier.pop()
        for start, end, matrix in steps:
            if start == here and end not in known:
                known[end] = matrix @ known[here]
                frontier.append(end)
    return known.get(target.lstrip("/"))


def point_times_s(sweep: Sweep) -> NDArray[np.float32]:
    """(N,) when each point was fired, seconds from the sweep's stamp; zero where the cloud does not say it.

    Drivers write them into a field ``time`` (seconds), ``t`` or ``offset_time`` (nanoseconds) from the stamp, or
    ``timestamp`` (seconds since 1970, or nanoseconds).

    Raises:
        CloudError: these are no times of a sweep.
    """
    name = next((field for field in _TIME_FIELDS if has_field(sweep.message, field)), None)
    if name is None:
        return np.zeros(len(sweep.cloud), np.float32)
    values: NDArray[Any] = read_field(sweep.message, name)
    if values.dtype.kind in "iu":
        times = values * 1e-9
    else:
        times = values.astype(np.float64)
        if name == "timestamp":
            in_ns = len(times) > 0 and np.nanmax(times) > _NANOSECONDS
            times = (times - sweep.stamp_ns) * 1e-9 if in_ns else times - sweep.stamp_ns * 1e-9
    valid = times[np.isfinite(sweep.cloud.xyz).all(axis=1)]
    if len(valid) and not np.abs(valid).max() <= _LONGEST_SWEEP_S:
        raise CloudError(
            f"sweep at {sweep.stamp_ns} ns: its points have times up to {np.abs(valid).max():.3g} s from its stamp; "
            "record clouds with 'time' in seconds, or without"
        )
    return times.astype(np.float32)


def _passing_s(times_s: NDArray[np.float32], seen: NDArray[np.bool_]) -> float:
    """When in a turn the LiDAR passes over some of its points: their mean on the circle.

    Where the turn begins and ends it passes twice, and the one nearer to the stamp counts.
    """
    begin, turn = float(times_s.min()), float(np.ptp(times_s))
    if turn == 0:
        return begin
    angle = (times_s[seen] - begin) * (2 * np.pi / turn)
    mean = np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()) % (2 * np.pi)
    once = begin + float(mean) / (2 * np.pi) * turn
    times = (time for time in (once - turn, once, once + turn) if -_SEAM < (time - begin) / turn < 1 + _SEAM)
    return min(times, key=abs)


def _truth_map(reader: BagReader, points_topic: str) -> LabelMap | None:
    topics = [t.name for t in reader.topics.values() if t.name.endswith(_LABEL_INFO) and t.count]
    # A segmenter's own label set may have been recorded as well, beside its labels.
    nearest = topics[0] if len(topics) == 1 else _nearest_above(points_topic, topics)
    return None if nearest is None else label_map_from_json(next(reader.messages([nearest])).message.data)


def _nearest_above(topic: str, candidates: list[str]) -> str | None:
    """The candidate with the longest namespace that the topic is in too."""
    above = [name for name in candidates if topic.startswith(_namespace(name))]
    return max(above, key=lambda name: len(_namespace(name)), default=None)


def _namespace(topic: str) -> str:
    return topic.rsplit("/", 1)[0] + "/"


def _is_rectified(topic: str) -> bool:
    """Whether the images of a topic are rectified, by the names that image_proc gives them."""
    return any(part.startswith("image_rect") for part in topic.split("/"))


def _camera_names(topics: list[str]) -> dict[str, str]:
    """A name for each image topic: short, unless two would get the same and are not of one camera."""
    short = {topic: _camera_name(topic) for topic in topics}
    cameras: dict[str, set[str]] = {}
    for topic, name in short.items():
        cameras.setdefault(name, set()).add(topic.removesuffix("/compressed"))
    alike = {name for name, found in cameras.items() if len(found) > 1}
    whole = {topic: re.sub(r"\W", "_", topic.removesuffix("/compressed").strip("/")) for topic in topics}
    return {topic: whole[topic] if short[topic] in alike else short[topic] for topic in topics}


def _camera_name(topic: str) -> str:
    """The part of an image topic that tells cameras apart: ``/camera/front/image_raw/compressed`` is ``front``."""
    parts = [
        p
        for p in topic.split("/")
        if p and p not in ("image", "image_raw", "image_rect", "image_rect_color", "image_color", "compressed")
    ]
    name = re.sub(r"\W", "_", parts[-1] if parts else "camera")
    return name if name.isidentifier() else f"camera_{name}"
