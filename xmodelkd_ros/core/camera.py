"""Points to pixels of a camera. Training, the report and the node use this one geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ConfigError


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A pinhole camera whose images are free of distortion (rectified).

    Attributes:
        name: the camera's name, for people and topics.
        width: image width in pixels.
        height: image height in pixels.
        intrinsic: (3, 3) K, pixels.
        from_lidar: (4, 4) extrinsic, LiDAR frame to the camera's optical frame
            (REP-103: x right, y down, z forward): p_camera = from_lidar @ p_lidar.
    """

    name: str
    width: int
    height: int
    intrinsic: NDArray[np.float64]
    from_lidar: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.intrinsic.shape != (3, 3) or self.intrinsic[0, 0] <= 0 or self.intrinsic[1, 1] <= 0:
            raise ConfigError(f"camera '{self.name}' is not calibrated: its focal lengths must be positive")
        if self.from_lidar.shape != (4, 4):
            raise ConfigError(f"camera '{self.name}': extrinsic has shape {self.from_lidar.shape}, not (4, 4)")

    def project(self, xyz: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Project points into the image.

        Args:
            xyz: (N, 3) points in the LiDAR frame, metres.

        Returns:
            (N, 2) pixel coordinates u, v (the centre of the top left pixel is 0, 0), and an (N,)
            mask of the points in front of the camera that fall into the image.
        """
        points = xyz @ self.from_lidar[:3, :3].T + self.from_lidar[:3, 3]
        depth = points[:, 2]
        in_front = depth > 0.1
        with np.errstate(divide="ignore", invalid="ignore"):
            homogeneous = points @ self.intrinsic.T
            pixels = homogeneous[:, :2] / depth[:, None]
        limits = np.array([self.width, self.height]) - 0.5
        inside = ((pixels >= -0.5) & (pixels < limits)).all(axis=1)
        return pixels, in_front & inside
