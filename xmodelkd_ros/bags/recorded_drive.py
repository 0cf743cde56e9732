"""What the tools read from a bag: sweeps with their truth, and the cameras' images of a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader, Message
from xmodelkd_ros.bags.mounted_cameras import MountedCamera, find_cameras, nearest_above
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep
from xmodelkd_ros.bags.transform_tree import TransformTree, poses_in
from xmodelkd_ros.core.camera import CameraModel, CameraView
from xmodelkd_ros.core.errors import BagError, CloudError, XModelKDError, listed
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.transforms import inverse
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.messages.clouds import LABEL_FIELD, MissingIntensity, has_field, read_field, to_cloud
from xmodelkd_ros.messages.headers import label_map_from_json, stamp_ns
from xmodelkd_ros.messages.images import image_to_array
from xmodelkd_ros.messages.topics import LABEL_INFO_JSON
from xmodelkd_ros.resources import translation

_TIMED_SWEEPS = 3
"""Sweeps that tell when the LiDAR passes over what a camera sees."""
_SEARCH_NS = 1_000_000_000
"""Images are looked for this far around a sweep's time of recording."""
_MAX_GAP_NS = 100_000_000
"""An image farther from the sweep than this, one sweep period, shows another scene."""


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
class CameraOptions:
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
            raise BagError(f"no camera {', '.join(unknown)} to drop; the bag has {listed(names) or 'none'}")

    def shown(self, names: Sequence[str], most: int) -> list[str]:
        """The cameras that a network with ``most`` places is told of: those that are used, and as many others.

        Raises:
            BagError: more are used, or one that is not used is none of the bag's.
        """
        self.check(names)
        used = [name for name in names if name not in self.without]
        if len(used) > most:
            raise BagError(
                f"the bag has {len(names)} cameras ({listed(names)}), but the model looks through {most} at most; "
                "leave some out with --drop-cameras"
            )
        told = {*used, *self.without[: most - len(used)]}
        return [name for name in names if name in told]


class RecordedDrive:
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
        self._cameras_by_frame: dict[str, dict[str, MountedCamera]] = {}
        self._tree: TransformTree | None = None
        self._to_labels = None
        if self.truth_map is not None and labels is not None:
            self._to_labels = translation(self.truth_map, labels)

    def sweeps(self) -> Iterator[RecordedSweep]:
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

    def sweep_at(self, log_time_ns: int) -> RecordedSweep:
        """The sweep recorded at one of :meth:`log_times_ns`; errors as in :meth:`sweeps`."""
        return self._read(self._reader.first(self.points_topic, log_time_ns, log_time_ns + 1))

    def first_sweep(self) -> RecordedSweep:
        """The first one; errors as in :meth:`sweeps`."""
        return self._read(self._reader.first(self.points_topic))

    def _read(self, message: Message) -> RecordedSweep:
        stamp = stamp_ns(message.message.header.stamp)
        try:
            return self._sweep(message, stamp)
        except CloudError as error:
            raise CloudError(f"{self.points_topic}, sweep at {stamp} ns: {error}") from error

    def _sweep(self, message: Message, stamp: int) -> RecordedSweep:
        start = perf_counter()
        cloud = to_cloud(message.message, self._missing_intensity)
        decode_ms = (perf_counter() - start) * 1e3
        truth = self._truth(message.message)
        return RecordedSweep(message.message, stamp, message.log_time_ns, cloud, truth, decode_ms)

    def _truth(self, msg: Any) -> NDArray[np.uint8] | None:
        if self._labels is None:
            return None
        if not has_field(msg, LABEL_FIELD):
            self._note(f"no score: the clouds have no field '{LABEL_FIELD}' with the truth")
            return None
        if self._to_labels is None:
            self._note(f"field '{LABEL_FIELD}' is not taken for truth: no {LABEL_INFO_JSON} says what its numbers mean")
            return None
        truth = read_field(msg, LABEL_FIELD)
        if truth.dtype != np.uint8:
            raise CloudError(f"field '{LABEL_FIELD}' is {truth.dtype}; truth must be UINT8")
        return self._to_labels.apply(truth)

    def camera_views(self, sweep: RecordedSweep) -> tuple[CameraView, ...]:
        """The image of each camera nearest to a sweep, for cameras with calibration and extrinsic in the bag."""
        views = []
        for image in self.images(sweep):
            try:
                views.append(CameraView(image.camera, image_to_array(image.message)))
            except XModelKDError as error:
                self._note(f"camera {image.camera.name} not used: {error}")
        return tuple(views)

    def camera_frames(self, sweep: RecordedSweep, camera_options: CameraOptions) -> tuple[CameraFrame | None, ...]:
        """What each camera of the bag took of a sweep; None for those without an image within the slop.

        Args:
            sweep: the sweep.
            camera_options: how cameras are looked through.

        Raises:
            BagError: no transform joins the LiDAR's frame to the look's ``fixed_frame``, or it drops a camera that the
                bag does not have.
        """
        names = [camera.name for camera in self.cameras(sweep.message.header.frame_id).values()]
        camera_options.check(names)
        taken = {
            image.camera.name: image for image in self.images(sweep, camera_options.slop_ns, camera_options.age_ns)
        }
        wanted = [taken.get(name) for name in names if name not in camera_options.without]
        return tuple(
            None if image is None else self._camera_frame(image, sweep, camera_options.fixed_frame) for image in wanted
        )

    def _camera_frame(self, image: RecordedImage, sweep: RecordedSweep, fixed_frame: str) -> CameraFrame | None:
        motion = self._motion(sweep, image.matched_ns, fixed_frame) if fixed_frame else None
        try:
            return CameraFrame(image.camera, image_to_array(image.message), motion)
        except XModelKDError as error:
            self._note(f"camera {image.camera.name} not used: {error}")
            return None

    def _motion(self, sweep: RecordedSweep, stamp_ns: int, fixed_frame: str) -> NDArray[np.float64]:
        """(4, 4) from the LiDAR's frame at the sweep's stamp to the LiDAR's frame at another one."""
        self._tree = self._tree or TransformTree(self._reader, sweep.stamp_ns)
        frame = sweep.message.header.frame_id
        chain = self._tree.chain_above(frame, fixed_frame)
        if not chain or chain[-1][0] != fixed_frame:
            there = listed(name for name, _ in chain) or "none"
            raise BagError(
                f"{self._reader.path}: no transform joins '{frame}' to fixed frame '{fixed_frame}'; above it is {there}"
            )
        stamps = np.array([sweep.stamp_ns, stamp_ns])
        at_sweep, at_image = poses_in(chain, (stamps - self._tree.origin_ns) * 1e-9)
        return np.asarray(inverse(at_image) @ at_sweep)

    def images(self, sweep: RecordedSweep, slop_ns: int = _MAX_GAP_NS, age_ns: int = 0) -> list[RecordedImage]:
        """The image of each camera nearest to a sweep, or to some time before it, and within the slop; not decoded."""
        cameras = self.mounted(sweep.message.header.frame_id)
        if not cameras:
            return []
        nearest: dict[str, tuple[int, RecordedImage]] = {}
        middle = sweep.log_time_ns - age_ns
        around = (middle - _SEARCH_NS, middle + _SEARCH_NS)
        for topic, _, message in self._reader.messages(list(cameras), *around):
            stamp, mounted = stamp_ns(message.header.stamp), cameras[topic]
            image = RecordedImage(mounted.model, stamp, stamp + round(mounted.time_offset_s * 1e9), message)
            gap = abs(image.matched_ns + age_ns - sweep.stamp_ns)
            if gap <= slop_ns and (topic not in nearest or gap < nearest[topic][0]):
                nearest[topic] = gap, image
        return [image for _, image in nearest.values()]

    def cameras(self, lidar_frame: str) -> dict[str, CameraModel]:
        """The cameras with calibration and extrinsic in the bag, by image topic and in the order of their names."""
        return {topic: mounted.model for topic, mounted in self.mounted(lidar_frame).items()}

    def mounted(self, lidar_frame: str) -> dict[str, MountedCamera]:
        """What :meth:`cameras` gives, with topics and extrinsics: compressed images where there are, else raw ones."""
        if lidar_frame not in self._cameras_by_frame:
            self._cameras_by_frame[lidar_frame] = find_cameras(
                self._reader, lidar_frame, lambda: list(islice(self.sweeps(), _TIMED_SWEEPS)), self._note
            )
        return self._cameras_by_frame[lidar_frame]

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _truth_map(reader: BagReader, points_topic: str) -> LabelMap | None:
    topics = [t.name for t in reader.topics.values() if t.name.endswith(LABEL_INFO_JSON) and t.count]
    # A segmenter's own label set may have been recorded as well, beside its labels.
    nearest = topics[0] if len(topics) == 1 else nearest_above(points_topic, topics)
    return None if nearest is None else label_map_from_json(reader.first(nearest).message.data)
