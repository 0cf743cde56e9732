"""Points to pixels of a camera. Training, the report and the node use this one geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.lens import Lens

_NEAREST_M = 0.1


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A camera.

    Attributes:
        name: the camera's name, for people and topics.
        width: image width in pixels.
        height: image height in pixels.
        intrinsic: (3, 3) K, pixels.
        from_lidar: (4, 4) extrinsic, LiDAR frame to the camera's optical frame
            (REP-103: x right, y down, z forward): p_camera = from_lidar @ p_lidar.
        lens: how it bends rays; None if its images are free of distortion (rectified).
    """

    name: str
    width: int
    height: int
    intrinsic: NDArray[np.float64]
    from_lidar: NDArray[np.float64]
    lens: Lens | None = None

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
            (N, 2) pixel coordinates u, v (the centre of the top left pixel is 0, 0; NaN behind the camera), and an
            (N,) mask of the points in front of the camera that fall into the image.
        """
        points = self._seen_from(xyz)
        ahead = np.flatnonzero(self._depth(points) > _NEAREST_M)  # of a sweep these are few
        pixels, seen = np.full((len(points), 2), np.nan), np.zeros(len(points), np.bool_)
        pixels[ahead], seen[ahead] = self._project(points[ahead])
        return pixels, seen

    def _project(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """What :meth:`project` gives for points ahead, in the camera's frame."""
        if self.lens is None:
            plane, holds = points[:, :2] / points[:, 2:], np.ones(len(points), np.bool_)
        else:
            plane, holds = self.lens.bend(points)
        pixels = plane @ self.intrinsic[:2, :2].T + self.intrinsic[:2, 2]
        limits = np.array([self.width, self.height]) - 0.5
        return pixels, holds & ((pixels >= -0.5) & (pixels < limits)).all(axis=1)

    def depth(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N,) distance of (N, 3) points along the axis, metres; of a fisheye, which sees sideways, in space."""
        return self._depth(self._seen_from(xyz))

    def _depth(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        fisheye = self.lens is not None and self.lens.is_fisheye
        return np.asarray(np.linalg.norm(points, axis=1) if fisheye else points[:, 2])

    def _seen_from(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(xyz @ self.from_lidar[:3, :3].T + self.from_lidar[:3, 3])
