"""Static objects along country roads: guard rails, delineators, pasture fences, signs, a few parked vehicles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from training.worldgen.assets import barriers, buildings, posts, vehicles
from training.worldgen.fences import add_pieces
from training.worldgen.placement import Placement, Pose2D
from training.worldgen.planting import on_green
from training.worldgen.street.cross_section import Road

_CLEAR_M = 6.0
"""Minimum length of a stretch with a fence or guard rail."""


def furnish_country(placement: Placement, rng: np.random.Generator) -> None:
    """Add the furniture of a country road."""
    seed, spacing = int(rng.integers(1 << 32)), float(rng.choice((25.0, 33.0, 50.0)))
    delineators, rails, fences = rng.random() < 0.65, rng.uniform(0.0, 0.35), rng.uniform(0.1, 0.7)
    for road in placement.streets.network.roads:
        for sign in (-1, 1):
            if road.main and delineators:
                _add_delineators(placement, road, sign, spacing, seed)
            for start, end in placement.streets.network.open_spans(road, 6.0):
                if road.main:
                    _add_stretches(placement, rng, road, sign, (start, end), "rail", rails)
                _add_stretches(placement, rng, road, sign, (start, end), "fence", fences)
    for place in placement.streets.kerbside(90.0, rng, back=1.0):
        maker = posts.traffic_sign if rng.random() < 0.7 else posts.direction_sign
        placement.add(maker, rng, Pose2D(place.x, place.y, place.yaw + np.pi / 2 + rng.normal(0, 0.1)))
    for place in placement.streets.kerbside(120.0, rng, back=1.6):
        if rng.random() < 0.35 and on_green(placement, place.x, place.y):
            turn = np.pi / 2 * rng.choice((-1, 1)) + rng.normal(0, 0.05)
            placement.add_parked(vehicles.car(rng), Pose2D(place.x, place.y, place.yaw + turn))


def _add_delineators(placement: Placement, road: Road, sign: int, spacing: float, seed: int) -> None:
    for s in np.arange(4.0, road.ribbon.length, spacing):
        x, y = road.ribbon.at(s, sign * (road.edge(sign) + 0.6))
        yaw = road.ribbon.yaw(s) + np.pi / 2 * (1 + sign)  # faces oncoming traffic
        if on_green(placement, float(x), float(y)):
            placement.add(barriers.delineator, np.random.default_rng(seed), Pose2D(float(x), float(y), yaw))


def _add_stretches(
    placement: Placement,
    rng: np.random.Generator,
    road: Road,
    sign: int,
    span: tuple[float, float],
    what: str,
    share: float,
) -> None:
    """Add fences or guard rails along a share of a roadside."""
    s, side = span[0], road.side(sign)
    while s < span[1] - _CLEAR_M:
        end = min(s + rng.uniform(20, 90), span[1])
        if rng.random() < share:
            seed = int(rng.integers(1 << 32))
            if what == "rail":
                offset, maker = road.edge(sign) + rng.uniform(0.4, 0.9), barriers.guard_rail
            else:
                kinds = (barriers.pasture_fence, buildings.fence, buildings.wall, barriers.pasture_fence)
                offset = road.edge(sign) + max(side.border, 4.2 * side.ditch) + rng.uniform(0.2, 1.5)
                maker = kinds[int(rng.integers(len(kinds)))]
            add_line(placement, maker, seed, road, sign, offset, (s, end))
        s = end + rng.uniform(0, 30)


def add_line(
    placement: Placement,
    maker: object,
    seed: int,
    road: Road,
    sign: int,
    offset: float,
    span: tuple[float, float],
) -> None:
    """Add identical pieces, facing the road, along a line at an offset from the edge, except across driveways."""
    s = np.arange(span[0], span[1] + 0.1, 8.0)
    points = road.ribbon.at(s, sign * offset)[::-sign]
    for start, end in pairwise(points):
        if all(on_green(placement, *place) for place in (start, (start + end) / 2, end)):
            add_pieces(placement, maker, seed, start, end)  # type: ignore[arg-type]
