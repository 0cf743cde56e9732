"""Ground near the vehicle, from the points of a sweep: its plane, the sensor's height and attitude, and its intensity.

Every LiDAR on a road vehicle or robot sees the ground around it. Its plane tells at which height and in which attitude
the sensor is mounted, and its surface is one that all sensors see, so that its intensity tells their scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 16_000
"""Points of a sweep that are looked at."""
_NEAREST_M, _FARTHEST_M = 1.5, 30.0
"""Horizontal distance of the points of which some show the ground. Nearer ones are the vehicle's own; farther ones lie
on another slope. A LiDAR 3 m above the ground with beams down to -15 degrees sees it from 11 m on."""
_RINGS, _SECTORS = 16, 36
"""Cells around the sensor: rings whose width grows with the distance, and sectors."""
_MAX_TILT_DEG = 25.0
_DEEPEST_M, _HIGHEST_M = 6.0, 0.3
"""The ground lies at most this far below or above the origin (at the ground itself in clouds in base_link)."""
_TOLERANCE_M, _TOLERANCE_SLOPE = 0.1, 0.01
"""Deviation of the ground from a plane, and its growth with the distance."""
_TRIPLES, _LEVELS = 200, 48
"""Planes that are tried: through three cells each, and level ones."""
_BELOW_PENALTY = 0.7
"""Weight of the cells that reach below a plane, which the ground does not."""
_REFINEMENTS = (2.0, 1.0, 1.0)
"""Tolerances of the fits to the plane's points, one after the other, in multiples of the tolerance."""
_MIN_CELLS, _MIN_POINTS = 12, 100
_MIN_SHARE = 0.25
_MIN_SECTORS = 5
_MIN_DROP_M = 0.3
"""Height from which a plane below the sensor counts as ground even if one above it is larger (the ceiling of a car
park); the ground of a cloud in base_link is as good as none in this question."""
_FLIPPED_GAIN = 1.5
"""Score of the plane above an upside-down sensor, relative to that of any plane below."""
_DEPTH = 3
"""Cells of a sector on the plane from which the ground is seen there. Where the field of view ends on walls, the lowest
points of all sectors may lie in a plane too, with one or two cells in each."""
_ABOUT_X = np.array([1.0, -1.0, -1.0])
"""Half a turn about the x axis."""
_INTENSITY_M = ((3.0, 15.0), (3.0, _FARTHEST_M))
"""Horizontal distances within which points tell the ground's intensity; the second only if the first has too few."""
_INTENSITY_HEIGHT_M = 0.2
_INTENSITY_POINTS = 50
_BRIGHTER_HALF = (0.5, 0.9)
"""Quantiles of the ground's intensities between which they count."""


@dataclass(frozen=True)
class Ground:
    """The ground plane in the sensor's frame.

    Attributes:
        up: unit vector in the sensor's frame that points up from the ground.
        height_m: height of the sensor's origin above the plane; about 0 for a cloud in base_link.
        share: share of the area around the vehicle whose lowest points lie on the plane, 0 to 1.
        intensity: of the plane's points (:func:`usual_brightness`); None without any (no such field, or NaN).
    """

    up: tuple[float, float, float]
    height_m: float
    share: float
    intensity: float | None = None

    @property
    def roll_deg(self) -> float:
        """Roll of the sensor, as in :func:`leveling_rotation`; +-180 if upside down."""
        return float(np.degrees(np.arctan2(self.up[1], self.up[2])))

    @property
    def pitch_deg(self) -> float:
        """Pitch of the sensor, likewise; positive if its x axis points below the horizon."""
        return float(np.degrees(np.arcsin(np.clip(-self.up[0], -1, 1))))

    @property
    def upside_down(self) -> bool:
        """Whether the ground is on the sensor's upper side."""
        return self.up[2] < 0


def leveling_rotation(roll_deg: float, pitch_deg: float) -> NDArray[np.float64]:
    """(3, 3) rotation that takes vectors from the sensor's frame to the levelled frame: Ry(pitch) Rx(roll).

    The levelled frame has the sensor's origin and heading, z up. The angles are those of a REP-103 transform from the
    levelled frame (parent) to the sensor's (child) with yaw 0, such as ``static_transform_publisher --roll --pitch``
    takes: positive pitch lowers the x axis, positive roll raises the y axis. Roll 180 turns a sensor that is mounted
    upside down upright, with its x axis still ahead.
    """
    roll, pitch = np.radians((roll_deg, pitch_deg))
    about_x = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]])
    about_y = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
    return np.asarray(about_y @ about_x)


def is_upside_down(roll_deg: float, pitch_deg: float) -> bool:
    """Whether the z axis of a sensor in this attitude points to the ground."""
    return bool(leveling_rotation(roll_deg, pitch_deg)[2, 2] < 0)


def find_ground(xyz: NDArray[np.floating], intensity: NDArray[np.floating] | None = None) -> Ground | None:
    """Find the ground plane in one sweep; 3 to 5 ms.

    Planes through cells of the area around the sensor are tried (RANSAC, Fischler and Bolles 1981): the ground is the
    one on which most cells' lowest points lie, and below which hardly any do. It is within 25 degrees of the sensor's
    own x-y plane, or that turned upside down.

    Args:
        xyz: (N, 3) positions, metres; NaN and other unusable ones are left out.
        intensity: (N,) intensities in any scale, or None.

    Returns:
        The ground, or None if no plane is clearly the ground: too few points, a wall in front, a map's frame.
    """
    index = _sample(len(xyz))
    points = np.asarray(xyz[index], np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.hypot(points[:, 0], points[:, 1])
        near = (distance >= _NEAREST_M) & (distance <= _FARTHEST_M) & (np.abs(points[:, 2]) < _FARTHEST_M)
    if np.count_nonzero(near) < _MIN_POINTS:
        return None
    values = None if intensity is None else np.asarray(intensity[index][near], np.float64)
    points = points[near]
    plane = _lowest_plane(points)
    if plane is None or not plane.is_clear:
        flipped = _lowest_plane(points * _ABOUT_X)
        if flipped is not None and flipped.is_clear and (plane is None or flipped.score > _FLIPPED_GAIN * plane.score):
            plane = replace(flipped, normal=flipped.normal * _ABOUT_X)
    if plane is None or plane.share < _MIN_SHARE:
        return None
    up = (float(plane.normal[0]), float(plane.normal[1]), float(plane.normal[2]))
    return Ground(up, plane.height_m, plane.share, ground_intensity(points, values, plane.normal, plane.height_m))


def common_ground(grounds: Sequence[Ground | None]) -> Ground | None:
    """The median of what several sweeps of one sensor tell; None if less than half of them show the ground.

    Sweeps in which the sensor would be the other way up than in most are left out.
    """
    found = [ground for ground in grounds if ground is not None]
    if not found or len(found) < len(grounds) / 2:
        return None
    upside_down = 2 * sum(ground.upside_down for ground in found) > len(found)
    found = [ground for ground in found if ground.upside_down == upside_down]
    x, y, z = np.median([ground.up for ground in found], axis=0)
    length = float(np.sqrt(x * x + y * y + z * z))
    values = [ground.intensity for ground in found if ground.intensity is not None]
    return Ground(
        (float(x) / length, float(y) / length, float(z) / length),
        float(np.median([ground.height_m for ground in found])),
        float(np.median([ground.share for ground in found])),
        float(np.median(values)) if values else None,
    )


@dataclass(frozen=True, eq=False)
class _Plane:
    """A plane, normal . p + height_m = 0.

    Attributes:
        normal: (3,) unit vector.
        height_m: distance of the origin.
        share: share of the cells whose lowest points lie on the plane.
        score: cells on the plane, less those that reach below it.
    """

    normal: NDArray[np.float64]
    height_m: float
    share: float
    score: float

    @property
    def is_clear(self) -> bool:
        """Whether this is the ground whatever lies on the other side of the sensor, such as a ceiling."""
        return self.share >= _MIN_SHARE and self.height_m >= _MIN_DROP_M and self.score > 0


def _sample(count: int) -> NDArray[np.intp]:
    """Indices of some points. Random: an even step through a cloud in firing order would select few of its beams."""
    if count <= _SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).integers(0, count, _SAMPLE))


def _lowest_plane(points: NDArray[np.float64]) -> _Plane | None:
    """The plane on which most cells' lowest points lie, and below which few do; None without enough cells."""
    distance = np.hypot(points[:, 0], points[:, 1])
    reach = _slope(_MAX_TILT_DEG) * distance
    kept = (points[:, 2] > -_DEEPEST_M - reach) & (points[:, 2] < _HIGHEST_M + reach)
    points, distance = points[kept], distance[kept]
    if len(points) < _MIN_CELLS:
        return None
    cell, count, lowest = _cells(points, distance)
    if len(lowest) < _MIN_CELLS:
        return None
    cells = points[lowest]
    normals, heights = _hypotheses(cells)
    tolerance = _tolerance_m(distance[lowest])
    above = cells @ normals.T + heights
    below = (above < -2 * tolerance[:, None]).sum(0)
    best = int(((np.abs(above) < tolerance[:, None]).sum(0) - _BELOW_PENALTY * below).argmax())
    normal, height = _refined(points, distance, 1 / count[cell], normals[best], heights[best])
    above = cells @ normal + height
    on = np.abs(above) < tolerance
    depth = np.bincount(cell[lowest][on] % _SECTORS, minlength=_SECTORS)
    deep = depth >= _DEPTH
    if np.count_nonzero(deep) < _MIN_SECTORS or not -_HIGHEST_M <= height <= _DEEPEST_M:
        return None
    if normal[2] < np.cos(np.radians(_MAX_TILT_DEG)):
        return None
    score = float(depth[deep].sum() - _BELOW_PENALTY * np.count_nonzero(above < -2 * tolerance))
    return _Plane(normal, float(height), float(on.mean()), score)


def _slope(angle_deg: float) -> float:
    return float(np.tan(np.radians(angle_deg)))


def _tolerance_m(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return _TOLERANCE_M + _TOLERANCE_SLOPE * distance


def _cells(
    points: NDArray[np.float64], distance: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Number of each point's cell, points of each cell number, and index of each occupied cell's lowest point."""
    ring = np.log(distance / _NEAREST_M) * (_RINGS / np.log(_FARTHEST_M / _NEAREST_M))
    sector = np.arctan2(points[:, 1], points[:, 0]) * (_SECTORS / (2 * np.pi)) + _SECTORS / 2
    number = np.minimum(ring.astype(np.intp), _RINGS - 1) * _SECTORS + np.minimum(sector.astype(np.intp), _SECTORS - 1)
    order = np.argsort(number + (points[:, 2] + 2 * _FARTHEST_M) / (4 * _FARTHEST_M))  # by cell, then by height
    starts = np.flatnonzero(np.r_[True, np.diff(number[order]) > 0])
    count = np.bincount(number, minlength=_RINGS * _SECTORS)
    return number, count, order[starts]


def _hypotheses(cells: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K, 3) unit normals, z up, and (K,) heights of planes through three cells each, and of level ones."""
    triples = cells[np.random.default_rng(0).integers(0, len(cells), (_TRIPLES, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    area = np.linalg.norm(normals, axis=1)
    normals[area > 1] /= area[area > 1, None]  # smaller triangles tell no attitude
    normals *= np.where(normals[:, 2] < 0, -1.0, 1.0)[:, None]
    useful = (area > 1) & (normals[:, 2] > np.cos(np.radians(_MAX_TILT_DEG)))
    levels = np.quantile(cells[:, 2], np.linspace(0, 1, _LEVELS))
    heights = -(normals[useful] * triples[useful, 0]).sum(1)
    level_normals = np.tile([0.0, 0.0, 1.0], (_LEVELS, 1))
    return np.vstack([normals[useful], level_normals]), np.r_[heights, -levels]


def _refined(
    points: NDArray[np.float64],
    distance: NDArray[np.float64],
    weight: NDArray[np.float64],
    normal: NDArray[np.float64],
    height: float,
) -> tuple[NDArray[np.float64], float]:
    """Least-squares plane of the points near a plane, with the weight of their cells spread over them."""
    for factor in _REFINEMENTS:
        on = np.abs(points @ normal + height) < factor * _tolerance_m(distance)
        if np.count_nonzero(on) < _MIN_CELLS:
            break
        # The normal equations of z = a x + b y + c: 3 x 3, so that many points cost little.
        design = np.column_stack([points[on, :2], np.ones(np.count_nonzero(on))])
        weighted = design.T * weight[on]
        a, b, c = np.linalg.lstsq(weighted @ design, weighted @ points[on, 2], rcond=None)[0]
        length = float(np.sqrt(a * a + b * b + 1.0))
        normal, height = np.array([-a, -b, 1.0]) / length, -float(c) / length
    return normal, height


def ground_intensity(
    points: NDArray[np.floating], intensity: NDArray[np.floating] | None, normal: NDArray[np.float64], height_m: float
) -> float | None:
    """Intensity of the ground's points near the sensor (:func:`usual_brightness`).

    Args:
        points: (N, 3) positions, metres.
        intensity: (N,) intensities, or None.
        normal: (3,) unit vector that points up.
        height_m: of the sensor's origin above the ground.

    Returns:
        The intensity; None without enough points.
    """
    if intensity is None:
        return None
    on = (np.abs(points @ normal + height_m) < _INTENSITY_HEIGHT_M) & np.isfinite(intensity)
    distance = np.hypot(points[:, 0], points[:, 1])
    for nearest, farthest in _INTENSITY_M:
        values = intensity[on & (distance >= nearest) & (distance <= farthest)]
        if len(values) >= _INTENSITY_POINTS:
            return usual_brightness(values)
    return None


def usual_brightness(values: NDArray[np.floating]) -> float:
    """Mean of the brighter half of the ground's intensities without the brightest tenth, where the markings are.

    The brighter half, since LiDARs that subtract a threshold or report small integers report 0 for most of dark
    asphalt: relative to its mean, everything else on nuScenes' HDL-32E would be brighter than on any other LiDAR.
    """
    low, high = np.quantile(values, _BRIGHTER_HALF)
    middle = float(values[(values >= low) & (values <= high)].mean())
    return middle or float(values.mean())
