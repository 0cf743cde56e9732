"""Points to pixels of a camera. Training, the report and the node use this one geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.distortion import DistortionModel
from xmodelkd_ros.core.errors import ConfigError

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
        distortion: how it bends rays; None if its images are free of distortion (rectified).
    """

    name: str
    width: int
    height: int
    intrinsic: NDArray[np.float64]
    from_lidar: NDArray[np.float64]
    distortion: DistortionModel | None = None

    def __post_init__(self) -> None:
        if self.intrinsic.shape != (3, 3) or self.intrinsic[0, 0] <= 0 or self.intrinsic[1, 1] <= 0:
            raise ConfigError(f"camera '{self.name}' is not calibrated: its focal lengths must be positive")
        if self.width < 1 or self.height < 1:
            raise ConfigError(f"camera '{self.name}' has images of {self.width}x{self.height} pixels; calibrate it")
        if self.from_lidar.shape != (4, 4):
            raise ConfigError(f"camera '{self.name}': extrinsic has shape {self.from_lidar.shape}, not (4, 4)")
        if not np.isfinite(self.from_lidar).all() or not np.isfinite(self.intrinsic).all():
            raise ConfigError(f"camera '{self.name}': extrinsic or intrinsic has numbers that are not finite")

    def project(self, xyz: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Project points into the image.

        Args:
            xyz: (N, 3) points in the LiDAR frame, metres.

        Returns:
            (N, 2) pixel coordinates u, v (the centre of the top left pixel is 0, 0; NaN behind the camera), and an
            (N,) mask of the points in front of the camera that fall into the image.
        """
        ahead, points = self._ahead(xyz)
        pixels, seen = np.full((len(xyz), 2), np.nan), np.zeros(len(xyz), np.bool_)
        u, v, seen[ahead] = self._project(points)
        pixels[ahead, 0], pixels[ahead, 1] = u, v
        return pixels, seen

    def project_visible(
        self, xyz: NDArray[np.floating]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        """The points that fall into the image: :meth:`project`, where only these matter.

        Args:
            xyz: (N, 3) points in the LiDAR frame, metres.

        Returns:
            (M,) their indices, ascending; (M, 2) their pixel coordinates; (M,) their depths, as :meth:`depth`.
        """
        ahead, points = self._ahead(xyz)
        u, v, seen = self._project(points)
        return ahead[seen], np.column_stack([u[seen], v[seen]]), self._depth(points[seen])

    def depth(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N,) distance of (N, 3) points along the axis, metres; of a fisheye, which sees sideways, in space."""
        return self._depth(self._seen_from(xyz))

    def _ahead(self, xyz: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Indices of the points in front of the camera, and these points in its frame."""
        if self._is_fisheye:
            points = self._seen_from(xyz)
            ahead = np.flatnonzero(self._depth(points) > _NEAREST_M)
            return ahead, points[ahead]
        # Along the axis first: of a sweep half is behind.
        ahead = np.flatnonzero(xyz @ self.from_lidar[2, :3] > _NEAREST_M - self.from_lidar[2, 3])
        return ahead, self._seen_from(xyz[ahead])

    def _project(
        self, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Pixels u and v of points ahead, in the camera's frame, and whether they fall into the image."""
        if self.distortion is None:
            x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
            holds = np.ones(len(points), np.bool_)
        else:
            plane, holds = self.distortion.distort(points)
            x, y = plane.T
        u, v = (row[0] * x + row[1] * y + row[2] for row in self.intrinsic[:2])
        inside = (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)
        return u, v, holds & inside

    def _depth(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(points, axis=1) if self._is_fisheye else points[:, 2])

    @property
    def _is_fisheye(self) -> bool:
        return self.distortion is not None and self.distortion.is_fisheye

    def _seen_from(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(xyz @ self.from_lidar[:3, :3].T + self.from_lidar[:3, 3])


@dataclass(frozen=True, eq=False)
class CameraView:
    """A camera and its (H, W, 3) uint8 RGB image nearest to the sweep's stamp."""

    camera: CameraModel
    image: NDArray[np.uint8]
