"""CameraInfo messages to camera models."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.distortion import DistortionModel
from xmodelkd_ros.core.errors import ConfigError


def to_camera(info: Any, name: str, from_lidar: NDArray[np.float64], rectified: bool = False) -> CameraModel:
    """The camera that a CameraInfo describes, as its images are: of its region of interest, binned.

    Args:
        info: sensor_msgs/CameraInfo.
        name: the camera's name.
        from_lidar: (4, 4) extrinsic, LiDAR frame to the camera's optical frame.
        rectified: whether the images are (``image_rect``): undistorted, turned by ``info.r``, seen by ``info.p``.

    Raises:
        ConfigError: the camera is not calibrated, or has a lens that is not known.
    """
    if rectified:
        projection, turned = np.asarray(info.p, np.float64).reshape(3, 4), np.eye(4)
        intrinsic = projection[:, :3]
        _check_calibrated(name, intrinsic, "p")
        turned[:3, :3] = _rectifying(name, info)
        turned[:3, 3] = np.linalg.solve(intrinsic, projection[:, 3])  # the right one of a pair stands aside
        from_lidar, distortion = turned @ from_lidar, None
    else:
        intrinsic = np.asarray(info.k, np.float64).reshape(3, 3)
        _check_calibrated(name, intrinsic, "k")
        try:
            distortion = DistortionModel.from_coefficients(str(info.distortion_model), info.d)
        except ConfigError as error:
            raise ConfigError(f"camera '{name}': {error}") from error
    intrinsic, size = _of_the_image(info, intrinsic)
    return CameraModel(name, *size, intrinsic, from_lidar, distortion)


def _rectifying(name: str, info: Any) -> NDArray[np.float64]:
    """(3, 3) rotation of a rectified camera."""
    rotation = np.asarray(info.r, np.float64).reshape(3, 3)
    with np.errstate(all="ignore"):
        turns = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)  # of NaN it is not
    if not turns:
        raise ConfigError(
            f"camera '{name}' is not rectified: its CameraInfo has r = {_rounded(rotation)}, which is "
            "no rotation; calibrate it, or take its raw images"
        )
    return rotation


def _check_calibrated(name: str, intrinsic: NDArray[np.float64], field: str) -> None:
    upper = np.array_equal(intrinsic[[1, 2, 2], [0, 0, 1]], [0, 0, 0])
    if (
        not np.isfinite(intrinsic).all()
        or intrinsic[0, 0] <= 0
        or intrinsic[1, 1] <= 0
        or not upper
        or intrinsic[2, 2] != 1
    ):
        raise ConfigError(
            f"camera '{name}' is not calibrated: its CameraInfo has {field} = {_rounded(intrinsic)}; "
            "calibrate it, or leave it out"
        )


def _rounded(matrix: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.6g}") for value in matrix.ravel()]


def _of_the_image(info: Any, intrinsic: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """The intrinsic of the images of the region of interest, binned, and their width and height."""
    roi = info.roi
    whole = (int(info.width), int(info.height))
    size = np.array([roi.width or whole[0], roi.height or whole[1]])
    binning = np.array([max(int(info.binning_x), 1), max(int(info.binning_y), 1)])
    found = intrinsic.copy()
    # Pixel centres are whole numbers, so edges are at halves.
    found[:2, 2] = (found[:2, 2] + 0.5 - [roi.x_offset, roi.y_offset]) / binning - 0.5
    found[[0, 1], [0, 1]] /= binning
    found[0, 1] /= binning[0]
    width, height = size // binning
    return found, (int(width), int(height))
