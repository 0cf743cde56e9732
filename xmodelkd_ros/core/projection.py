"""Points to range-image pixels and back.

A spinning LiDAR fires its beams at fixed elevations, which are rarely evenly spaced. Each row
of the range image therefore stands for one elevation of a beam table, and a point goes to the
row whose elevation is nearest to its own (or to that of its ring). Columns are evenly spaced
in azimuth. Where several points fall into one pixel the nearest one is kept in the image; the
others keep the index of the pixel, so that they can be labelled from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import CloudError, ModelError
from xmodelkd_ros.core.sensor import SensorSpec, nearest

NO_PIXEL = -1
NO_POINT = -1

MAX_RANGE_M = 1000.0
"""No LiDAR on a vehicle sees as far. A point beyond would spoil the labels of its whole surroundings in the range
image, as no network was trained with such numbers."""

_ELEVATION_BINS = 1 << 16
"""Steps of sin(elevation) in the row table: 0.0017 degrees at the horizon, a hundredth of the
finest beam spacing in use."""

_RANGE_STEPS_PER_M = 256.0
"""Ranges are compared in steps of 4 mm, below the range noise of any LiDAR, so that 16 bits
reach 256 m and numpy sorts them by radix. Farther points count as equally far."""


@dataclass(frozen=True)
class ProjectionSpec:
    """Size and rows of a model's range image.

    Attributes:
        beam_elevations_deg: elevation of each row, degrees, strictly descending (row 0 on top).
        width: number of columns. Column 0 begins at azimuth +180 degrees (behind), azimuth falls
            to the right, so that the image is seen from the sensor and its centre looks along +x.
        min_range_m: closer points (returns from the vehicle itself, or the zero point) are invalid, as those beyond
            ``MAX_RANGE_M`` are.
    """

    beam_elevations_deg: tuple[float, ...]
    width: int
    min_range_m: float = 0.5

    def __post_init__(self) -> None:
        rows = np.asarray(self.beam_elevations_deg, np.float64)
        if rows.size == 0 or not np.all(np.diff(rows) < 0) or not np.all(np.abs(rows) <= 90):
            raise ModelError("projection.beam_elevations_deg must fall strictly from row to row, within +-90")
        if self.width < 1 or not 0 < self.min_range_m < MAX_RANGE_M:
            raise ModelError(
                f"projection.width is {self.width} and min_range_m {self.min_range_m}; both must be positive, and the "
                f"range below {MAX_RANGE_M:.0f} m"
            )

    @property
    def height(self) -> int:
        """Number of rows."""
        return len(self.beam_elevations_deg)


@dataclass(frozen=True, eq=False)
class RangeProjection:
    """Where the N points of a sweep lie in an H x W range image.

    Attributes:
        pixel: (N,) int32, row * W + column of each point; -1 for points without a usable position.
        point: (H * W,) int32, the nearest point of each pixel; -1 where the pixel is empty.
        range: (N,) float32 metres; NaN or infinite where the position is.
    """

    pixel: NDArray[np.int32]
    point: NDArray[np.int32]
    range: NDArray[np.float32]


class RangeProjector:
    """Projects sweeps into the range image of one model, for one sensor.

    Args:
        spec: the model's range image.
        sensor: the LiDAR at hand, where it is not the one the rows of ``spec`` stand for.
    """

    def __init__(self, spec: ProjectionSpec, sensor: SensorSpec | None = None) -> None:
        self.spec = spec
        rows = np.asarray(spec.beam_elevations_deg)
        sines = (np.arange(_ELEVATION_BINS) + 0.5) / (_ELEVATION_BINS / 2) - 1
        elevations = np.degrees(np.arcsin(sines))
        if sensor is not None:
            # Through the sensor's own beams, so that noise does not split one beam over two rows.
            beams = np.asarray(sensor.beam_elevations_deg)
            elevations = beams[nearest(beams, elevations)]
        self._row_of_sine = (nearest(rows, elevations) * spec.width).astype(np.int32)
        self._row_of_ring: NDArray[np.int32] | None = None
        if sensor is not None and sensor.ring_elevations_deg:
            rings = np.asarray(sensor.ring_elevations_deg)
            self._row_of_ring = (nearest(rows, rings) * spec.width).astype(np.int32)

    def project(self, cloud: PointCloud) -> RangeProjection:
        """Find the pixel of every point and the nearest point of every pixel."""
        x, y, z = (np.ascontiguousarray(cloud.xyz[:, axis]) for axis in range(3))
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.sqrt(x * x + y * y + z * z)
            valid = (distance >= self.spec.min_range_m) & (distance <= MAX_RANGE_M)
        if valid.all():
            pixel = self._columns(x, y) + self._rows(z, distance, cloud.ring)
            return RangeProjection(pixel, self._nearest_points(pixel, distance), distance)
        index = np.flatnonzero(valid).astype(np.int32)
        ring = None if cloud.ring is None else cloud.ring[index]
        pixel = np.full(len(cloud), NO_PIXEL, np.int32)
        pixel[index] = self._columns(x[index], y[index]) + self._rows(z[index], distance[index], ring)
        point = self._nearest_points(pixel[index], distance[index])
        occupied = point >= 0
        point[occupied] = index[point[occupied]]
        return RangeProjection(pixel, point, distance)

    def _columns(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.int32]:
        width = self.spec.width
        turn = np.arctan2(y, x) * np.float32(-width / (2 * np.pi)) + np.float32(width / 2)
        column: NDArray[np.int32] = turn.astype(np.int32)
        # -180 degrees is +180 degrees; rounding may also reach the right edge.
        column[column >= width] = 0
        return column

    def _rows(
        self, z: NDArray[np.float32], distance: NDArray[np.float32], ring: NDArray[np.integer] | None
    ) -> NDArray[np.int32]:
        """Row times width of each point."""
        if ring is not None and self._row_of_ring is not None:
            return self._rows_of_rings(z, distance, ring, self._row_of_ring)
        half = np.float32(_ELEVATION_BINS / 2)
        sine = (z / distance * half + half).astype(np.int32)
        rows: NDArray[np.int32] = np.take(self._row_of_sine, sine, mode="clip")
        return rows

    def _rows_of_rings(
        self,
        z: NDArray[np.float32],
        distance: NDArray[np.float32],
        ring: NDArray[np.integer],
        row_of_ring: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """By ring; by its own elevation where a point's ring is no beam of the sensor."""
        known = (ring >= 0) & (ring < len(row_of_ring))
        if ring.size and not known.any():
            raise CloudError(
                f"ring {int(ring.min())}..{int(ring.max())} is outside the sensor file's "
                f"0..{len(row_of_ring) - 1}; fit the sensor file again with 'xmodelkd fit-sensor'"
            )
        rows: NDArray[np.int32] = row_of_ring[np.where(known, ring, 0)]
        if not known.all():
            rows = np.where(known, rows, self._rows(z, distance, None)).astype(np.int32)
        return rows

    def _nearest_points(self, pixel: NDArray[np.int32], distance: NDArray[np.float32]) -> NDArray[np.int32]:
        point = np.full(self.spec.height * self.spec.width, NO_POINT, np.int32)
        steps = np.minimum(distance * np.float32(_RANGE_STEPS_PER_M), np.float32(65535)).astype(np.uint16)
        # Far to near, so that the nearest is written last. A stable sort of 16-bit keys is a radix sort.
        far_to_near = np.argsort(~steps, kind="stable")
        point[pixel[far_to_near]] = far_to_near
        return point
