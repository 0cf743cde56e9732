"""Height of kerbs, ramps, ditches and banks relative to the terrain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree

from training.worldgen.street.ribbon import Ribbon

_DITCH_SLOPE_M = 1.5
_BANK_FADE_M = 14.0
"""Distance from other roads over which a bank rises to its height."""
_PROFILE = np.array([(0.0, 0.0), (0.25, 0.1), (0.5, 0.5), (0.75, 0.9), (1.0, 1.0)])
"""Cross-section of a bank: share of its width, share of its height."""
_SWELL_M = 170.0
_SWELL = 0.45


@dataclass(frozen=True, eq=False)
class Bank:
    """Ground that rises or falls along one side of a road, with a slowly varying height.

    Attributes:
        ribbon: centre line of the road.
        sign: side, +1 is left.
        start: distance of its foot from the centre line, metres.
        width: of the slope, metres.
        height: metres; negative: the road lies on an embankment.
        phase: of the variation along the road, radians.
        level: other roads and junctions, where it ends.
    """

    ribbon: Ribbon
    sign: int
    start: float
    width: float
    height: float
    phase: float
    level: shapely.Geometry

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.ribbon.points)

    def rise(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height of (N, 2) points above the level ground, metres."""
        rise = np.zeros(len(points))
        if len(points) == 0:
            return rise
        _, nearest = self._tree.query(points)
        along = self.ribbon.along[nearest]
        away = points - self.ribbon.points[nearest]
        left = self.sign * (along[:, 0] * away[:, 1] - along[:, 1] * away[:, 0])
        beyond = left > self.start
        share = np.interp((left[beyond] - self.start) / self.width, *_PROFILE.T)
        swell = 1.0 + _SWELL * np.sin(2 * np.pi * nearest[beyond] / _SWELL_M + self.phase)
        rise[beyond] = self.height * swell / (1 + _SWELL) * share * _share(self.level, points[beyond], _BANK_FADE_M)
        return rise

    def creases(self) -> list[shapely.Geometry]:
        """Strips at whose borders the slope changes."""
        lines = self.start + self.width * np.array([(0.0, 0.25), (0.5, 0.75), (1.0, 1.25)])
        spans = [sorted(self.sign * line) for line in lines]
        strips = [self.ribbon.strip(0.0, self.ribbon.length, right, left) for right, left in spans]
        return [*strips, self.level.buffer(_BANK_FADE_M, 4)]


@dataclass(frozen=True, eq=False)
class Relief:
    """Ground behind kerbs: raised except at lowered kerbs and soft edges, lowered in ditches, sloping on banks.

    Attributes:
        step: height of kerbs, metres.
        ramp: length over which the ground rises from a lowered kerb, metres.
        lowered: areas with flush kerbs.
        ditch: bottoms of ditches.
        depth: of ditches, metres.
        banks: beside the main road.
    """

    step: float
    ramp: float
    lowered: shapely.Geometry
    ditch: shapely.Geometry
    depth: float
    banks: tuple[Bank, ...] = ()

    def __post_init__(self) -> None:
        shapely.prepare(self.lowered)
        shapely.prepare(self.ditch)

    def rise(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height of (N, 2) points behind kerbs above the terrain, metres."""
        rise = self.step * _share(self.lowered, points, self.ramp)
        rise -= self.depth * (1.0 - _share(self.ditch, points, _DITCH_SLOPE_M))
        return np.asarray(rise + sum(bank.rise(points) for bank in self.banks))

    def creases(self) -> list[shapely.Geometry]:
        """Areas at whose borders the slope changes; a mesh needs edges there."""
        slopes = [self.lowered, self.lowered.buffer(self.ramp, 4)] if self.step else []
        slopes += [self.ditch, self.ditch.buffer(_DITCH_SLOPE_M, 4)] if self.depth else []
        return slopes + [crease for bank in self.banks for crease in bank.creases()]


def _share(shape: shapely.Geometry, points: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Distance from a shape as a share of ``reach``, at most 1."""
    share = np.ones(len(points))
    if shape.is_empty or len(points) == 0:
        return share
    places = shapely.points(points)
    near = np.flatnonzero(shapely.dwithin(shape, places, reach))
    share[near] = np.minimum(shapely.distance(shape, places[near]) / reach, 1.0)
    return share
