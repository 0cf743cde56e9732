"""Static objects along country roads and motorways: rails, barriers, noise walls, gantries, fences, signs."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np

from training.worldgen.assets import barriers, buildings, people, posts, roadside, vehicles
from training.worldgen.assets.woodland import shrub
from training.worldgen.fences import Fence, add_pieces
from training.worldgen.placement import Placement, Pose2D
from training.worldgen.planting import on_green
from training.worldgen.street.cross_section import Road

_CLEAR_M = 6.0
"""Minimum length of a stretch with a fence or guard rail."""
_SHOULDER_ROOM_M = 2.6
"""Minimum distance of vehicles parked on the shoulder from the ego path."""


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
    for place in placement.streets.kerbside(130.0, rng, back=rng.uniform(0.7, 2.0)):
        if rng.random() < 0.3 and on_green(placement, place.x, place.y):
            maker = people.standing if rng.random() < 0.7 else partial(vehicles.bicycle, rider=True)
            placement.add(maker, rng, Pose2D(place.x, place.y, place.yaw + rng.choice((-1, 1)) * np.pi / 2))
    for place in placement.streets.kerbside(120.0, rng, back=1.6):
        if rng.random() < 0.35 and on_green(placement, place.x, place.y):
            turn = np.pi / 2 * rng.choice((-1, 1)) + rng.normal(0, 0.05)
            placement.add_parked(vehicles.car(rng), Pose2D(place.x, place.y, place.yaw + turn))


def _add_delineators(placement: Placement, road: Road, sign: int, spacing: float, seed: int) -> None:
    for s in np.arange(4.0, road.ribbon.length, spacing):
        x, y = road.ribbon.at(s, sign * (road.edge(sign) + 0.6))
        yaw = road.ribbon.yaw(s) + np.pi / 2 * (1 - sign)  # faces oncoming traffic
        if on_green(placement, float(x), float(y)):
            placement.add(roadside.delineator, np.random.default_rng(seed), Pose2D(float(x), float(y), yaw))


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
                kinds = (roadside.pasture_fence, buildings.fence, buildings.wall, roadside.pasture_fence)
                offset = road.edge(sign) + max(side.border, 4.2 * side.ditch) + rng.uniform(0.2, 1.5)
                maker = kinds[int(rng.integers(len(kinds)))]
            add_line(placement, maker, seed, road, sign, offset, (s, end))
        s = end + rng.uniform(0, 30)


def furnish_motorway(placement: Placement, rng: np.random.Generator) -> None:
    """Add the furniture of a motorway."""
    road = placement.streets.network.main
    _add_median(placement, rng, road)
    whole, seed = (2.0, road.ribbon.length - 2.0), int(rng.integers(1 << 32))
    for sign in (-1, 1):
        _add_delineators(placement, road, sign, 50.0, seed)
        way = rng.random()
        if way < 0.45:
            _add_stretches(placement, rng, road, sign, whole, "rail", rng.uniform(0.3, 1.0))
        elif way < 0.6:
            add_line(placement, barriers.jersey_barrier, seed, road, sign, road.edge(sign) + 0.7, whole)
        if rng.random() < 0.4:
            _add_noise_walls(placement, rng, road, sign)
        _add_gantries(placement, rng, road, sign)
    if rng.random() < 0.35:
        _add_bridge(placement, rng, road)
    for place in placement.streets.kerbside(70.0, rng, back=1.2):
        if rng.random() < 0.5:
            maker = posts.direction_sign if rng.random() < 0.4 else posts.traffic_sign
            placement.add(maker, rng, Pose2D(place.x, place.y, place.yaw + np.pi / 2 + rng.normal(0, 0.1)))
    for place in placement.streets.kerbside(150.0, rng, back=-1.4):
        if rng.random() < 0.2 and placement.distance_to_path(place.x, place.y) > _SHOULDER_ROOM_M:
            maker = vehicles.car if rng.random() < 0.6 else vehicles.truck
            placement.add_parked(maker(rng), Pose2D(place.x, place.y, place.yaw + np.pi / 2))


def _add_median(placement: Placement, rng: np.random.Generator, road: Road) -> None:
    """Add barriers, guard rails, shrubs and lamps between the directions."""
    whole, seed = (1.0, road.ribbon.length - 1.0), int(rng.integers(1 << 32))
    concrete, half = rng.random() < 0.5, road.median / 2
    if concrete and road.median_kind == "barrier":
        add_line(placement, barriers.jersey_barrier, seed, road, 1, 0.0, whole, on_road=True)
    else:
        for sign in (-1, 1):
            add_line(placement, barriers.guard_rail, seed, road, -sign, -(half - 0.7), whole, on_road=True)
    if road.median_kind == "grass" and rng.random() < 0.5:
        spacing = rng.uniform(1.5, 8.0)
        for s in np.arange(3.0, road.ribbon.length, spacing):
            x, y = road.ribbon.at(s, rng.normal(0, 0.15))
            placement.add(shrub, rng, Pose2D(float(x), float(y), rng.uniform(-np.pi, np.pi)), slack=0.5)
    if rng.random() < 0.3:
        for s in np.arange(10.0, road.ribbon.length, rng.uniform(30, 45)):
            x, y = road.ribbon.at(s, 0.0)
            turn = road.ribbon.yaw(s) + np.pi / 2
            placement.add(posts.lamp, np.random.default_rng(seed), Pose2D(float(x), float(y), turn), slack=0.4)


def _add_noise_walls(placement: Placement, rng: np.random.Generator, road: Road, sign: int) -> None:
    seed, share = int(rng.integers(1 << 32)), rng.uniform(0.3, 1.0)
    offset, s = road.edge(sign) + rng.uniform(1.5, 9.0), 0.0
    while s < road.ribbon.length - _CLEAR_M:
        end = min(s + rng.uniform(60, 250), road.ribbon.length)
        if rng.random() < share:
            add_line(placement, roadside.noise_wall, seed, road, sign, offset, (s, end))
        s = end + rng.uniform(0, 60)


def _add_gantries(placement: Placement, rng: np.random.Generator, road: Road, sign: int) -> None:
    """Add sign gantries over one direction, on a post beside the shoulder."""
    span = road.edge(sign) - road.median / 2 + rng.uniform(0.5, 1.5)
    for s in np.arange(rng.uniform(20, 200), road.ribbon.length, rng.uniform(150, 350)):
        x, y = road.ribbon.at(s, sign * (road.edge(sign) + 0.9))
        yaw = road.ribbon.yaw(s) + np.pi / 2 * (1 - sign)
        # The arm extends to -y and the signs face +x: oncoming traffic on the right side of the road.
        at = Pose2D(float(x), float(y), yaw)
        if placement.add(posts.pole, rng, at, slack=0.3):
            placement.add_overhead(roadside.gantry(rng, span), at)


def _add_bridge(placement: Placement, rng: np.random.Generator, road: Road) -> None:
    """Add a bridge over the motorway, with piers beside it and in the median."""
    s, wide = rng.uniform(0.3, 0.7) * road.ribbon.length, rng.uniform(6.0, 14.0)
    x, y = road.ribbon.at(s)
    yaw, seed = road.ribbon.yaw(s), int(rng.integers(1 << 32))
    sides = [road.edge(sign) + rng.uniform(1.5, 4.0) for sign in (-1, 1)]
    offsets = [-sides[0], sides[1]] + [0.0] * (road.median > 2.5)
    for d in offsets:
        px, py = road.ribbon.at(s, d)
        at, make = Pose2D(float(px), float(py), yaw), partial(roadside.bridge_pier, wide=wide)
        placement.add(make, np.random.default_rng(seed), at, on_road=True, slack=0.6)
    placement.add_overhead(roadside.bridge_deck(rng, 2 * max(sides) + 24.0, wide), Pose2D(float(x), float(y), yaw))


def add_line(
    placement: Placement,
    maker: Fence,
    seed: int,
    road: Road,
    sign: int,
    offset: float,
    span: tuple[float, float],
    on_road: bool = False,
) -> None:
    """Add identical pieces, facing the road, along a line at an offset from the centre line, except across driveways.

    Args:
        placement: where to add them.
        maker: builds a piece.
        seed: of the appearance of all pieces.
        road: the road.
        sign: side, +1 is left.
        offset: from the centre line, metres.
        span: first and last station.
        on_road: allow them on the carriageway.
    """
    s = np.arange(span[0], span[1] + 0.1, 8.0)
    points = road.ribbon.at(s, sign * offset)[::sign]
    for start, end in pairwise(points):
        if on_road or all(on_green(placement, *place) for place in (start, (start + end) / 2, end)):
            add_pieces(placement, maker, seed, start, end, on_road=on_road)
