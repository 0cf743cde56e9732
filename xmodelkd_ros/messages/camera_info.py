"""Conversion of CameraInfo messages to camera models."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.distortion import DistortionModel
from xmodelkd_ros.core.errors import ConfigError


def to_camera(info: Any, name: str, from_lidar: NDArray[np.float64], rectified: bool = False) -> CameraModel:
    """Camera model of a CameraInfo, with its region of interest and binning applied.

    Args:
        info: sensor_msgs/CameraInfo.
        name: the camera's name.
        from_lidar: (4, 4) extrinsic, LiDAR frame to the camera's optical frame.
        rectified: whether the images are rectified (``image_rect``): undistorted, rotated by ``info.r``, projected by
            ``info.p``.

    Raises:
        ConfigError: the camera is not calibrated, or its distortion model is unknown.
    """
    if rectified:
        projection, rectification = np.asarray(info.p, np.float64).reshape(3, 4), np.eye(4)
        intrinsic = projection[:, :3]
        _check_calibrated(name, intrinsic, "p")
        rectification[:3, :3] = _rectifying_rotation(name, info)
        rectification[:3, 3] = np.linalg.solve(intrinsic, projection[:, 3])  # baseline of the right camera of a pair
        from_lidar, distortion = rectification @ from_lidar, None
    else:
        intrinsic = np.asarray(info.k, np.float64).reshape(3, 3)
        _check_calibrated(name, intrinsic, "k")
        try:
            distortion = DistortionModel.from_coefficients(str(info.distortion_model), info.d)
        except ConfigError as error:
            raise ConfigError(f"camera '{name}': {error}") from error
    intrinsic, size = _crop_and_bin(info, intrinsic)
    return CameraModel(name, *size, intrinsic, from_lidar, distortion)


def _rectifying_rotation(name: str, info: Any) -> NDArray[np.float64]:
    """(3, 3) rectifying rotation, validated."""
    rotation = np.asarray(info.r, np.float64).reshape(3, 3)
    with np.errstate(all="ignore"):
        is_rotation = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)  # False for NaN
    if not is_rotation:
        raise ConfigError(
            f"camera '{name}' is not rectified: its CameraInfo has r = {_rounded(rotation)}, which is "
            "not a rotation; calibrate it, or use its raw images"
        )
    return rotation


def _check_calibrated(name: str, intrinsic: NDArray[np.float64], field: str) -> None:
    is_triangular = np.array_equal(intrinsic[[1, 2, 2], [0, 0, 1]], [0, 0, 0])
    if (
        not np.isfinite(intrinsic).all()
        or intrinsic[0, 0] <= 0
        or intrinsic[1, 1] <= 0
        or not is_triangular
        or intrinsic[2, 2] != 1
    ):
        raise ConfigError(
            f"camera '{name}' is not calibrated: its CameraInfo has {field} = {_rounded(intrinsic)}; "
            "calibrate it, or leave it out"
        )


def _rounded(matrix: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.6g}") for value in matrix.ravel()]


def _crop_and_bin(info: Any, intrinsic: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Intrinsic, width and height of the region of interest after binning."""
    roi = info.roi
    size = np.array([roi.width or int(info.width), roi.height or int(info.height)])
    binning = np.array([max(int(info.binning_x), 1), max(int(info.binning_y), 1)])
    cropped = intrinsic.copy()
    # Pixel centres are at integers, pixel edges at halves.
    cropped[:2, 2] = (cropped[:2, 2] + 0.5 - [roi.x_offset, roi.y_offset]) / binning - 0.5
    cropped[[0, 1], [0, 1]] /= binning
    cropped[0, 1] /= binning[0]
    width, height = size // binning
    return cropped, (int(width), int(height))
