"""What runs along streets: fences around car parks and open ground, across the gaps between buildings, and wires."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from training.world.placement import Placement
from training.world.street.streets import Place
from training.world.things import buildings, greenery, posts

_OPEN = ("lot", "ground")
_WALKED = ("pavement", "plaza", "path")
_OPENING_M = 3.0
"""Room left free beside driveways and crossings."""
_PIECE_M = 5.0
_LEAST_GAP_M, _LEAST_LINE_M = 0.9, 3.0
_SPAN_M = (20.0, 50.0)


def enclose(placement: Placement, rng: np.random.Generator) -> None:
    """Put fences, walls and hedges around what people should not walk on, and wires over the pavement."""
    share = rng.uniform(0.35, 0.95)
    for line in _borders(placement):
        if rng.random() < share:
            _along(placement, rng, line)
    for plot in placement.streets.plots:
        if plot.gap > _LEAST_GAP_M and rng.random() < share:
            for side in (-1, 1):
                middle = side * (plot.width + plot.gap) / 2
                ends = plot.points([(-0.6, middle - plot.gap / 2), (-0.6, middle + plot.gap / 2)])
                _along(placement, rng, ends)
    if rng.random() < 0.5:
        _wires(placement, rng)


def _borders(placement: Placement) -> list[NDArray[np.float64]]:
    """(K, 2) lines between open ground and where people walk, away from openings."""
    streets = placement.streets
    inside = streets.region(*_OPEN)
    edge = shapely.intersection(shapely.boundary(inside), streets.region(*_WALKED).buffer(0.05))
    openings = [streets.region("driveway").buffer(_OPENING_M), *(c.shape.buffer(_OPENING_M) for c in streets.crossings)]
    free = shapely.difference(edge, shapely.union_all(openings))
    lines = shapely.get_parts(shapely.line_merge(shapely.multilinestrings(_lines_of(free))))
    return [shapely.get_coordinates(line.simplify(0.15)) for line in lines if line.length > _LEAST_LINE_M]


def _lines_of(geometry: shapely.Geometry) -> list[shapely.Geometry]:
    return [part for part in shapely.get_parts(geometry) if part.geom_type == "LineString"]


def _along(placement: Placement, rng: np.random.Generator, line: NDArray[np.float64]) -> None:
    """One kind of fence, wall or hedge along a line, in straight pieces."""
    maker = (buildings.fence, buildings.fence, buildings.wall, greenery.hedge)[int(rng.integers(4))]
    seed = int(rng.integers(1 << 32))
    for start, end in pairwise(line):
        length = float(np.hypot(*(end - start)))
        if length < 0.5:
            continue
        yaw = float(np.arctan2(*(end - start)[::-1])) - np.pi / 2
        count = max(1, round(length / _PIECE_M))
        for k in range(count):
            x, y = start + (end - start) * (k + 0.5) / count
            own = np.random.default_rng(seed)
            placement.add(partial(maker, length=length / count), own, float(x), float(y), yaw, slack=0.5)


def _wires(placement: Placement, rng: np.random.Generator) -> None:
    """Poles along one side of each road with wires from one to the next."""
    places = placement.streets.kerbside(float(rng.uniform(28.0, 40.0)), rng, back=0.5)
    seed = int(rng.integers(1 << 32))
    for here, following in pairwise(places):
        span = float(np.hypot(following.x - here.x, following.y - here.y))
        if _SPAN_M[0] < span < _SPAN_M[1] and _same_side(here, following):
            yaw = float(np.arctan2(following.y - here.y, following.x - here.x)) - np.pi / 2
            make = partial(posts.utility_pole, span=span)
            low, high = placement.streets.height(*np.array([(here.x, here.y), (following.x, following.y)]).T)
            slope = float(high - low) / span  # the wires rise with the street
            placement.add(make, np.random.default_rng(seed), here.x, here.y, yaw, slope=slope)


def _same_side(here: Place, following: Place) -> bool:
    return following.s > here.s and abs(np.angle(np.exp(1j * (following.yaw - here.yaw)))) < 0.5
