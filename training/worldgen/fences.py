"""Fences and walls around car parks and open ground and between buildings, and overhead wires."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from training.worldgen.assets import buildings, greenery, posts
from training.worldgen.mesh import Mesh
from training.worldgen.placement import Placement, Pose2D
from training.worldgen.street.streets import Place

Fence = Callable[[np.random.Generator, float], Mesh]
"""Builds a fence, wall or hedge of a length in metres along y."""

_LOT_FENCES = (buildings.yard_fence, buildings.yard_fence, buildings.yard_fence, buildings.wall)
_GROUND_FENCES = (buildings.fence, buildings.yard_fence, buildings.wall, greenery.hedge)
_WALKABLE = ("pavement", "plaza", "path")
_OPENING_M = 3.0
"""Clearance beside driveways and crossings."""
_PIECE_M, _MIN_PIECE_M = 5.0, 0.5
_MIN_GAP_M, _MIN_LINE_M = 0.9, 3.0
_SPAN_M = (20.0, 50.0)


def add_fences_and_wires(placement: Placement, rng: np.random.Generator) -> None:
    """Add fences, walls and hedges around car parks and open ground and across gaps, and wires over the pavement."""
    share = rng.uniform(0.35, 0.95)
    for kind, makers in (("lot", _LOT_FENCES), ("ground", _GROUND_FENCES)):
        for line in _borders(placement, kind):
            if rng.random() < share:
                _add_fence(placement, rng, line, makers)
    for plot in placement.streets.plots:
        if plot.gap > _MIN_GAP_M and rng.random() < share:
            for side in (-1, 1):
                middle = side * (plot.width + plot.gap) / 2
                ends = plot.points([(-0.6, middle - plot.gap / 2), (-0.6, middle + plot.gap / 2)])
                _add_fence(placement, rng, ends, _LOT_FENCES if rng.random() < 0.5 else _GROUND_FENCES)
    if rng.random() < 0.5 and placement.streets.style.kind != "motorway":
        _add_wires(placement, rng)


def _borders(placement: Placement, kind: str) -> list[NDArray[np.float64]]:
    """(K, 2) border lines between car parks or open ground and walkable areas, without the openings."""
    streets = placement.streets
    inside = streets.region(kind)
    edge = shapely.intersection(shapely.boundary(inside), streets.region(*_WALKABLE).buffer(0.05))
    openings = [streets.region("driveway").buffer(_OPENING_M), *(c.shape.buffer(_OPENING_M) for c in streets.crossings)]
    free = shapely.difference(edge, shapely.union_all(openings))
    pieces = _lines_of(free)
    lines = shapely.get_parts(shapely.line_merge(shapely.multilinestrings(pieces))) if pieces else ()
    return [shapely.get_coordinates(line.simplify(0.15)) for line in lines if line.length > _MIN_LINE_M]


def _lines_of(geometry: shapely.Geometry) -> list[shapely.Geometry]:
    return [part for part in shapely.get_parts(geometry) if part.geom_type == "LineString"]


def _add_fence(
    placement: Placement, rng: np.random.Generator, line: NDArray[np.float64], makers: Sequence[Fence]
) -> None:
    """Add a fence, wall or hedge of one random kind along a line."""
    maker = makers[int(rng.integers(len(makers)))]
    seed = int(rng.integers(1 << 32))
    for start, end in pairwise(line):
        add_pieces(placement, maker, seed, start, end)


def add_pieces(
    placement: Placement,
    maker: Fence,
    seed: int,
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    on_road: bool = False,
) -> None:
    """Add a straight fence, wall or hedge in identical pieces; each follows the ground or is dropped if blocked.

    Args:
        placement: where to add it.
        maker: builds a piece.
        seed: of the appearance of all pieces.
        start: (2,) metres; the fence faces to the right of the direction from here to ``end``.
        end: (2,) metres.
        on_road: allow it on a carriageway.
    """
    length = float(np.hypot(*(end - start)))
    if length < _MIN_PIECE_M:
        return
    yaw = float(np.arctan2(*(end - start)[::-1])) - np.pi / 2
    count = max(1, round(length / _PIECE_M))
    for k in range(count):
        x, y = start + (end - start) * (k + 0.5) / count
        own = np.random.default_rng(seed)
        placement.add(
            partial(maker, length=length / count), own, Pose2D(float(x), float(y), yaw), slack=0.5, on_road=on_road
        )


def _add_wires(placement: Placement, rng: np.random.Generator) -> None:
    """Add utility poles along each side of the roads, with wires from one to the next."""
    places = placement.streets.kerbside(float(rng.uniform(28.0, 40.0)), rng, back=0.5)
    seed = int(rng.integers(1 << 32))
    for here, following in pairwise(places):
        span = float(np.hypot(following.x - here.x, following.y - here.y))
        if _SPAN_M[0] < span < _SPAN_M[1] and _same_side(here, following):
            yaw = float(np.arctan2(following.y - here.y, following.x - here.x)) - np.pi / 2
            make = partial(posts.utility_pole, span=span)
            low, high = placement.streets.height(*np.array([(here.x, here.y), (following.x, following.y)]).T)
            slope = float(high - low) / span  # the wires rise with the street
            placement.add(make, np.random.default_rng(seed), Pose2D(here.x, here.y, yaw), slope=slope)


def _same_side(here: Place, following: Place) -> bool:
    return following.s > here.s and abs(np.angle(np.exp(1j * (following.yaw - here.yaw)))) < 0.5
