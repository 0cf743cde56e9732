"""A stored real sweep with images, to compare the labels of back ends with the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError, one_line
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.opencv import decode_image
from xmodelkd_ros.resources import find_config

_FILE = "check_sweep.npz"
_PER_METRE = 100.0
"""Units per metre: positions are stored in whole centimetres."""


class LogitsPipeline(Protocol):
    """The part of a pipeline that comparisons need."""

    def logits(
        self, cloud: PointCloud, images: Sequence[CameraFrame | None] = ()
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(C, N) logits and (N,) whether the point has a usable position."""
        ...


def equal_labels(one: LogitsPipeline, other: LogitsPipeline, cameras: int) -> float:
    """Share of the stored sweep's points with the same label from two pipelines of one model.

    Args:
        one: pipeline.
        other: pipeline.
        cameras: number of images to use, at most the stored six.

    Raises:
        ConfigError: the package lacks the sweep.
    """
    cloud, camera_frames = read_parity_sweep(cameras)
    (first, valid), (second, _) = (pipeline.logits(cloud, camera_frames) for pipeline in (one, other))
    return float((first.argmax(axis=0) == second.argmax(axis=0))[valid].mean())


def read_parity_sweep(cameras: int) -> tuple[PointCloud, tuple[CameraFrame, ...]]:
    """The stored sweep and frames of its first cameras; arguments and errors as in :func:`equal_labels`."""
    path = find_config(_FILE)
    try:
        with np.load(path, allow_pickle=False) as stored:
            cloud = PointCloud(
                stored["xyz"].astype(np.float32) / np.float32(_PER_METRE), stored["intensity"].astype(np.float32)
            )
            names = [str(name) for name in stored["cameras"][:cameras]]
            camera_frames = tuple(
                _camera_frame(name, stored[f"{name}.jpeg"], stored[f"{name}.intrinsic"], stored[f"{name}.from_lidar"])
                for name in names
            )
    except Exception as error:  # errors of numpy, zipfile, zlib and OpenCV share no base class
        raise ConfigError(f"cannot read {path}: {one_line(error)}; install the package again") from error
    return cloud, camera_frames


def write_parity_sweep(path: Path, cloud: PointCloud, camera_frames: Sequence[tuple[CameraModel, bytes]]) -> None:
    """Store a sweep.

    Args:
        path: the file.
        cloud: the sweep; points without a position are omitted.
        camera_frames: each camera, scaled to its image, and the image as JPEG.
    """
    assert cloud.intensity is not None, "real sweeps have intensity"
    intensity, finite = cloud.intensity, np.isfinite(cloud.xyz).all(axis=1)
    arrays: dict[str, NDArray[np.generic]] = {
        "xyz": np.round(cloud.xyz[finite] * _PER_METRE).astype(np.int16),
        "intensity": np.round(intensity[finite]).astype(np.uint8),
        "cameras": np.array([camera.name for camera, _ in camera_frames]),
    }
    for camera, jpeg in camera_frames:
        arrays[f"{camera.name}.jpeg"] = np.frombuffer(jpeg, np.uint8)
        arrays[f"{camera.name}.intrinsic"] = camera.intrinsic
        arrays[f"{camera.name}.from_lidar"] = camera.from_lidar
    np.savez_compressed(path, allow_pickle=False, **arrays)


def _camera_frame(
    name: str, jpeg: NDArray[np.uint8], intrinsic: NDArray[np.float64], from_lidar: NDArray[np.float64]
) -> CameraFrame:
    pixels = decode_image(jpeg)
    height, width = pixels.shape[:2]
    return CameraFrame(CameraModel(name, width, height, intrinsic, from_lidar), pixels)
