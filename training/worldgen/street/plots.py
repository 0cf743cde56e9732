"""Rectangles beside the road: building plots and parking bays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from training.worldgen.street.ribbon import Array


@dataclass(frozen=True)
class Plot:
    """A building plot: the building extends behind x, y (the middle of its front wall) and faces the road.

    Attributes:
        x: metres.
        y: metres.
        yaw: direction that the front wall faces, radians.
        width: along the road, metres.
        depth: away from the road, metres.
        setback: distance of the front wall from the pavement (or road), metres.
        gap: distance to the neighbouring plot, metres; 0: adjoining buildings.
    """

    x: float
    y: float
    yaw: float
    width: float
    depth: float
    setback: float
    gap: float

    def area(self) -> shapely.Polygon:
        """The rectangle available to the building."""
        return self.rectangle(-self.depth, 0.0, -self.width / 2, self.width / 2)

    def rectangle(self, back: float, front: float, right: float, left: float) -> shapely.Polygon:
        """A rectangle in the plot's own frame: x to the road, y to the left."""
        return shapely.Polygon(self.points([(back, right), (front, right), (front, left), (back, left)]))

    def points(self, local: list[tuple[float, float]] | Array) -> Array:
        """(K, 2) world points of points in the plot's own frame."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.asarray(local, np.float64) @ np.array([(c, s), (-s, c)]) + (self.x, self.y)


@dataclass(frozen=True)
class Bay:
    """A parking bay centred on x, y; vehicles are parked along ``yaw`` or against it.

    Attributes:
        x: metres.
        y: metres.
        yaw: radians; along the kerb it is the direction of travel.
        kind: "kerb", "across" (at right angles to the road), "lot" or "driveway".
        length: metres.
        width: metres.
    """

    x: float
    y: float
    yaw: float
    kind: str
    length: float
    width: float
