"""Visibility of points in camera images, and the images of a sweep.

Camera and LiDAR have different positions, so that some points are occluded in the image. A depth buffer of the points
themselves finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ImageError

MAX_VIEWS = 2
"""Cameras per point: neighbouring cameras overlap at their edges; three at one point are not expected."""
NO_CAMERA = -1

_SHAPE_TOLERANCE = 0.02
"""Relative tolerance of an image's aspect ratio against the calibration, for rounding to whole pixels."""

_CELL = 1 / 80
"""Cell size of the depth buffer, relative to the image's longer side, which bounds the number of cells for any aspect
ratio: about the spacing of two beams."""
_TOLERANCE_M, _RELATIVE_TOLERANCE = 0.5, 0.1
"""Depth tolerance: a point is occluded if it lies farther behind the nearest point of its cell. Metres, plus a share of
the depth, since a cell covers a long stretch of distant flat ground. On generated drives this keeps 96 % of the visible
points and removes four in five of the occluded ones."""


@dataclass(frozen=True, eq=False)
class PointVisibility:
    """Cameras in which each of N points is visible, ordered by the point's distance from the image centre.

    Attributes:
        camera: (N, 2) int8 index of the camera, -1 for none.
        uv: (N, 2, 2) float32 image coordinates, -1 to 1 from edge to edge (right, down); 0 for none.
    """

    camera: NDArray[np.int8]
    uv: NDArray[np.float32]

    @classmethod
    def find(cls, points: int, cameras: Iterable[tuple[int, CameraModel, NDArray[np.floating]]]) -> PointVisibility:
        """Project points into all cameras.

        Args:
            points: N.
            cameras: index of each camera, its model, and the (N, 3) points in the LiDAR frame at its exposure.
        """
        visibility = cls(np.full((points, MAX_VIEWS), NO_CAMERA, np.int8), np.zeros((points, MAX_VIEWS, 2), np.float32))
        best = np.full((points, MAX_VIEWS), np.inf)
        for number, camera, xyz in cameras:
            index, uv = visible_points(camera, xyz)
            visibility._insert(index, number, uv, best)
        return visibility

    def _insert(
        self,
        index: NDArray[np.intp],
        number: int,
        uv: NDArray[np.float64],
        best: NDArray[np.float64],
    ) -> None:
        """Insert a camera, keeping each point's cameras sorted by distance from the image centre.

        Args:
            index: (M,) indices of the points visible in the camera.
            number: index of the camera.
            uv: (M, 2) their image coordinates.
            best: (N, 2) distances from the image centre of the cameras inserted so far, changed in place.
        """
        distance = np.abs(uv).max(axis=1)
        for rank in range(MAX_VIEWS):
            nearer = distance < best[index, rank]
            at = index[nearer]
            # Lower ranks move back by one.
            for table in (self.camera, self.uv, best):
                table[at, rank + 1 :] = table[at, rank:-1]
            self.camera[at, rank], self.uv[at, rank], best[at, rank] = number, uv[nearer], distance[nearer]
            index, uv, distance = index[~nearer], uv[~nearer], distance[~nearer]


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """An image matched to a sweep.

    Attributes:
        camera: the camera.
        pixels: (H, W, 3) uint8 RGB, of the calibrated size or scaled.
        motion: (4, 4) transform from the LiDAR frame at the sweep's stamp to the LiDAR frame at the exposure; None if
            the vehicle stood still.

    Raises:
        ImageError: the image's aspect ratio differs from the calibration.
    """

    camera: CameraModel
    pixels: NDArray[np.uint8]
    motion: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        height, width = self.pixels.shape[:2]
        calibrated = self.camera.height / self.camera.width
        if abs(height / width / calibrated - 1) > _SHAPE_TOLERANCE:
            raise ImageError(
                f"an image of camera '{self.camera.name}' is {width}x{height}, but the camera is calibrated for "
                f"{self.camera.width}x{self.camera.height}; calibrate it for images of this shape"
            )


@dataclass(frozen=True, eq=False)
class SweepImages:
    """The images of a sweep and the visibility of its points.

    Attributes:
        pixels: (H, W, 3) uint8 RGB image of each camera, by camera index; None for a missing image.
        views: visibility of the sweep's points.
    """

    pixels: tuple[NDArray[np.uint8] | None, ...]
    views: PointVisibility

    @classmethod
    def from_frames(cls, xyz: NDArray[np.floating], camera_frames: Sequence[CameraFrame | None]) -> SweepImages:
        """Find which of a sweep's points are visible in its images.

        Args:
            xyz: (N, 3) points in the LiDAR frame at the sweep's stamp.
            camera_frames: one for each camera; None for a missing image.
        """
        with np.errstate(invalid="ignore", over="ignore"):  # invalid points
            points = xyz.astype(np.float64)  # once for all cameras
            cameras = [
                (number, _motion_compensated(frame), points)
                for number, frame in enumerate(camera_frames)
                if frame is not None
            ]
            views = PointVisibility.find(len(xyz), cameras)
        return cls(tuple(None if frame is None else frame.pixels for frame in camera_frames), views)

    def visible_counts(self) -> tuple[int, ...]:
        """Number of points assigned to each camera; each point counts for at most :data:`MAX_VIEWS` cameras."""
        counts = np.bincount(self.views.camera.ravel() - NO_CAMERA, minlength=len(self.pixels) + 1)
        return tuple(int(count) for count in counts[1:])


def _motion_compensated(frame: CameraFrame) -> CameraModel:
    """The camera at its exposure, with an extrinsic from the LiDAR frame at the sweep's stamp."""
    if frame.motion is None:
        return frame.camera
    return replace(frame.camera, from_lidar=frame.camera.from_lidar @ frame.motion)


def visible_points(camera: CameraModel, xyz: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(M,) indices of the points visible in an image, and (M, 2) image coordinates, -1 to 1 from edge to edge."""
    index, pixels, depth = camera.project_visible(xyz)
    size = np.array([camera.width, camera.height])
    side = max(camera.width, camera.height) * _CELL
    cell = np.floor((pixels + 0.5) / side).astype(np.int64)
    cell_index = np.ravel_multi_index(tuple(cell.T), tuple(np.ceil(size / side).astype(int) + 1))
    nearest = np.full(cell_index.max(initial=0) + 1, np.inf)
    np.minimum.at(nearest, cell_index, depth)
    is_visible = depth <= nearest[cell_index] * (1 + _RELATIVE_TOLERANCE) + _TOLERANCE_M
    return index[is_visible], (pixels[is_visible] + 0.5) / size * 2 - 1
