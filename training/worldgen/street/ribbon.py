"""Curvilinear coordinates: s metres along a curve, d metres to its left."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Ribbon:
    """A smooth curve through (K, 2) evenly spaced points, metres, with its curvilinear coordinate system."""

    def __init__(self, points: Array) -> None:
        self.points = points
        self._s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        along = np.gradient(points, axis=0)
        self._along = along / np.linalg.norm(along, axis=1, keepdims=True)
        self._yaw = np.unwrap(np.arctan2(self._along[:, 1], self._along[:, 0]))

    @property
    def along(self) -> Array:
        """(K, 2) unit tangents at the points."""
        return self._along

    @property
    def length(self) -> float:
        """Metres."""
        return float(self._s[-1])

    @cached_property
    def step(self) -> float:
        """Vertex spacing that keeps a polyline within about a centimetre of the curve, metres."""
        bend = float(np.abs(np.gradient(self._yaw, self._s)).max())
        return float(np.clip(np.sqrt(0.08 / max(bend, 1e-6)), 1.5, 12.0))

    def at(self, s: ArrayLike, d: ArrayLike = 0.0) -> Array:
        """(..., 2) points at s along and d to the left; s and d broadcast."""
        where, left = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(d, np.float64))
        x, y = (np.interp(where, self._s, self.points[:, k]) for k in (0, 1))
        tx, ty = (np.interp(where, self._s, self._along[:, k]) for k in (0, 1))
        return np.stack([x - left * ty, y + left * tx], axis=-1)

    def yaw(self, s: float) -> float:
        """Heading at s, radians."""
        return float(np.interp(s, self._s, self._yaw))

    def nearest(self, point: Array) -> float:
        """Station s of the curve's point nearest to a (2,) point."""
        return float(self._s[int(np.argmin(((self.points - point) ** 2).sum(axis=1)))])

    def stations(self, start: float, end: float) -> Array:
        """Values of s from start to end, dense enough for polygons; inner values are the same for every call."""
        inner = np.arange(np.ceil(start / self.step + 1e-6), np.floor(end / self.step - 1e-6) + 1) * self.step
        return np.concatenate([[start], inner, [end]])

    def line(self, d: float, start: float, end: float) -> Array:
        """(K, 2) points at offset d."""
        return self.at(self.stations(start, end), d)

    def strip(self, start: float, end: float, right: float, left: float) -> shapely.Geometry:
        """The area between s = start and end, d = right and left (right < left); valid also in tight bends."""
        s = self.stations(start, end)
        polygon = shapely.Polygon(np.concatenate([self.at(s, right), self.at(s[::-1], left)]))
        if polygon.is_valid:
            return polygon
        return shapely.make_valid(polygon, method="structure", keep_collapsed=False)

    def shape(self, s: float, d: float, outline: ArrayLike) -> shapely.Polygon:
        """A polygon with (K, 2) vertices (along, left) relative to s, d."""
        corners = np.asarray(outline, np.float64)
        return shapely.Polygon(self.at(s + corners[:, 0], d + corners[:, 1]))


def integrate_path(start: ArrayLike, yaw: Array) -> Array:
    """(K + 1, 2) points one metre apart, from ``start`` along the (K,) headings ``yaw``, radians."""
    steps = np.column_stack([np.cos(yaw), np.sin(yaw)])
    return np.asarray(start, np.float64) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def smoothed(path: Array, passes: int) -> Array:
    """A smoothed path: each pass averages points with both neighbours; the ends are fixed."""
    smooth = path.copy()
    for _ in range(passes):
        smooth[1:-1] = 0.25 * smooth[:-2] + 0.5 * smooth[1:-1] + 0.25 * smooth[2:]
    return smooth


def bezier(a: Array, b: Array, c: Array, d: Array) -> Array:
    """(16, 2) points of a cubic Bezier curve from a to d."""
    t = np.linspace(0, 1, 16)[:, None]
    return (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d
