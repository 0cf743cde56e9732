"""A recorded drive: sweeps with their ground truth, and the cameras' images of each sweep."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader, Message
from xmodelkd_ros.bags.image_replay import CameraOptions, RecordedImage, match_images, nearest_images
from xmodelkd_ros.bags.mounted_cameras import MountedCamera, closest_topic, find_cameras, image_namespaces
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep
from xmodelkd_ros.bags.transform_tree import TransformTree, chain_poses
from xmodelkd_ros.core.camera import CameraModel, CameraView
from xmodelkd_ros.core.errors import BagError, CloudError, XModelKDError, listed
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.transforms import inverse
from xmodelkd_ros.core.truth_coverage import TruthCoverage
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.messages.clouds import LABEL_FIELD, MissingIntensity, has_field, read_field, to_cloud, used_fields
from xmodelkd_ros.messages.headers import (
    Prediction,
    data_source_from_json,
    frame_name,
    label_map_from_json,
    nearest_frame_hint,
    prediction_from_json,
    stamp_ns,
)
from xmodelkd_ros.messages.images import image_to_array
from xmodelkd_ros.messages.topics import DATA_SOURCE_JSON, LABEL_INFO_JSON
from xmodelkd_ros.resources import translation
from xmodelkd_ros.segmentation.image_gaps import CLOCKS_DIFFER, why_no_image
from xmodelkd_ros.segmentation.image_matching import ImageGap, StampedImage

_TIMED_SWEEPS = 3
"""Number of sweeps from which the cameras' time offsets are estimated."""
_SEARCH_NS = 1_000_000_000
"""Images are searched this far around a sweep's time of recording."""
_MAX_GAP_NS = 100_000_000
"""Maximum image-to-sweep time difference in hindsight: one sweep period."""


class RecordedDrive:
    """Sweeps, ground truth, cameras and images of a bag.

    Args:
        reader: the open bag.
        points_topic: topic of the sweeps; may be empty if the bag has a single PointCloud2 topic.
        labels: label set to translate the truth into; None to skip the truth.
        missing_intensity: how to treat clouds without intensity.

    Attributes:
        points_topic: the topic of the sweeps.
        count: number of sweeps.
        duration_s: length of the bag in seconds.
        truth_map: label set of the bag's truth; None if the bag names none.
        prediction: what predicted these labels, where the bag has no truth; None for truth.
        source: dataset, licence and attribution; None if the bag names none.
        notes: remarks for the user, one line each.

    Raises:
        BagError: the topic is ambiguous.
        LabelError: the bag's label set is invalid, or shares no class with ``labels``.
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
        self.truth_map, self.prediction, self._without_map = _truth_map(reader, self.points_topic)
        self._field = LABEL_FIELD if self.prediction is None else self.prediction.field
        if self.prediction is not None and labels is not None:
            self.note(f"the bag's labels are predictions of model {self.prediction.model}, not ground truth")
        self.source = self._read_source()
        self._coverage = TruthCoverage(self.truth_map) if self.truth_map is not None else None
        self._other_clock: set[str] = set()
        self._unusable: dict[str, tuple[set[int], str]] = {}  # stamps of images, and the first one's fault, by camera
        self._cameras_by_frame: dict[str, dict[str, MountedCamera]] = {}
        self._tree: TransformTree | None = None
        self._frame: str | None = None
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
        """Time of recording of each sweep, in order."""
        return [message.log_time_ns for message in self._reader.raw([self.points_topic])]

    def sweep_at(self, log_times_ns: Sequence[int], index: int) -> RecordedSweep:
        """The sweep with a number in :meth:`log_times_ns`, which may have equal times; errors as in :meth:`sweeps`."""
        at_ns = log_times_ns[index]
        messages = self._reader.messages([self.points_topic], at_ns, at_ns + 1)
        before = index - bisect_left(log_times_ns, at_ns)
        message = next(islice(messages, before, None), None)
        return self._read(self._reader.first(self.points_topic, at_ns, at_ns + 1) if message is None else message)

    def first_sweep(self) -> RecordedSweep:
        """The first sweep; errors as in :meth:`sweeps`."""
        return self._read(self._reader.first(self.points_topic))

    def _read(self, message: Message) -> RecordedSweep:
        stamp = stamp_ns(message.message.header.stamp)
        try:
            return self._sweep(message, stamp)
        except CloudError as error:
            raise CloudError(f"{self.points_topic}, sweep at {stamp} ns: {error}") from error

    def _sweep(self, message: Message, stamp: int) -> RecordedSweep:
        frame = frame_name(message.message.header.frame_id)
        self._frame = frame if self._frame is None else self._frame
        if frame != self._frame:
            self.note(f"the frame of the sweeps changes from '{self._frame}' to '{frame}'; record one LiDAR per topic")
        start = perf_counter()
        cloud = to_cloud(message.message, self._missing_intensity)
        decode_ms = (perf_counter() - start) * 1e3
        intensity = used_fields(message.message)["intensity"]
        if intensity not in ("", "intensity"):
            self.note(f"intensity is read from field '{intensity}'")
        own = self._own_truth(message.message)
        truth = None if own is None or self._to_labels is None else self._to_labels.apply(own)
        return RecordedSweep(message.message, stamp, message.log_time_ns, cloud, truth, decode_ms, own)

    def _own_truth(self, msg: Any) -> NDArray[np.uint8] | None:
        if self._labels is None:
            return None
        if not has_field(msg, self._field):
            self.note(f"no score: the clouds have no ground-truth field '{self._field}'")
            return None
        if self._to_labels is None:
            self.note(f"field '{self._field}' is not used as ground truth: {self._without_map}")
            return None
        truth = read_field(msg, self._field)
        if truth.dtype != np.uint8:
            raise CloudError(f"field '{self._field}' is {truth.dtype}; truth must be UINT8")
        assert self._coverage is not None
        self._coverage.add(truth)
        return np.asarray(truth)

    def truth_notes(self, lookup: NDArray[np.uint8] | None = None, target: str = "") -> list[str]:
        """One line for each kind of ground truth in the sweeps read so far that is not scored.

        Args:
            lookup: (256,) scored id of each of the bag's ids, 255 if ignored; None for the class's ``labels``.
            target: name of the scored label set.
        """
        if lookup is None and self._to_labels is not None:
            lookup, target = self._to_labels.lookup, self._to_labels.target.name
        return [] if self._coverage is None or lookup is None else self._coverage.notes(lookup, target)

    def _read_source(self) -> DataSource | None:
        topics = [t.name for t in self._reader.topics.values() if t.name.endswith(DATA_SOURCE_JSON) and t.count]
        if not topics:
            return None
        try:
            return data_source_from_json(self._reader.first(topics[0]).message.data)
        except (XModelKDError, AttributeError) as error:
            self.note(f"{topics[0]} not used: {error}")
            return None

    def sweeps_with_frames(
        self, options: CameraOptions, max_cameras: int
    ) -> Iterator[tuple[RecordedSweep, tuple[CameraFrame | None, ...]]]:
        """Every sweep with the frames of the cameras that are not dropped, matched as the node does.

        A frame is None if the sweep has no usable image of the camera.

        Raises:
            BagError: more cameras are used, a dropped one is not in the bag, or no transform connects the LiDAR's frame
                to ``fixed_frame``; or as in :meth:`sweeps`.
            CloudError: as in :meth:`sweeps`.
        """
        cameras = self.mounted_cameras(self.first_sweep().message.header.frame_id)
        expected = options.select([camera.model.name for camera in cameras.values()], max_cameras)
        used = {topic: camera for topic, camera in cameras.items() if camera.model.name not in options.dropped}
        messages = self._reader.messages([self.points_topic, *used])
        matching: set[str] = set()
        nearest: dict[str, tuple[int, ImageGap]] = {}
        for matched in match_images(messages, self.points_topic, used, expected, options):
            matching.update(matched.images)
            for name, gap in matched.gaps.items():
                distance_ns = abs(gap.nearest_ns - matched.stamp_ns)
                if name not in nearest or distance_ns < abs(nearest[name][1].nearest_ns - nearest[name][0]):
                    nearest[name] = matched.stamp_ns, gap
            sweep = self._read(matched.sweep)
            images = {topic: matched.images.get(camera.model.name) for topic, camera in used.items()}
            frames = (self._camera_frame(topic, image, sweep, options.fixed_frame) for topic, image in images.items())
            yield sweep, tuple(frames)
        reasons = {}
        for camera in used.values():
            name = camera.model.name
            if name in nearest and name not in matching and name not in self._other_clock:
                reason = why_no_image(name, *nearest[name], camera.time_offset_s)
                reasons[name] = reason if CLOCKS_DIFFER in reason else f"{reason}; see --slop"
        for names, reason in _by_remedy(reasons):
            subject = f"camera {names[0]} matches" if len(names) == 1 else f"cameras {', '.join(names)} match"
            self.note(f"{subject} no sweep; of the nearest one: {reason}")

    def _camera_frame(
        self, topic: str, image: StampedImage[RecordedImage] | None, sweep: RecordedSweep, fixed_frame: str
    ) -> CameraFrame | None:
        camera = self.cameras(sweep.message.header.frame_id).get(topic)
        if image is None or camera is None:
            return None
        motion = self._motion(sweep, image.image.matched_ns, fixed_frame) if fixed_frame else None
        try:
            return CameraFrame(camera, image_to_array(image.image.message), motion)
        except XModelKDError as error:
            self._note_unusable(image.image, error)
            return None

    def _note_unusable(self, image: RecordedImage, error: XModelKDError) -> None:
        """Note the first image of a camera that cannot be used, and how many there are."""
        name = image.camera.name
        stamps, first = self._unusable.setdefault(name, (set(), str(error)))
        former = _unusable_note(name, len(stamps), first)
        stamps.add(image.stamp_ns)
        kept = [note for note in self.notes if note != former]
        self.notes[:] = [*kept, _unusable_note(name, len(stamps), first)]

    def _motion(self, sweep: RecordedSweep, image_ns: int, fixed_frame: str) -> NDArray[np.float64]:
        """(4, 4) from the LiDAR frame at the sweep's stamp to the LiDAR frame at the image's."""
        self._tree = self._tree or TransformTree(self._reader, sweep.stamp_ns)
        frame = frame_name(sweep.message.header.frame_id)
        chain = self._tree.chain_above(frame, fixed_frame)
        if not chain or chain[-1][0] != frame_name(fixed_frame):
            ancestors = listed(name for name, _ in chain) or "none"
            raise BagError(
                f"{self._reader.path}: no transform connects '{frame}' to fixed frame '{fixed_frame}'; above it is "
                f"{ancestors}{nearest_frame_hint(frame, self._tree.frames)}"
                f"{nearest_frame_hint(frame_name(fixed_frame), self._tree.frames)}"
            )
        stamps = np.array([sweep.stamp_ns, image_ns])
        at_sweep, at_image = chain_poses(chain, (stamps - self._tree.origin_ns) * 1e-9)
        return np.asarray(inverse(at_image) @ at_sweep)

    def camera_views(self, sweep: RecordedSweep) -> tuple[CameraView, ...]:
        """The decoded :meth:`images` of a sweep with their cameras."""
        views = []
        for image in self.images(sweep):
            try:
                views.append(CameraView(image.camera, image_to_array(image.message)))
            except XModelKDError as error:
                self._note_unusable(image, error)
        return tuple(views)

    def drawn_views(self, sweep: RecordedSweep) -> tuple[CameraView, ...]:
        """:meth:`camera_views` for a picture only: one short note replaces those on how cameras serve a teacher."""
        before = len(self.notes)
        views = self.camera_views(sweep)
        removed, self.notes[before:] = self.notes[before:], []
        cameras = len(image_namespaces(self._reader)) if removed else 0
        if cameras > len(views):
            text = f"{cameras - len(views)} of {cameras} cameras are not drawn in the report"
            self.note(f"{text}; 'xmodelkd fit-cameras {self._reader.path}' says why")
        return views

    def images(self, sweep: RecordedSweep) -> list[RecordedImage]:
        """The image of each camera nearest to a sweep and at most one sweep period away, whenever it was recorded."""
        cameras = self.mounted_cameras(sweep.message.header.frame_id)
        if not cameras:
            return []
        begin, end = sweep.log_time_ns - _SEARCH_NS, sweep.log_time_ns + _SEARCH_NS
        messages = list(self._reader.messages(list(cameras), begin, end))
        # The image recorded with the sweep comes last, where its stamp tells how the clocks differ.
        messages.sort(key=lambda message: -abs(message.log_time_ns - sweep.log_time_ns))
        matched = nearest_images(messages, cameras, sweep.stamp_ns, _MAX_GAP_NS)
        reasons = {}
        for camera in cameras.values():
            name = camera.model.name
            if name not in matched.gaps or name in self._other_clock:
                continue
            reason = why_no_image(name, sweep.stamp_ns, matched.gaps[name], camera.time_offset_s)
            if CLOCKS_DIFFER in reason:
                self._other_clock.add(name)
                reasons[name] = reason
        for names, reason in _by_remedy(reasons):
            self.note(f"camera{'s' if len(names) > 1 else ''} {', '.join(names)}: {reason}")
        return [image.image for image in matched.images.values()]

    def cameras(self, lidar_frame: str) -> dict[str, CameraModel]:
        """The cameras with calibration and extrinsic in the bag, by image topic and sorted by name."""
        return {topic: camera.model for topic, camera in self.mounted_cameras(lidar_frame).items()}

    def mounted_cameras(self, lidar_frame: str) -> dict[str, MountedCamera]:
        """The same with topics, extrinsics and time offsets; of a camera's topics a compressed one is preferred."""
        lidar_frame = frame_name(lidar_frame)
        if lidar_frame not in self._cameras_by_frame:
            self._cameras_by_frame[lidar_frame] = find_cameras(
                self._reader, lidar_frame, lambda: list(islice(self.sweeps(), _TIMED_SWEEPS)), self.note
            )
        return self._cameras_by_frame[lidar_frame]

    def note(self, text: str) -> None:
        """Add a remark for the user, once."""
        if text not in self.notes:
            self.notes.append(text)


def _unusable_note(camera: str, count: int, first: str) -> str:
    return f"camera {camera}: {count} image{'s are' if count > 1 else ' is'} not used: {first}"


def _by_remedy(reasons: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """Cameras whose reasons have the same cause and remedy, with the reason of the first one.

    Args:
        reasons: from :func:`xmodelkd_ros.segmentation.image_gaps.why_no_image`, by camera.
    """
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        # What precedes the remedy has the camera's own numbers, which differ by its time offset.
        remedy = reason.partition("; ")[2] if CLOCKS_DIFFER in reason else reason
        groups.setdefault(remedy, []).append(name)
    return [(names, reasons[names[0]]) for names in groups.values()]


def _truth_map(reader: BagReader, points_topic: str) -> tuple[LabelMap | None, Prediction | None, str]:
    """The label set of the truth, or else of predicted labels and what predicted them; a reason if there is none."""
    topics = [t.name for t in reader.topics.values() if t.name.endswith(LABEL_INFO_JSON) and t.count]
    if not topics:
        reason = f"no {LABEL_INFO_JSON} defines its numbers; record or add that latched topic (docs/evaluation.md)"
        return None, None, reason
    infos = {name: reader.first(name).message.data for name in topics}
    predictions = {name: prediction_from_json(info) for name, info in infos.items()}
    true = [name for name in topics if predictions[name] is None]
    # A segmenter's own label set may have been recorded as well, beside its labels.
    topics = true or topics
    nearest = closest_topic(points_topic, topics)
    chosen = [nearest] if nearest else topics
    found = {(label_map_from_json(infos[name]), predictions[name]) for name in chosen}
    if len(found) > 1:
        reason = f"{listed(topics)} differ, and none is in a namespace of {points_topic}; record one of them only"
        return None, None, reason
    return *found.pop(), ""
