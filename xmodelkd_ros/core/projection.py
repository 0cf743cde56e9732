"""Range image: projection of points to pixels.

The beams of a spinning LiDAR have fixed elevations, rarely evenly spaced. Each row of the range image therefore
corresponds to one elevation of a beam table, and a point belongs to the row nearest to its own elevation (or to that of
its ring). In models for any LiDAR, a row corresponds to a beam of the vehicle's own LiDAR instead, in the order of
elevation: no beam is lost or split, whatever its elevation, and neighbouring rows are neighbouring beams. Columns are
evenly spaced in azimuth. If several points fall into one pixel, the image has the nearest one; all keep the index of
their pixel, from which they are labelled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.beam_check import misfit
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import CloudError, ModelError
from xmodelkd_ros.core.ground import leveling_rotation
from xmodelkd_ros.core.sensor import SensorSpec, gaps_deg, nearest
from xmodelkd_ros.core.usable_points import MAX_RANGE_M, MIN_RANGE_M, distances_m, usable_mask

BY_ELEVATION, BY_BEAM = "elevation", "beams"
"""What a row of the range image corresponds to."""

_LEVEL_CHECK, _LEVEL_GAIN = 2000, 0.1
"""Points of a sweep by which it is decided whether the sensor or its frame is tilted, and the share of them that must
fit better if it is the frame."""
NO_PIXEL = -1
NO_POINT = -1

_ELEVATION_BINS = 1 << 16
"""Steps of sin(elevation) in the row lookup table: 0.0017 degrees at the horizon, a hundredth of the finest beam
spacing in use."""

_RANGE_STEPS_PER_M = 256.0
"""Ranges are compared in steps of 4 mm, below the range noise of any LiDAR, so that 16 bits reach 256 m and numpy uses
a radix sort. Points beyond 256 m compare as equal."""


_CHECKED_POINTS = 1000
"""Points of a sweep whose ring numbers are compared with their elevations."""
_MIN_RING_CORRELATION = 0.75
"""Correlation of the points' elevations with those of their rings: 1, 0.8 if the cloud is tilted by 10 degrees, 0.6 if
the driver numbers a VLP-16's beams in firing order and the file from below."""
_ON_BEAMS = 0.15
"""Median distance of the points from the nearest beam, relative to that of the beams: 0.25 for points between them."""
_NEAR_BEAM = 0.5
"""Median distance of the points from their rings' beams, likewise, above which the rings are numbered otherwise."""


@dataclass(frozen=True)
class ProjectionSpec:
    """Size and rows of a model's range image.

    Attributes:
        beam_elevations_deg: elevation of each row, degrees, strictly descending (row 0 on top).
        width: number of columns. Column 0 starts at azimuth +180 degrees (behind) and azimuth decreases to the right:
            the image is as seen from the sensor, with +x at the centre.
        min_range_m: closer points (returns from the vehicle itself, zero positions) are invalid, as are those beyond
            ``MAX_RANGE_M``.
        rows: ``elevation``: a row has the same elevation for every LiDAR. ``beams``: the H rows are divided evenly
            among the B beams of the vehicle's LiDAR, from the top; ``beam_elevations_deg`` are those of a LiDAR that
            nothing is known of. With fewer beams than rows, a beam is repeated in its rows, so that none is empty;
            with more, several share a row.
    """

    beam_elevations_deg: tuple[float, ...]
    width: int
    min_range_m: float = MIN_RANGE_M
    rows: str = BY_ELEVATION

    def __post_init__(self) -> None:
        rows = np.asarray(self.beam_elevations_deg, np.float64)
        if rows.size == 0 or not np.all(np.diff(rows) < 0) or not np.all(np.abs(rows) <= 90):
            raise ModelError("projection.beam_elevations_deg must be strictly descending, within +-90")
        if self.rows not in (BY_ELEVATION, BY_BEAM):
            raise ModelError(f"projection.rows is '{self.rows}', but must be '{BY_ELEVATION}' or '{BY_BEAM}'")
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
    """Assignment of the N points of a sweep to the pixels of an H x W range image.

    Attributes:
        pixel: (N,) int32, row * W + column of each point; -1 for invalid points.
        point: (H * W,) int32, index of the nearest point of each pixel (or of the pixel that it repeats); -1 for empty
            pixels.
        range: (N,) float32 metres; NaN or infinite if the position is.
    """

    pixel: NDArray[np.int32]
    point: NDArray[np.int32]
    range: NDArray[np.float32]


class RangeProjector:
    """Projects sweeps into the range image of one model, for one sensor.

    Rows and columns are those of the sensor's own frame, and of its upright one if it is mounted upside down. Only if
    the points of the first sweep fit its beams better once they are levelled, the clouds come in a frame that is tilted
    against the sensor, and are levelled first.

    Args:
        spec: the model's range image.
        sensor: the vehicle's LiDAR, if it differs from the one that ``spec`` was made for.
    """

    def __init__(self, spec: ProjectionSpec, sensor: SensorSpec | None = None) -> None:
        self.spec = spec
        self._rows_from = _rows_from(sensor)
        self._upside_down = sensor is not None and sensor.upside_down
        sign = -1.0 if self._upside_down else 1.0
        rows = np.asarray(spec.beam_elevations_deg)
        elevations = _bin_elevations_deg()
        beams = rows if sensor is None else sign * np.asarray(sensor.beam_elevations_deg)
        # Snap to the sensor's own beams first, so that noise does not split one beam over two rows.
        beam = nearest(beams, elevations)
        row_of_beam = nearest(rows, beams)
        self._shown_row: NDArray[np.intp] | None = None
        if spec.rows == BY_BEAM:
            row_of_beam, self._shown_row = _rows_by_rank(beams, spec.height)
        self._row_of_sine = (row_of_beam[beam] * spec.width).astype(np.int32)
        self._row_of_ring: NDArray[np.int32] | None = None
        self._fitted_ring: NDArray[np.bool_] | None = None
        self._sensor = sensor
        self._level: RangeProjector | None = None
        self._may_be_level = sensor is not None and bool(sensor.roll_deg or sensor.pitch_deg)
        if sensor is not None and sensor.ring_elevations_deg:
            rings = sign * np.asarray(sensor.ring_elevations_deg)
            fitted = np.isfinite(rings)
            self._fitted_ring = None if fitted.all() else fitted
            known = np.where(fitted, rings, 0.0)
            row_of_ring = row_of_beam[nearest(beams, known)] if spec.rows == BY_BEAM else nearest(rows, known)
            self._row_of_ring = (row_of_ring * spec.width).astype(np.int32)

    def is_for(self, spec: ProjectionSpec, sensor: SensorSpec | None) -> bool:
        """Whether this is the projector of a sensor; what is not used here (intensities, height) may differ."""
        return spec == self.spec and _rows_from(sensor) == self._rows_from

    def project(self, cloud: PointCloud) -> RangeProjection:
        """Project a sweep: the pixel of each point and the nearest point of each pixel."""
        if self._may_be_level and self._decide(cloud.xyz):
            assert self._sensor is not None
            self._level = RangeProjector(self.spec, replace(self._sensor, roll_deg=0.0, pitch_deg=0.0))
        if self._level is not None:
            return self._level.project(replace(cloud, xyz=leveled(cloud.xyz, self._sensor)))
        x, y, z = axes = np.ascontiguousarray(cloud.xyz.T)
        distance = distances_m(axes.T)
        valid = usable_mask(cloud.xyz, self.spec.min_range_m, distance=distance)
        if self._upside_down:
            y, z = -y, -z
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

    def _decide(self, xyz: NDArray[np.float32]) -> bool:
        """Whether the points fit the beams better once they are levelled; decided by one sweep."""
        sample = xyz[np.random.default_rng(0).integers(0, len(xyz), _LEVEL_CHECK)] if len(xyz) else xyz
        sample = sample[usable_mask(sample, 1.0)]
        if self._sensor is None or len(sample) < _LEVEL_CHECK // 4:
            return False
        self._may_be_level = False
        beams = self._sensor.beam_elevations_deg
        before = misfit(beams, elevations_deg(sample))
        return misfit(beams, elevations_deg(leveled(sample, self._sensor))) < before - _LEVEL_GAIN

    def _columns(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.int32]:
        width = self.spec.width
        turn = np.arctan2(y, x) * np.float32(-width / (2 * np.pi)) + np.float32(width / 2)
        column: NDArray[np.int32] = turn.astype(np.int32)
        # -180 degrees equals +180 degrees; rounding may also exceed the right edge.
        column[column >= width] = 0
        return column

    def _rows(
        self, z: NDArray[np.float32], distance: NDArray[np.float32], ring: NDArray[np.integer] | None
    ) -> NDArray[np.int32]:
        """Row index times width of each point."""
        if ring is not None and self._row_of_ring is not None and self._rings_fit(z, distance, ring):
            return self._rows_of_rings(z, distance, ring, self._row_of_ring)
        half = np.float32(_ELEVATION_BINS / 2)
        sine = (z / distance * half + half).astype(np.int32)
        rows: NDArray[np.int32] = np.take(self._row_of_sine, sine, mode="clip")
        return rows

    def _rings_fit(self, z: NDArray[np.float32], distance: NDArray[np.float32], ring: NDArray[np.integer]) -> bool:
        """Whether the ring numbers mean the beams of the sensor's table; drivers number them differently.

        If the points lie on the table's beams, each must lie near that of its ring, or elevation tells the rows. In
        other clouds (motion-compensated, tilted) rings and elevations must at least be correlated.

        Raises:
            CloudError: they are not.
        """
        assert self._sensor is not None
        if len(ring) < _CHECKED_POINTS:
            return True
        sign = -1.0 if self._upside_down else 1.0
        table = sign * np.asarray(self._sensor.ring_elevations_deg)
        some = slice(None, None, len(ring) // _CHECKED_POINTS)
        elevation = np.degrees(np.arcsin(np.clip(z[some] / distance[some], -1, 1))).astype(np.float64)
        numbers = ring[some]
        expected = np.where((numbers >= 0) & (numbers < len(table)), table[np.clip(numbers, 0, len(table) - 1)], np.nan)
        known = np.isfinite(expected)
        if not known.any():
            return True
        beams = np.sort(sign * np.asarray(self._sensor.beam_elevations_deg))
        index, gaps = nearest(beams, elevation), gaps_deg(beams)
        if np.median(np.abs(elevation - beams[index]) / gaps[index]) <= _ON_BEAMS:
            deviation = np.abs(elevation - expected) / gaps[nearest(beams, np.where(known, expected, 0.0))]
            return bool(np.median(deviation[known]) <= _NEAR_BEAM)
        if known.sum() < _CHECKED_POINTS // 2 or np.ptp(expected[known]) == 0 or np.ptp(elevation[known]) < 1:
            return True
        correlation = float(np.corrcoef(elevation[known], expected[known])[0, 1])
        if correlation >= _MIN_RING_CORRELATION:
            return True
        raise CloudError(
            f"ring numbers and elevations of the points do not fit the sensor (correlation {correlation:.2f}); "
            "fit it again with 'xmodelkd fit-sensor', set projection_frame to the LiDAR's own frame, or give the tilt "
            "of the clouds' frame as roll_deg and pitch_deg in the sensor file"
        )

    def _rows_of_rings(
        self,
        z: NDArray[np.float32],
        distance: NDArray[np.float32],
        ring: NDArray[np.integer],
        row_of_ring: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """Row by ring number; by elevation for points whose ring the sensor's table lacks."""
        known = (ring >= 0) & (ring < len(row_of_ring))
        if self._fitted_ring is not None:
            known[known] = self._fitted_ring[ring[known]]
        if ring.size and not known.any():
            raise CloudError(
                f"ring {int(ring.min())}..{int(ring.max())} is outside the sensor's "
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
        return point if self._shown_row is None else self._without_gaps(point)

    def _without_gaps(self, point: NDArray[np.int32]) -> NDArray[np.int32]:
        """The image without empty columns of LiDARs with fewer firings than columns, nor empty rows."""
        image = without_single_gaps(point.reshape(self.spec.height, self.spec.width))
        return np.ascontiguousarray(image[self._shown_row]).ravel()


def leveled(xyz: NDArray[np.float32], sensor: SensorSpec | None) -> NDArray[np.float32]:
    """(N, 3) points in the level frame with the sensor's origin and heading."""
    if sensor is None:
        return xyz
    rotation = leveling_rotation(sensor.roll_deg, sensor.pitch_deg).astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(xyz @ rotation.T)


def without_single_gaps(image: NDArray[np.int32]) -> NDArray[np.int32]:
    """Fill empty pixels between two occupied ones of a row with the left one; ``image`` is (H, W), -1 where empty."""
    left, right = np.roll(image, 1, axis=1), np.roll(image, -1, axis=1)
    return np.where((image < 0) & (right >= 0), left, image)


def _rows_from(sensor: SensorSpec | None) -> tuple[object, ...]:
    """What a projector takes from a sensor; rings by their text, since NaN does not equal itself."""
    if sensor is None:
        return ()
    attitude = sensor.roll_deg, sensor.pitch_deg
    return sensor.beam_elevations_deg, str(sensor.ring_elevations_deg), attitude


@lru_cache(maxsize=1)
def _bin_elevations_deg() -> NDArray[np.float64]:
    """Elevation of each bin of the row lookup table, degrees."""
    sines = (np.arange(_ELEVATION_BINS) + 0.5) / (_ELEVATION_BINS / 2) - 1
    return np.asarray(np.degrees(np.arcsin(sines)))


def _rows_by_rank(beams: NDArray[np.float64], height: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row of each beam, and for each of ``height`` rows the row whose points it shows."""
    count = len(beams)
    rank = np.empty(count, np.intp)
    rank[np.argsort(-beams, kind="stable")] = np.arange(count)
    row_of_beam = rank * height // count
    shown = np.arange(height)
    if count < height:
        starts = np.sort(row_of_beam)
        shown = starts[np.searchsorted(starts, shown, side="right") - 1]
    return row_of_beam, shown
