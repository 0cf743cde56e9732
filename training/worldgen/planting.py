"""Plants along the streets: woods, thickets, rows of trees, shrubs, weeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import shapely
from numpy.typing import NDArray

from training.worldgen.assets import greenery, woodland
from training.worldgen.mesh import Mesh
from training.worldgen.placement import Maker, Placement, Pose2D
from training.worldgen.street.cross_section import Road
from training.worldgen.street.street_style import RURAL, pick

_GREEN = ("verge", "yard", "ground", "green_island", "field", "meadow", "wood")
_WOOD_DEPTH_M = 32.0
"""Trees of a wood farther than this from a road are hidden behind the others."""
_MOST_TREES, _MOST_SHRUBS = 300, 160
_PIECE_M = 5.0


@dataclass(frozen=True)
class Planting:
    """How much grows in a drive.

    Attributes:
        wood: trees per square metre of woods.
        open: trees and shrubs per square metre of gardens and open ground.
        rows: share of the roadside with rows of trees, thickets or hedges.
        weeds: share of the roadside with tall weeds.
    """

    wood: float
    open: float
    rows: float
    weeds: float

    @classmethod
    def sample(cls, rng: np.random.Generator, kind: str) -> Planting:
        """Draw the planting of a drive in a district of a kind."""
        rows = {"country": (0.3, 1.0), "motorway": (0.2, 0.9), "suburban": (0.1, 0.8), "residential": (0.0, 0.6)}
        return cls(
            wood=rng.uniform(0.05, 0.16),
            open=float(np.exp(rng.uniform(np.log(0.003), np.log(0.025)))),
            rows=rng.uniform(*rows.get(kind, (0.0, 0.2))),
            weeds=rng.uniform(0.0, 0.7 if kind in RURAL else 0.35),
        )


def add_plants(placement: Placement, rng: np.random.Generator) -> None:
    """Add woods, rows along roads, single trees and shrubs on green areas, and weeds."""
    planting = Planting.sample(rng, placement.streets.style.kind)
    trees = woodland.variants(rng, woodland.wood_tree, 6)
    shrubs = woodland.variants(rng, woodland.shrub, 6)
    for road in placement.streets.network.roads:
        for sign in (-1, 1):
            _add_rows(placement, rng, road, sign, planting)
    _scatter(placement, rng, ("wood",), planting.wood, trees, _MOST_TREES)
    _scatter(placement, rng, ("wood",), 0.6 * planting.wood, shrubs, _MOST_SHRUBS // 2)
    gardens = [*trees[:2], *woodland.variants(rng, greenery.tree, 4), *woodland.variants(rng, woodland.big_tree, 2)]
    green = ("yard", "ground", "green_island", "meadow", "verge")
    _scatter(placement, rng, green, 0.5 * planting.open, gardens, _MOST_TREES // 3)
    _scatter(placement, rng, green, planting.open, [*shrubs, *woodland.variants(rng, greenery.bush, 3)], _MOST_SHRUBS)


def _scatter(
    placement: Placement, rng: np.random.Generator, kinds: tuple[str, ...], density: float, stock: list[Mesh], most: int
) -> None:
    """Plant variants at random places of zones of some kinds near roads, at most ``most`` of them."""
    streets = placement.streets
    near = streets.plan.corridor.buffer(_WOOD_DEPTH_M, 4)
    area = shapely.intersection(shapely.intersection(streets.region(*kinds), near), placement.area)
    count = min(int(rng.poisson(density * area.area)), most)
    for x, y in _points_in(rng, area, count):
        mesh = stock[int(rng.integers(len(stock)))]
        at = Pose2D(float(x), float(y), rng.uniform(-np.pi, np.pi))
        placement.add(partial(_resized, mesh), rng, at, slack=0.8)


def _resized(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """The plant in another size and proportion."""
    scale = np.diag([*np.repeat(rng.uniform(0.7, 1.25), 2), rng.uniform(0.7, 1.25), 1.0])
    return mesh.transformed(scale)


def _points_in(rng: np.random.Generator, area: shapely.Geometry, count: int) -> NDArray[np.float64]:
    """About (count, 2) random points in an area."""
    if area.is_empty or count == 0:
        return np.zeros((0, 2))
    x0, y0, x1, y1 = area.bounds
    tries = int(count * min((x1 - x0) * (y1 - y0) / area.area, 60.0)) + 1
    points = rng.uniform((x0, y0), (x1, y1), (tries, 2))
    shapely.prepare(area)
    return np.asarray(points[shapely.contains_xy(area, *points.T)][:count])


def _add_rows(placement: Placement, rng: np.random.Generator, road: Road, sign: int, planting: Planting) -> None:
    """Divide a roadside into stretches, each with a row of one kind or none, and weeds."""
    s, side = rng.uniform(0, 20), road.side(sign)
    rural = placement.streets.style.kind in RURAL
    while s < road.ribbon.length:
        length = rng.uniform(15, 70)
        behind = 0.3 + (side.border if side.pavement else 4.0 if side.ditch else rng.uniform(0.8, 2.5))
        offset = road.edge(sign) + behind + rng.uniform(0.0, 3.0 if rural else 1.0)
        if rng.random() < planting.rows:
            kind = pick(rng, thicket=0.35, hedge=0.15, trees=0.3, big=0.2)
            _add_row(placement, rng, kind, _line(road, sign, offset, s, s + length))
        if rng.random() < planting.weeds:
            verge = road.edge(sign) + rng.uniform(0.3, 1.0)
            _add_row(placement, rng, "weeds", _line(road, sign, verge, s, s + length))
        s += length


def _line(road: Road, sign: int, offset: float, start: float, end: float) -> NDArray[np.float64]:
    """(K, 3) x, y and yaw towards the road of places about ``_PIECE_M`` apart, between two stations of a road."""
    s = np.arange(start + _PIECE_M / 2, min(end, road.ribbon.length), _PIECE_M)
    yaw = [road.ribbon.yaw(at) - sign * np.pi / 2 for at in s]
    return np.column_stack([road.ribbon.at(s, sign * offset), yaw])


def _add_row(placement: Placement, rng: np.random.Generator, kind: str, places: NDArray[np.float64]) -> None:
    """Add a row of plants of one kind at (K, 3) places."""
    makers: dict[str, Maker] = {
        "thicket": partial(woodland.thicket, length=_PIECE_M + 0.8),
        "hedge": partial(greenery.hedge, length=_PIECE_M),
        "weeds": partial(woodland.weeds, length=_PIECE_M),
        "trees": woodland.wood_tree,
        "big": woodland.big_tree,
    }
    stock = woodland.variants(rng, makers[kind], 1 if kind == "hedge" else 4)
    every = {"trees": int(rng.integers(1, 3)), "big": int(rng.integers(2, 4))}.get(kind, 1)
    gaps = rng.uniform(0.0, 0.25)
    for x, y, facing in places[::every]:
        mesh, gap = stock[int(rng.integers(len(stock)))], rng.random() < gaps
        turn = rng.uniform(-np.pi, np.pi) if kind in ("trees", "big") else rng.choice((0.0, np.pi))
        if not gap and placement.within_reach(x, y) and on_green(placement, x, y):
            placement.add(partial(_same, mesh), rng, Pose2D(float(x), float(y), float(facing + turn)), slack=0.7)


def _same(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    return mesh


def on_green(placement: Placement, x: float, y: float) -> bool:
    """Whether a point is in a zone where plants grow."""
    streets = placement.streets
    return streets.zones[int(streets.zone_at(x, y))].kind in _GREEN
