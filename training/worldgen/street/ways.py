"""Vehicle lanes, pedestrian paths and junction approaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from training.worldgen.street.cross_section import Road
from training.worldgen.street.ribbon import Array, bezier, smoothed
from training.worldgen.street.road_network import Arm, Network, Node
from training.worldgen.street.street_plan import Crossing, StreetPlan
from training.worldgen.street.street_style import StreetStyle

_RING_LANE_M = 3.3
_SLOWER = 0.12
"""Difference of the speeds of neighbouring lanes, as a share."""


@dataclass(frozen=True, eq=False)
class Lane:
    """A lane; vehicles follow the path in point order.

    Attributes:
        path: (K, 2) metres, points about a metre apart.
        width: metres.
        speed: usual speed, metres per second.
        main: whether it runs along the main road.
    """

    path: Array
    width: float
    speed: float
    main: bool


@dataclass(frozen=True)
class Approach:
    """A junction approach: the end of the lanes that lead to a junction.

    Attributes:
        x: centre of the stop line, metres.
        y: metres.
        yaw: direction of travel, radians.
        width: of the stop line, metres.
        control: "lights", "stop", "yield" or "none".
        post_x: position of a post for lights or a sign, behind the right-hand kerb, metres.
        post_y: metres.
        post_yaw: facing direction, towards oncoming traffic, radians.
    """

    x: float
    y: float
    yaw: float
    width: float
    control: str
    post_x: float
    post_y: float
    post_yaw: float


@dataclass(frozen=True)
class Junction:
    """A junction at (x, y) metres, with an approach for each arm."""

    x: float
    y: float
    approaches: tuple[Approach, ...]
    roundabout: bool


def junctions(network: Network, plan: StreetPlan) -> tuple[Junction, ...]:
    """All junctions, in order along the main road."""
    shapely.prepare(plan.carriageway)
    return tuple(
        Junction(float(n.center[0]), float(n.center[1]), tuple(_approach(a, plan) for a in n.arms), n.ring > 0)
        for n in network.nodes
    )


def _approach(arm: Arm, plan: StreetPlan) -> Approach:
    road, sign = arm.road, arm.sign
    s = min(max(arm.s(arm.stop + 0.2), 0.0), road.ribbon.length)
    width = road.lanes * road.lane_width
    x, y = road.ribbon.at(s, sign * (road.median / 2 + width / 2))
    beside = road.ribbon.at(s, sign * (road.edge(sign) + np.arange(0.7, 12, 0.3)))
    off = ~shapely.dwithin(plan.carriageway, shapely.points(beside), 0.5)
    px, py = beside[int(np.argmax(off))]
    outwards = road.ribbon.yaw(s) + (0.0 if sign > 0 else np.pi)
    inwards = (outwards + 2 * np.pi) % (2 * np.pi) - np.pi
    return Approach(
        float(x), float(y), float(inwards), width, arm.control, float(px), float(py), float(outwards % (2 * np.pi))
    )


def lanes(
    rng: np.random.Generator, style: StreetStyle, network: Network, plan: StreetPlan
) -> tuple[tuple[Lane, ...], Lane]:
    """All lanes, and the ego vehicle's lane along the main road: next to the kerb, or any on a motorway."""
    main = network.main
    found = _along(style, network, main, (0.0, main.ribbon.length))
    number = int(rng.integers(main.lanes)) if style.kind == "motorway" else 0
    ego = _along(style, network, main, network.ego_span)[number]
    for node in network.nodes:
        for road in list({id(a.road): a.road for a in node.arms if a.road is not main}.values()):
            mine = [arm for arm in node.arms if arm.road is road]
            if len(mine) == 2:
                found += _along(style, network, road, (0.0, road.ribbon.length))
            elif not node.ring:
                found += _turns(style, network, plan, mine[0], node)
    return tuple(found), ego


def _along(style: StreetStyle, network: Network, road: Road, span: tuple[float, float]) -> list[Lane]:
    """Lanes over a span of a road; the first one leads towards increasing s, next to the kerb."""
    return [
        _lane(style, road, _round_islands(network, _middle(road, direction, number, *span)), number)
        for direction in (1, -1)
        for number in reversed(range(road.lanes))
    ]


def _lane(style: StreetStyle, road: Road, path: Array, number: int = 0) -> Lane:
    """A lane; the farther from the median (number 0), the slower."""
    low, high = style.district.speed
    speed = max(low, high * (1 - _SLOWER * number)) if road.main else (low + high) / 2
    return Lane(path, road.lane_width, speed, road.main)


def _middle(road: Road, direction: int, number: int, start: float, end: float) -> Array:
    """Centre line of a lane in the direction of travel; number 0 is next to the median."""
    s = np.append(np.arange(start, end - 0.5, 1.0), end)[::direction]
    return road.ribbon.at(s, -direction * (road.median / 2 + (number + 0.5) * road.lane_width))


def _round_islands(network: Network, path: Array) -> Array:
    """The path routed around the islands of roundabouts and smoothed there."""
    for node in network.nodes:
        if node.ring:
            radius = node.ring - _RING_LANE_M
            away = path - node.center
            distance = np.linalg.norm(away, axis=1, keepdims=True)
            pushed = node.center + away * np.maximum(1.0, radius / np.maximum(distance, 1e-6))
            path = _evenly(smoothed(_evenly(pushed), 12))
    return path


def _evenly(path: Array) -> Array:
    """The curve resampled to points about a metre apart."""
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    even = np.linspace(0.0, s[-1], max(2, round(s[-1]) + 1))
    return np.column_stack([np.interp(even, s, path[:, k]) for k in (0, 1)])


def _turns(style: StreetStyle, network: Network, plan: StreetPlan, arm: Arm, node: Node) -> list[Lane]:
    """Right-turn lanes into and out of a side road that ends at the main road, where they fit."""
    found: list[Lane] = []
    surface = plan.road.buffer(0.1)
    for choices in zip(*(_right_turns(network, arm, node, extra) for extra in (4.0, 7.0, 11.0, 2.0)), strict=True):
        fitting = [path for path in choices if surface.contains(shapely.LineString(path))]
        found += [_lane(style, arm.road, path) for path in fitting[:1]]
    return found


def _right_turns(network: Network, arm: Arm, node: Node, extra: float) -> tuple[Array, Array]:
    """Right turns out of and into the main road; curves start and end ``extra`` metres from the junction."""
    main, side = network.main, arm.road
    junction = next(a for a in node.arms if a.road is main)
    left = np.sin(side.ribbon.yaw(0.0) - main.ribbon.yaw(junction.at)) > 0
    direction = -1 if left else 1  # of traffic on the near side of the main road
    away = arm.clear + extra
    along = max(a.clear for a in node.arms if a.road is main) + extra
    before, after = junction.at - direction * along, junction.at + direction * along
    number = main.lanes - 1
    upstream = (0.0, before) if direction > 0 else (before, main.ribbon.length)
    downstream = (after, main.ribbon.length) if direction > 0 else (0.0, after)
    leave = (_middle(main, direction, number, *upstream), _middle(side, 1, 0, away, side.ribbon.length))
    join = (_middle(side, -1, 0, away, side.ribbon.length), _middle(main, direction, number, *downstream))
    return _round_islands(network, _joined(*leave)), _round_islands(network, _joined(*join))


def _joined(first: Array, second: Array) -> Array:
    """Two paths connected by a curve with continuous direction."""
    a, d = first[-1], second[0]
    out, into = first[-1] - first[-2], second[1] - second[0]
    out, into = out / np.linalg.norm(out), into / np.linalg.norm(into)
    handle = 0.45 * float(np.linalg.norm(d - a))
    curve = bezier(a, a + out * handle, d - into * handle, d)
    return _evenly(np.concatenate([first[:-1], curve, second[1:]]))


def walks(network: Network, plan: StreetPlan, pavement: shapely.Geometry) -> tuple[Array, ...]:
    """(K, 2) paths along the middle of pavements and over crossings."""
    inside = pavement.buffer(-0.25)
    lines = []
    for road in network.roads:
        for sign in (-1, 1):
            side = road.side(sign)
            if side.pavement:
                d = sign * (road.edge(sign) + side.verge + side.track + side.pavement / 2)
                whole = shapely.LineString(road.ribbon.line(d, 0.0, road.ribbon.length))
                lines += list(shapely.get_parts(whole.intersection(inside)))
    found = [np.array(line.coords) for line in lines if line.length > 6]
    return tuple(found + [_over(crossing) for crossing in plan.crossings])


def _over(crossing: Crossing) -> Array:
    a, b = crossing.line
    ahead = (b - a) / np.linalg.norm(b - a)
    return np.stack([a - ahead, a, b, b + ahead])
