"""Height of kerbs, ramps and ditches relative to the terrain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

_DITCH_SLOPE_M = 1.5


@dataclass(frozen=True, eq=False)
class Relief:
    """Ground behind kerbs, raised except at lowered kerbs and soft edges, and lowered in ditches.

    Attributes:
        step: height of kerbs, metres.
        ramp: length over which the ground rises from a lowered kerb, metres.
        lowered: areas with flush kerbs.
        ditch: bottoms of ditches.
        depth: of ditches, metres.
    """

    step: float
    ramp: float
    lowered: shapely.Geometry
    ditch: shapely.Geometry
    depth: float

    def __post_init__(self) -> None:
        shapely.prepare(self.lowered)
        shapely.prepare(self.ditch)

    def rise(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height of (N, 2) points behind kerbs above the terrain, metres."""
        rise = self.step * _share(self.lowered, points, self.ramp)
        return rise - self.depth * (1.0 - _share(self.ditch, points, _DITCH_SLOPE_M))

    def creases(self) -> list[shapely.Geometry]:
        """Areas at whose borders the slope changes; a mesh needs edges there."""
        slopes = [self.lowered, self.lowered.buffer(self.ramp, 4)] if self.step else []
        return slopes + ([self.ditch, self.ditch.buffer(_DITCH_SLOPE_M, 4)] if self.depth else [])


def _share(shape: shapely.Geometry, points: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Distance from a shape as a share of ``reach``, at most 1."""
    share = np.ones(len(points))
    if shape.is_empty or len(points) == 0:
        return share
    places = shapely.points(points)
    near = np.flatnonzero(shapely.dwithin(shape, places, reach))
    share[near] = np.minimum(shapely.distance(shape, places[near]) / reach, 1.0)
    return share
