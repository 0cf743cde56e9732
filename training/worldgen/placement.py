"""Placement of static objects without overlap: on the ground, off carriageways and outside buildings."""

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
"""Footprints are measured below these heights, since tree crowns and lamp arms may overhang other objects."""
_LONG_M = 2.5
"""Objects longer than this follow the slope of the ground."""
_ROUND_THE_CORNER_M = 0.25
"""Tolerated overlap with areas: discs that cover a rectangle extend beyond it by about this much."""
_VEGETATION = LABELS.id_of("vegetation")


class Placement:
    """Collects the meshes of a scene.

    Args:
        streets: the ground.
        path: (K, 2) path of the ego vehicle, metres.
        reach: objects farther than this from the path are left out, metres.

    Attributes:
        numbers: iterator of unique instance ids.
        area: within ``reach`` of the path.
        meshes: placed objects.
        discs: (N, 3) x, y and radius of the discs that cover their footprints, metres.
    """

    def __init__(self, streets: Streets, path: NDArray[np.float64], reach: float) -> None:
        self.streets = streets
        self._path = shapely.LineString(path)
        self.area = self._path.buffer(reach)
        shapely.prepare(self.area)
        self.numbers: Iterator[int] = count(1)
        self.meshes: list[Mesh] = []
        self.discs = np.zeros((0, 3))
        buildings = [plot.area() for plot in (*streets.plots, *streets.back_plots)]
        self._buildings, self._roads = shapely.union_all(buildings), streets.road
        shapely.prepare(self._buildings)
        shapely.prepare(self._roads)

    def within_reach(self, x: float, y: float) -> bool:
        """Whether a point is within ``reach`` of the path."""
        return bool(shapely.contains_xy(self.area, x, y))

    def distance_to_path(self, x: float, y: float) -> float:
        """Distance of a point from the ego path, metres."""
        return float(self._path.distance(shapely.Point(x, y)))

    def add_building(self, mesh: Mesh, plot: Plot) -> None:
        """Place a building on its plot, at the height of the plot's lowest corner."""
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
        """Place an object on the ground if the place is free and within reach; returns whether it was placed.

        Args:
            maker: builds the object in its own frame; called only within reach of the path.
            rng: randomness for ``maker``.
            at: position and yaw.
            back: distance of ``at`` behind the edge of the road that the object faces, metres; objects too deep for
                it are moved further back.
            on_road: allow it on a carriageway.
            slack: tolerated overlap with other objects, metres.
            slope: slope of the ground along the object's y axis; None: measured for long objects, else zero.
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

    def add_overhead(self, mesh: Mesh, at: Pose2D) -> None:
        """Place something above all traffic and other objects, relative to the ground at a place; within reach only."""
        if self.within_reach(at.x, at.y):
            self._append(mesh, pose(at.x, at.y, float(self.streets.height(at.x, at.y)), at.yaw))

    def add_parked(self, mesh: Mesh, at: Pose2D) -> bool:
        """Place a vehicle pitched to the slope of the ground unless the place is occupied; returns whether it was."""
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
        """Whether (K, 3) discs overlap neither placed objects nor buildings."""
        apart = np.hypot(*(discs[:, None, :2] - self.discs[None, :, :2]).transpose(2, 0, 1))
        if (apart + slack < discs[:, None, 2] + self.discs[None, :, 2]).any():
            return False
        reach = np.maximum(discs[:, 2] - _ROUND_THE_CORNER_M - slack, 0.0)
        return not shapely.dwithin(self._buildings, shapely.points(discs[:, :2]), reach).any()

    def _is_off_road(self, discs: NDArray[np.float64]) -> bool:
        reach = np.maximum(discs[:, 2] - _ROUND_THE_CORNER_M, 0.0)
        return not shapely.dwithin(self._roads, shapely.points(discs[:, :2]), reach).any()

    def _slope(self, x: float, y: float, direction: float, length: float) -> float:
        """Slope of the ground over a length centred on a point."""
        ends = np.array((-0.5, 0.5)) * length
        before, after = self.streets.height(x + ends * np.cos(direction), y + ends * np.sin(direction))
        return float(after - before) / length


def _extent(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper corners (x, y) of an object's footprint."""
    plant = np.zeros(len(mesh.vertices), bool)
    plant[mesh.triangles[mesh.label == _VEGETATION]] = True
    height = mesh.vertices[:, 2]
    counts = mesh.vertices[height < np.where(plant, _UNDER_CROWNS_M, _UNDER_ARMS_M), :2].astype(np.float64)
    return counts.min(axis=0), counts.max(axis=0)


def _covering_discs(
    low: NDArray[np.float64], high: NDArray[np.float64], x: float, y: float, yaw: float
) -> NDArray[np.float64]:
    """(K, 3) discs in the world that cover a rectangle in an object's own frame."""
    size = np.maximum(high - low, 0.1)
    along = int(np.argmax(size))
    pieces = int(np.ceil(size[along] / max(size[1 - along], 0.5)))
    middles = np.tile((low + high) / 2, (pieces, 1))
    middles[:, along] = low[along] + (np.arange(pieces) + 0.5) * (size[along] / pieces)
    radius = np.hypot(size[along] / pieces, size[1 - along]) / 2
    world = middles @ pose(0, 0, 0, yaw)[:2, :2].T + (x, y)
    return np.column_stack([world, np.full(pieces, radius)])


def _sheared(mesh: Mesh, slope: float) -> Mesh:
    """The mesh sheared in z by its y; vertical parts stay vertical."""
    shear = np.eye(4)
    shear[2, 1] = slope
    return mesh.transformed(shear)
