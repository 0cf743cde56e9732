"""Putting things into a scene: one number for each, none inside another, and none where it has no business."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from training.worldgen.mesh import LABELS, Mesh, pose
from training.worldgen.street.plots import Plot
from training.worldgen.street.streets import Streets

Maker = Callable[[np.random.Generator], Mesh]


class Pose2D(NamedTuple):
    """Position (metres) and yaw (radians) on the ground."""

    x: float
    y: float
    yaw: float


_UNDER_CROWNS_M = 2.0
_UNDER_ARMS_M = 4.5
"""Things stand in each other's way below this height; crowns of trees and arms of lamps reach over others."""
_LONG_M = 2.5
"""Longer things follow the slope of the ground."""
_ROUND_THE_CORNER_M = 0.25
"""Discs that cover a rectangle stick out of it by about this much, which does not matter."""
_VEGETATION = LABELS.id_of("vegetation")


class Placement:
    """Collects the meshes of a scene.

    Args:
        streets: the ground that things stand on.
        path: (K, 2) where the ego vehicle will drive; what is too far from it is left out.
        reach: how far that is, metres.

    Attributes:
        numbers: numbers for objects, each given once.
        meshes: what has been placed.
        discs: (N, 3) x, y and radius of what stands in the way of others, metres.
    """

    def __init__(self, streets: Streets, path: NDArray[np.float64], reach: float) -> None:
        self.streets = streets
        self._path = shapely.LineString(path)
        self._area = self._path.buffer(reach)
        shapely.prepare(self._area)
        self.numbers: Iterator[int] = count(1)
        self.meshes: list[Mesh] = []
        self.discs = np.zeros((0, 3))
        buildings = [plot.area() for plot in (*streets.plots, *streets.back_plots)]
        self._buildings, self._roads = shapely.union_all(buildings), streets.road
        shapely.prepare(self._buildings)
        shapely.prepare(self._roads)

    def within_reach(self, x: float, y: float) -> bool:
        """Whether a place is near enough to the path to matter."""
        return bool(shapely.contains_xy(self._area, x, y))

    def distance_to_path(self, x: float, y: float) -> float:
        """Distance of a place from the ego vehicle's path, metres."""
        return float(self._path.distance(shapely.Point(x, y)))

    def add_building(self, mesh: Mesh, plot: Plot) -> None:
        """Place a building on its plot, as low as the lowest of its corners."""
        corners = shapely.get_coordinates(plot.area())
        ground = float(self.streets.height(*corners.T).min())
        self._append(mesh, pose(plot.x, plot.y, ground, plot.yaw))

    def add(
        self,
        maker: Maker,
        rng: np.random.Generator,
        at: Pose2D,
        *,
        back: float | None = None,
        on_road: bool = False,
        slack: float = 0.0,
        slope: float | None = None,
    ) -> bool:
        """Place a thing on the ground, unless it is far from the path or something is in its way.

        Args:
            maker: makes the thing, in its own frame.
            rng: randomness for it.
            at: position and yaw.
            back: how far it lies behind the edge of the road that it faces, metres; what is too deep for that is
                moved further back.
            on_road: it may stand on a carriageway; otherwise it may not.
            slack: by how much it may overlap others, metres.
            slope: rise of the ground along the thing's y, per metre; long things find it themselves.

        Returns:
            Whether it was placed.
        """
        x, y, yaw = at
        if not self.within_reach(x, y):
            return False
        mesh = maker(rng)
        low, high = _extent(mesh)
        away = 0.0 if back is None else max(0.0, float(high[0]) + 0.3 - back)
        x, y = x - away * np.cos(yaw), y - away * np.sin(yaw)
        discs = _covering_discs(low, high, x, y, yaw)
        if not self._is_free(discs, slack) or not (on_road or self._is_off_road(discs)):
            return False
        self.discs = np.concatenate([self.discs, discs])
        length = float(high[1] - low[1])
        if slope is None:
            slope = self._slope(x, y, yaw + np.pi / 2, length) if length > _LONG_M else 0.0
        mesh = _sheared(mesh, slope)
        self._append(mesh, pose(x, y, float(self.streets.height(x, y)), yaw))
        return True

    def add_parked(self, mesh: Mesh, at: Pose2D) -> bool:
        """Place a vehicle on the slope under its wheels, unless something is in its way; says whether it was placed."""
        (x, y, yaw), (low, high) = at, _extent(mesh)
        discs = _covering_discs(low, high, x, y, yaw)
        if not self._is_free(discs, 0.0):
            return False
        self.discs = np.concatenate([self.discs, discs])
        slope = self._slope(x, y, yaw, 0.6 * float(high[0] - low[0]))
        self._append(mesh, pose(x, y, float(self.streets.height(x, y)), yaw, -float(np.arctan(slope))))
        return True

    def _append(self, mesh: Mesh, world_from_mesh: NDArray[np.float64]) -> None:
        self.meshes.append(mesh.of_instance(next(self.numbers)).transformed(world_from_mesh))

    def _is_free(self, discs: NDArray[np.float64], slack: float) -> bool:
        """Whether (K, 3) discs touch neither others nor a building."""
        apart = np.hypot(*(discs[:, None, :2] - self.discs[None, :, :2]).transpose(2, 0, 1))
        if (apart + slack < discs[:, None, 2] + self.discs[None, :, 2]).any():
            return False
        reach = np.maximum(discs[:, 2] - _ROUND_THE_CORNER_M - slack, 0.0)
        return not shapely.dwithin(self._buildings, shapely.points(discs[:, :2]), reach).any()

    def _is_off_road(self, discs: NDArray[np.float64]) -> bool:
        reach = np.maximum(discs[:, 2] - _ROUND_THE_CORNER_M, 0.0)
        return not shapely.dwithin(self._roads, shapely.points(discs[:, :2]), reach).any()

    def _slope(self, x: float, y: float, direction: float, length: float) -> float:
        """Rise of the ground per metre over a length about a place."""
        ends = np.array((-0.5, 0.5)) * length
        before, after = self.streets.height(x + ends * np.cos(direction), y + ends * np.sin(direction))
        return float(after - before) / length


def _extent(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends (x, y) of what stands in the way of others."""
    plant = np.zeros(len(mesh.vertices), bool)
    plant[mesh.triangles[mesh.label == _VEGETATION]] = True
    height = mesh.vertices[:, 2]
    counts = mesh.vertices[height < np.where(plant, _UNDER_CROWNS_M, _UNDER_ARMS_M), :2].astype(np.float64)
    return counts.min(axis=0), counts.max(axis=0)


def _covering_discs(
    low: NDArray[np.float64], high: NDArray[np.float64], x: float, y: float, yaw: float
) -> NDArray[np.float64]:
    """(K, 3) discs that cover a rectangle of a thing's own frame, in the world."""
    size = np.maximum(high - low, 0.1)
    along = int(np.argmax(size))
    pieces = int(np.ceil(size[along] / max(size[1 - along], 0.5)))
    middles = np.tile((low + high) / 2, (pieces, 1))
    middles[:, along] = low[along] + (np.arange(pieces) + 0.5) * (size[along] / pieces)
    radius = np.hypot(size[along] / pieces, size[1 - along]) / 2
    world = middles @ pose(0, 0, 0, yaw)[:2, :2].T + (x, y)
    return np.column_stack([world, np.full(pieces, radius)])


def _sheared(mesh: Mesh, slope: float) -> Mesh:
    """Raised in proportion to y: upright parts stay upright."""
    shear = np.eye(4)
    shear[2, 1] = slope
    return mesh.transformed(shear)
