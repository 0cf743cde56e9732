"""What every source of drives gives: labelled sweeps, images that belong to them, geometry and poses."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.config.label_sets import LABELS
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError, one_line
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.opencv import MAX_PIXELS
from xmodelkd_ros.resources import label_map, translation

_JPEG_QUALITY = 95


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

    def labels(self) -> NDArray[np.uint8] | None:
        """(H, W) ids of the pixels in the drive's label set, 255 for the sky; None where only points have labels."""


@dataclass(frozen=True, eq=False)
class JpegFile:
    """A picture that lies on disk; attributes as in :class:`CameraImage`, and the files.

    Attributes:
        path: the picture.
        labels_path: a PNG file with the ids of its pixels, if there is one.
    """

    camera: CameraModel
    stamp_ns: int
    path: Path
    labels_path: Path | None = None

    def jpeg(self) -> bytes:
        """The file's bytes, untouched.

        Raises:
            ConfigError: the file cannot be read.
        """
        return self._bytes()

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB; errors as in :meth:`jpeg`."""
        return _decoded(self._bytes(), "RGB", self.path, "fetch or write it again")

    def labels(self) -> NDArray[np.uint8] | None:
        """(H, W) ids of the pixels, where there is a file of them; errors as in :meth:`jpeg`."""
        if self.labels_path is None:
            return None
        return _decoded(_bytes(self.labels_path), "L", self.labels_path, "write the drive again")

    def _bytes(self) -> bytes:
        return _bytes(self.path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read image {path}: {error.strerror}; fetch or write it again") from error


def _decoded(data: bytes, mode: str, path: Path, remedy: str) -> NDArray[np.uint8]:
    """The pixels of a file, three of RGB or one of L, which must have one."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"it says that it has {picture.width} x {picture.height} pixels")
            if mode == "L" and picture.mode != mode:
                raise ValueError(f"its mode is {picture.mode}, not {mode}")
            return np.asarray(picture.convert(mode))
    except Exception as error:  # damaged files go wrong in each decoder's own way
        raise ConfigError(f"cannot read image {path}: {one_line(error)}; {remedy}") from error


class PngFile(JpegFile):
    """A picture that lies on disk as PNG."""

    def jpeg(self) -> bytes:
        """The picture as JPEG, the same bytes in every call; errors as in :class:`JpegFile`.

        Bags say JPEG of their images, and training keeps encoded images in memory, where PNG is several times as large.
        """
        buffer = io.BytesIO()
        Image.fromarray(self.pixels()).save(buffer, "jpeg", quality=_JPEG_QUALITY, subsampling=0)
        return buffer.getvalue()


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
        """Stamp of a sweep, nanoseconds since 1970: the instant it was complete, or that its points are brought to."""

    def cloud(self, index: int) -> PointCloud:
        """The points of a sweep as fired: each in the frame of the sensor at its own instant.

        A data set whose points are compensated for motion, without a way back, has them all at the sweep's stamp.
        """

    def labels(self, index: int) -> NDArray[np.uint8]:
        """(N,) class ids of the points of :meth:`cloud`, 255 where there is none."""

    def time_s(self, index: int) -> NDArray[np.float32]:
        """(N,) when each point of :meth:`cloud` was fired, seconds relative to the sweep's stamp."""

    def world_from_lidar(self, index: int) -> NDArray[np.float64]:
        """(4, 4) pose of the sensor at the sweep's stamp."""

    def poses(self, index: int, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, 4, 4) poses of the sensor at (M,) times, seconds relative to the sweep's stamp."""

    def images(self, index: int) -> Sequence[CameraImage]:
        """The picture of each camera that belongs to a sweep."""


def labels_of(drive: DriveSequence, index: int, labels: str = LABELS) -> NDArray[np.uint8]:
    """(N,) labels of a sweep's points in another label set than the drive's own."""
    return _lookup(drive.label_map, labels)[drive.labels(index)]


@lru_cache(maxsize=16)
def _lookup(source: LabelMap, target: str) -> NDArray[np.uint8]:
    return translation(source, label_map(target)).lookup
