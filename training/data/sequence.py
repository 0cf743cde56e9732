"""What every source of drives gives: labelled sweeps, images that belong to them, geometry and poses."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.transforms import quaternion


class CameraImage(Protocol):
    """One picture of a frame.

    Attributes:
        camera: its geometry; the extrinsic is static.
        stamp_ns: when it was taken.
    """

    @property
    def camera(self) -> CameraModel: ...  # noqa: D102

    @property
    def stamp_ns(self) -> int: ...  # noqa: D102

    def jpeg(self) -> bytes:
        """The picture as a JPEG file's bytes."""

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB."""


@dataclass(frozen=True, eq=False)
class JpegFile:
    """A picture that lies on disk; attributes as in :class:`CameraImage`."""

    camera: CameraModel
    stamp_ns: int
    path: Path

    def jpeg(self) -> bytes:
        """The file's bytes, untouched.

        Raises:
            ConfigError: the file cannot be read.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read image {self.path}: {error.strerror}; fetch or write it again") from error

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB; errors as in :meth:`jpeg`."""
        try:
            return np.asarray(Image.open(io.BytesIO(self.jpeg())).convert("RGB"))
        except OSError as error:
            raise ConfigError(f"cannot read image {self.path}: {error}; fetch or write it again") from error


class DriveSequence(Protocol):
    """A recorded or generated drive, frame by frame: one sweep, and an image of each camera.

    Attributes:
        name: for people and reports.
        source: where the data come from, for ``model.json``.
        label_map: the label set of :meth:`labels`.
        intensity_range: dark and bright in the LiDAR's intensity scale.
        cameras: geometry of the cameras.
        base_from_lidar: (4, 4) pose of the sensor in base_link (x forward, y left, z up).
    """

    name: str
    source: DataSource
    label_map: LabelMap
    intensity_range: tuple[float, float]
    cameras: tuple[CameraModel, ...]
    base_from_lidar: NDArray[np.float64]

    def __len__(self) -> int: ...

    def stamp_ns(self, index: int) -> int:
        """Stamp of a sweep, nanoseconds since 1970: the instant it was complete."""

    def cloud(self, index: int) -> PointCloud:
        """The points of a sweep as fired: each in the frame of the sensor at its own instant."""

    def labels(self, index: int) -> NDArray[np.uint8]:
        """(N,) class ids of the points of :meth:`cloud`, 255 where there is none."""

    def time_s(self, index: int) -> NDArray[np.float32]:
        """(N,) when each point of :meth:`cloud` was fired, seconds relative to the sweep's stamp."""

    def world_from_lidar(self, index: int) -> NDArray[np.float64]:
        """(4, 4) pose of the sensor at the sweep's stamp."""

    def images(self, index: int) -> Sequence[CameraImage]:
        """The picture of each camera that belongs to a sweep."""


class PoseTrack:
    """Poses over time: positions and (renormalised) quaternions are linear between the given ones.

    Args:
        times_s: (F,) ascending, seconds.
        positions: (F, 3) metres.
        quaternions: (F, 4) x, y, z, w; signs may jump.
    """

    def __init__(self, times_s: ArrayLike, positions: ArrayLike, quaternions: ArrayLike) -> None:
        self.times_s = np.asarray(times_s, np.float64)
        self.positions = np.asarray(positions, np.float64)
        signed = np.array(quaternions, np.float64)
        flips = np.cumprod(np.where((signed[1:] * signed[:-1]).sum(axis=1) < 0, -1.0, 1.0))
        signed[1:] *= flips[:, None]
        self.quaternions = signed

    @classmethod
    def of_matrices(cls, times_s: ArrayLike, poses: NDArray[np.float64]) -> PoseTrack:
        """A track from (F, 4, 4) poses."""
        return cls(times_s, poses[:, :3, 3], [quaternion(rotation) for rotation in poses[:, :3, :3]])

    def poses(self, times_s: ArrayLike) -> NDArray[np.float64]:
        """(M, 4, 4) poses at (M,) times; before the first and after the last time these two."""
        times = np.atleast_1d(np.asarray(times_s, np.float64))
        position = np.column_stack([np.interp(times, self.times_s, column) for column in self.positions.T])
        heading = np.column_stack([np.interp(times, self.times_s, column) for column in self.quaternions.T])
        return _matrices(position, heading)


def _matrices(positions: NDArray[np.float64], quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, 4, 4) transforms; :func:`xmodelkd_ros.core.transforms.transform` for many."""
    x, y, z, w = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    matrices = np.zeros((len(x), 4, 4))
    matrices[:, 0, :3] = np.column_stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)])
    matrices[:, 1, :3] = np.column_stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)])
    matrices[:, 2, :3] = np.column_stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)])
    matrices[:, :3, 3] = positions
    matrices[:, 3, 3] = 1.0
    return matrices
