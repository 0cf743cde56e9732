"""Camera model: projection of LiDAR points into images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.distortion import DistortionModel
from xmodelkd_ros.core.errors import ConfigError

_MIN_DEPTH_M = 0.1


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A calibrated camera.

    Attributes:
        name: used in topics and messages.
        width: image width in pixels.
        height: image height in pixels.
        intrinsic: (3, 3) K, pixels.
        from_lidar: (4, 4) extrinsic, LiDAR frame to the camera's optical frame
            (REP-103: x right, y down, z forward): p_camera = from_lidar @ p_lidar.
        distortion: lens distortion; None for rectified images.
    """

    name: str
    width: int
    height: int
    intrinsic: NDArray[np.float64]
    from_lidar: NDArray[np.float64]
    distortion: DistortionModel | None = None

    def __post_init__(self) -> None:
        if self.intrinsic.shape != (3, 3) or self.intrinsic[0, 0] <= 0 or self.intrinsic[1, 1] <= 0:
            raise ConfigError(f"camera '{self.name}' is not calibrated: focal lengths must be positive")
        if self.width < 1 or self.height < 1:
            raise ConfigError(f"camera '{self.name}' has images of {self.width}x{self.height} pixels; calibrate it")
        if self.from_lidar.shape != (4, 4):
            raise ConfigError(f"camera '{self.name}': extrinsic has shape {self.from_lidar.shape}, not (4, 4)")
        if not np.isfinite(self.from_lidar).all() or not np.isfinite(self.intrinsic).all():
            raise ConfigError(f"camera '{self.name}': extrinsic or intrinsic has numbers that are not finite")

    def project(self, xyz: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Project (N, 3) points in the LiDAR frame, metres, into the image.

        Returns:
            (N, 2) pixel coordinates u, v (the centre of the top left pixel is 0, 0; NaN behind the camera), and an
            (N,) mask of the points that project into the image.
        """
        index, points = self._in_front(xyz)
        pixels, inside = np.full((len(xyz), 2), np.nan), np.zeros(len(xyz), np.bool_)
        u, v, inside[index] = self._project(points)
        pixels[index, 0], pixels[index, 1] = u, v
        return pixels, inside

    def project_visible(
        self, xyz: NDArray[np.floating]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        """Project points and return only those inside the image (faster than :meth:`project`).

        Returns:
            (M,) indices, ascending; (M, 2) pixel coordinates; (M,) depths as in :meth:`depth`.
        """
        index, points = self._in_front(xyz)
        u, v, inside = self._project(points)
        return index[inside], np.column_stack([u[inside], v[inside]]), self._depth(points[inside])

    def depth(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N,) depth of (N, 3) points, metres: along the optical axis, for a fisheye the Euclidean distance."""
        return self._depth(self._to_camera_frame(xyz))

    def _in_front(self, xyz: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Indices of the points in front of the camera, and their coordinates in the camera frame."""
        if self._is_fisheye:
            points = self._to_camera_frame(xyz)
            index = np.flatnonzero(self._depth(points) > _MIN_DEPTH_M)
            return index, points[index]
        # Depth first: about half of a sweep is behind the camera.
        index = np.flatnonzero(xyz @ self.from_lidar[2, :3] > _MIN_DEPTH_M - self.from_lidar[2, 3])
        return index, self._to_camera_frame(xyz[index])

    def _project(
        self, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Pixel coordinates u and v of points in the camera frame, and a mask of those inside the image."""
        if self.distortion is None:
            x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
            valid = np.ones(len(points), np.bool_)
        else:
            plane, valid = self.distortion.distort(points)
            x, y = plane.T
        u, v = (row[0] * x + row[1] * y + row[2] for row in self.intrinsic[:2])
        inside = (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)
        return u, v, valid & inside

    def _depth(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(points, axis=1) if self._is_fisheye else points[:, 2])

    @property
    def _is_fisheye(self) -> bool:
        return self.distortion is not None and self.distortion.is_fisheye

    def _to_camera_frame(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(xyz @ self.from_lidar[:3, :3].T + self.from_lidar[:3, 3])


@dataclass(frozen=True, eq=False)
class CameraView:
    """A camera and its (H, W, 3) uint8 RGB image nearest in time to a sweep."""

    camera: CameraModel
    image: NDArray[np.uint8]
