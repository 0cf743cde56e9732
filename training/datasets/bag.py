"""Recorded bags as datasets: sweeps, images, calibrations and transforms."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.config.label_sets import LABELS
from training.datasets.odometry import lidar_odometry
from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.image_replay import RecordedImage
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.bags.recorded_sweep import RecordedSweep, point_times_s
from xmodelkd_ros.bags.transform_tree import TransformTree, chain_poses, is_moving
from xmodelkd_ros.console import print_notes, progress
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import BagError, ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.transforms import PoseTrack
from xmodelkd_ros.messages.clouds import read_certainty, used_fields
from xmodelkd_ros.messages.headers import without_prefix
from xmodelkd_ros.messages.images import image_to_array
from xmodelkd_ros.resources import label_map

_BASE_FRAME, _ODOMETRY = "base_link", "odometry"

_JPEG_QUALITY = 95
_SAMPLED_SWEEPS = 8
"""Sweeps whose ground truth is compared with the label set of training."""


@dataclass(frozen=True, eq=False)
class BagImage:
    """An image of a bag; attributes as in :class:`training.datasets.sequence.CameraImage`."""

    recorded: RecordedImage

    @property
    def camera(self) -> CameraModel:  # noqa: D102
        return self.recorded.camera

    @property
    def stamp_ns(self) -> int:  # noqa: D102
        return self.recorded.stamp_ns

    def jpeg(self) -> bytes:
        """The image as recorded if it is a JPEG, else encoded.

        Raises:
            ImageError: it cannot be decoded.
        """
        message = self.recorded.message
        data = bytes(message.data[:3])
        if hasattr(message, "format") and data == b"\xff\xd8\xff":
            return bytes(message.data)
        encoded = io.BytesIO()
        Image.fromarray(self.pixels()).save(encoded, "JPEG", quality=_JPEG_QUALITY)
        return encoded.getvalue()

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB; errors as in :meth:`jpeg`."""
        return image_to_array(self.recorded.message)

    def labels(self) -> None:
        """None: bags have no pixel labels."""
        return None


class BagSequence:
    """A recorded drive; a :class:`training.datasets.sequence.DriveSequence`. The bag stays open until :meth:`close`.

    Points count as fired at the times that :mod:`xmodelkd_ros.messages.point_times` finds; without, at the stamp.
    Without vehicle motion in ``/tf``, the vehicle counts as standing still. Without intensity, that is 0.

    Args:
        path: rosbag2 folder, ``.mcap`` or ``.db3`` file.
        topic: topic of the sweeps; may be empty if the bag has one PointCloud2 topic only.
        odometry: where the bag has no motion of the sensor, estimate it from the sweeps.

    Attributes:
        label_map: the label set of :meth:`labels`: the bag's own, or drive13 for a bag without ground truth.
        predicted: whether these labels are predictions of a model.
        cameras: the cameras whose calibration and extrinsic are in the bag.
        base_from_lidar: (4, 4) base_link from sensor; the identity if the bag lacks it.
        has_poses: whether ``/tf`` has motion of the sensor, or it was estimated.
        notes: notes for the user, one line each.

    Raises:
        BagError: the bag cannot be read, or has several PointCloud2 topics and ``topic`` is empty.
        CloudError: a cloud cannot be read.
    """

    intensity_range = (0.0, 255.0)

    def __init__(self, path: Path, topic: str = "", odometry: bool = False) -> None:
        self.path, self.name = Path(path), f"bag {Path(path).name}"
        self._reader = BagReader(self.path).__enter__()
        self._recording = RecordedDrive(self._reader, topic, label_map(LABELS), "fill")
        self.source = self._recording.source or DataSource(self.name, "as its owner says", "")
        self.label_map = self._recording.truth_map or label_map(LABELS)
        self.predicted = self._recording.prediction is not None
        self._defined = np.isin(np.arange(256), [c.id for c in self.label_map.classes])
        self._log_times_ns = self._recording.log_times_ns()
        if not self._log_times_ns:
            raise BagError(f"bag {self.path} has no readable sweep; record it again")
        self._index, self._sweep = 0, self._recording.sweep_at(self._log_times_ns, 0)
        if not used_fields(self._sweep.message)["intensity"]:
            self._recording.note("the clouds have no intensity: only models for any LiDAR label them well")
        self._start_ns = self._sweep.stamp_ns
        frame = self._sweep.message.header.frame_id
        self.cameras = tuple({camera.name: camera for camera in self._recording.cameras(frame).values()}.values())
        self._chain = TransformTree(self._reader, self._start_ns).chain_above(frame)
        names = [without_prefix(name) for name, _ in self._chain]
        mounted = names.index(_BASE_FRAME) + 1 if _BASE_FRAME in names else 0
        self.base_from_lidar = chain_poses(self._chain[:mounted], np.zeros(1))[0]
        point_times_s(self._sweep, self._recording.note)
        self.notes = [*self._reader.notes, *self._recording.notes]
        self.has_poses = is_moving(self._chain)
        if not self.has_poses and odometry:
            self._chain, self.has_poses = [(_ODOMETRY, self._estimated_track())], True
            self.notes.append(f"{self.name}: /tf has no motion of {frame}; it was estimated from the sweeps")
        elif not self.has_poses:
            self.notes.append(f"{self.name}: /tf has no motion of {frame}; images are matched as if it stood still")

    def _estimated_track(self) -> PoseTrack:
        """Poses of the sensor by time since the first sweep; each stands for the middle of its sweep."""
        sweeps = progress((self._timed_points(k) for k in range(len(self))), len(self), "odometry")
        return lidar_odometry(sweeps)

    def _timed_points(self, index: int) -> tuple[NDArray[np.float32], float]:
        fired_s = self.time_s(index)
        middle_s = float(fired_s.min() + fired_s.max()) / 2 if len(fired_s) else 0.0
        return self.cloud(index).xyz, (self.stamp_ns(index) - self._start_ns) * 1e-9 + middle_s

    def close(self) -> None:
        """Close the bag; its sweeps and images can no longer be read."""
        self._reader.__exit__(None, None, None)

    def __len__(self) -> int:
        return len(self._log_times_ns)

    def truth_notes(self) -> list[str]:
        """Notes on ground truth that has no counterpart in drive13, from some sweeps of the whole bag."""
        if self._sweep.truth is not None:
            for k in np.linspace(0, len(self) - 1, _SAMPLED_SWEEPS).astype(int):
                self._at(int(k))  # counts its classes
        return self._recording.truth_notes()

    def stamp_ns(self, index: int) -> int:
        """Stamp of a sweep, nanoseconds since 1970."""
        return self._at(index).stamp_ns

    def cloud(self, index: int) -> PointCloud:
        """The points of a sweep with finite coordinates.

        Raises:
            CloudError: the cloud cannot be read; the message names its stamp.
        """
        cloud, usable = self._at(index).cloud, _usable(self._at(index))
        assert cloud.intensity is not None, "filled in when the sweep was read"
        return PointCloud(cloud.xyz[usable], cloud.intensity[usable])

    def labels(self, index: int) -> NDArray[np.uint8]:
        """(N,) class ids of the points of :meth:`cloud`, 255 for unlabelled ones; errors as there."""
        sweep = self._at(index)
        truth = np.full(len(sweep.cloud.xyz), IGNORE, np.uint8)
        if sweep.own_truth is not None:
            truth = np.where(self._defined[sweep.own_truth], sweep.own_truth, IGNORE).astype(np.uint8)
        return np.asarray(truth[_usable(sweep)])

    def probability(self, index: int) -> NDArray[np.float32]:
        """(N,) probabilities of predicted labels, 1 where the clouds have none; errors as of :meth:`cloud`."""
        sweep = self._at(index)
        return np.nan_to_num(read_certainty(sweep.message)[0], nan=1.0)[_usable(sweep)]

    def time_s(self, index: int) -> NDArray[np.float32]:
        """(N,) when each point of :meth:`cloud` was fired, seconds relative to the sweep's stamp; zeros if unknown."""
        sweep = self._at(index)
        return point_times_s(sweep)[_usable(sweep)]

    def world_from_lidar(self, index: int) -> NDArray[np.float64]:
        """(4, 4) world from sensor at the sweep's stamp."""
        return self.poses(index, np.zeros(1))[0]

    def poses(self, index: int, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, 4, 4) world from sensor at (M,) times, seconds relative to the sweep's stamp."""
        return chain_poses(
            self._chain, (self.stamp_ns(index) - self._start_ns) * 1e-9 + np.asarray(times_s, np.float64)
        )

    def images(self, index: int) -> tuple[BagImage, ...]:
        """The image of each camera nearest in time to a sweep, at most 0.1 s away."""
        before = len(self._recording.notes)
        nearest = {image.camera.name: BagImage(image) for image in self._recording.images(self._at(index))}
        print_notes(self._recording.notes[before:])  # such as clocks that differ
        return tuple(nearest.values())

    def _at(self, index: int) -> RecordedSweep:
        """A sweep; the last one is cached."""
        if not 0 <= index < len(self):
            raise ConfigError(f"{self.path} has no sweep {index}; it has 0 to {len(self) - 1}")
        if index != self._index:
            self._sweep = self._recording.sweep_at(self._log_times_ns, index)
            self._index = index
        return self._sweep


def _usable(sweep: RecordedSweep) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(sweep.cloud.xyz).all(axis=1))
