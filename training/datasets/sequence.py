"""Common interface of all datasets: labelled sweeps, their camera images, calibration and poses."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from xmodelkd_ros.core.errors import ConfigError, ImageError, one_line
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.opencv import MAX_PIXELS, decode_image
from xmodelkd_ros.resources import label_map, translation

_JPEG_QUALITY = 95
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_TRAILER = 1 << 12
"""Bytes at the end of a JPEG file in which its end marker must stand; some cameras append data."""


class CameraImage(Protocol):
    """A camera image of a frame.

    Attributes:
        camera: intrinsic and static extrinsic.
        stamp_ns: time of exposure.
    """

    @property
    def camera(self) -> CameraModel: ...  # noqa: D102

    @property
    def stamp_ns(self) -> int: ...  # noqa: D102

    def jpeg(self) -> bytes:
        """The image encoded as JPEG."""

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB."""

    def labels(self) -> NDArray[np.uint8] | None:
        """(H, W) ids of the pixels in the drive's label set, 255 for the sky; None where only points have labels."""


@dataclass(frozen=True, eq=False)
class JpegFile:
    """A JPEG image on disk; attributes as in :class:`CameraImage`, and the files.

    Attributes:
        path: the image.
        labels_path: PNG file with the class ids of its pixels, if there is one.
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
        data = self._bytes()
        with _image_errors(self.path, "fetch or write it again"):
            if data.startswith(_JPEG_START) and _JPEG_END not in data[-_TRAILER:]:
                raise ValueError("it is truncated")  # OpenCV would fill it up with grey
            return decode_image(data)

    def labels(self) -> NDArray[np.uint8] | None:
        """(H, W) class ids of the pixels; None without a label file. Errors as in :meth:`jpeg`."""
        if self.labels_path is None:
            return None
        return _decoded_labels(_bytes(self.labels_path), self.labels_path)

    def _bytes(self) -> bytes:
        return _bytes(self.path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read image {path}: {error.strerror}; fetch or write it again") from error


def _decoded_labels(data: bytes, path: Path) -> NDArray[np.uint8]:
    with _image_errors(path, "write the drive again"), Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"its header claims {image.width} x {image.height} pixels")
        if image.mode != "L":
            raise ValueError(f"its mode is {image.mode}, not L")
        return np.asarray(image)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, from its header.

    Raises:
        ConfigError: it cannot be read.
    """
    with _image_errors(path, "fetch or write it again"), Image.open(path) as image:
        return image.size


@contextmanager
def _image_errors(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each decoder has its own exceptions for damaged files
        raise ConfigError(f"cannot read image {path}: {one_line(error)}; {remedy}") from error


def decode_jpeg(jpeg: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of an encoded image, with the pixels as stored, whatever its EXIF orientation.

    Raises:
        ImageError: it is damaged, or OpenCV is not installed.
    """
    try:
        return decode_image(jpeg)
    except ImageError:
        raise
    except Exception as error:  # cv2.error for sizes beyond its limit
        raise ImageError(
            f"cannot decode a JPEG image of {len(jpeg)} bytes; remove it, or record the drive again"
        ) from error


class PngFile(JpegFile):
    """A PNG image on disk."""

    def jpeg(self) -> bytes:
        """The image encoded as JPEG, with the same bytes in every call; errors as in :class:`JpegFile`.

        Exported bags hold JPEG images, and training keeps encoded images in memory, where PNG takes several times more.
        """
        buffer = io.BytesIO()
        Image.fromarray(self.pixels()).save(buffer, "jpeg", quality=_JPEG_QUALITY, subsampling=0)
        return buffer.getvalue()


class DriveSequence(Protocol):
    """A recorded or generated drive as frames of one sweep and one image per camera.

    Attributes:
        name: shown in messages and reports.
        source: dataset, licence and attribution for ``model.json``.
        label_map: the label set of :meth:`labels`.
        intensity_range: lower and upper end of the LiDAR's intensity scale.
        cameras: intrinsic and extrinsic of each camera.
        base_from_lidar: (4, 4) pose of the sensor in base_link (x forward, y left, z up).
        has_poses: whether the vehicle's motion is known; without, it counts as standing still, or has no pose.
        notes: notes for the user, one line each, such as what is missing.
    """

    name: str
    source: DataSource
    label_map: LabelMap
    intensity_range: tuple[float, float]
    cameras: tuple[CameraModel, ...]
    base_from_lidar: NDArray[np.float64]
    has_poses: bool
    notes: list[str]

    def __len__(self) -> int: ...

    def stamp_ns(self, index: int) -> int:
        """Stamp of a sweep, nanoseconds since 1970: its end, or the instant its points are motion-compensated to."""

    def cloud(self, index: int) -> PointCloud:
        """The points of a sweep as fired: each in the sensor frame at its own time.

        Where a dataset only has motion-compensated points, they are in the sensor frame at the sweep's stamp.
        """

    def labels(self, index: int) -> NDArray[np.uint8]:
        """(N,) class ids of the points of :meth:`cloud`, 255 for unlabelled ones."""

    def time_s(self, index: int) -> NDArray[np.float32]:
        """(N,) firing times of the points of :meth:`cloud`, seconds relative to the sweep's stamp."""

    def world_from_lidar(self, index: int) -> NDArray[np.float64]:
        """(4, 4) world from sensor at the sweep's stamp."""

    def poses(self, index: int, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, 4, 4) world from sensor at (M,) times, seconds relative to the sweep's stamp."""

    def images(self, index: int) -> Sequence[CameraImage]:
        """The image of each camera that belongs to a sweep."""


def is_predicted(drive: DriveSequence) -> bool:
    """Whether the labels of a drive are predictions of a model; only bags and folders that we wrote can say so."""
    return bool(getattr(drive, "predicted", False))


def labels_of(drive: DriveSequence, index: int, labels: str = LABELS) -> NDArray[np.uint8]:
    """(N,) labels of a sweep's points, translated into a label set."""
    return _lookup(drive.label_map, labels)[drive.labels(index)]


@lru_cache(maxsize=16)
def _lookup(source: LabelMap, target: str) -> NDArray[np.uint8]:
    return translation(source, label_map(target)).lookup
