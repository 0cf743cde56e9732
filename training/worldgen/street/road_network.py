"""Road network: centre lines, cross-sections, junctions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import shapely

from training.worldgen.street.areas import rounded
from training.worldgen.street.cross_section import Road, sample_road
from training.worldgen.street.ribbon import Array, Ribbon, integrate_path, smoothed
from training.worldgen.street.street_style import StreetStyle, pick

UNSEEN_LAYOUTS = ("roundabout", "five_arms", "chicane", "boulevard")
_STRAIGHT_M = 22  # side roads meet the main road without a bend


@dataclass(frozen=True, eq=False)
class Arm:
    """One leg of a junction.

    Attributes:
        road: the road.
        at: s of the junction.
        sign: +1: it leaves the junction towards increasing s.
        clear: distance from the junction beyond which the arm overlaps no other road or corner, metres.
        crossing: distances from the junction to the near and far side of a crossing, metres; None: no crossing.
        stop: distance from the junction to the stop line, metres.
        control: "lights", "stop", "yield" or "none".
    """

    road: Road
    at: float
    sign: int
    clear: float = 0.0
    crossing: tuple[float, float] | None = None
    stop: float = 0.0
    control: str = "none"

    def s(self, distance: Any) -> Any:
        """Stations at distances (a number or an array) from the junction."""
        return self.at + self.sign * distance

    def span(self, near: float, far: float) -> tuple[float, float]:
        """Stations of two distances, in increasing order."""
        a, b = sorted((self.s(near), self.s(far)))
        return max(a, 0.0), min(b, self.road.ribbon.length)


@dataclass(frozen=True, eq=False)
class Node:
    """A junction.

    Attributes:
        center: (2,) metres.
        arms: its legs.
        ring: radius of a roundabout's outer kerb, metres; 0: no roundabout.
        island: radius of its island, metres.
    """

    center: Array
    arms: tuple[Arm, ...]
    ring: float = 0.0
    island: float = 0.0


@dataclass(frozen=True, eq=False)
class Network:
    """All roads of a drive.

    Attributes:
        roads: the main road first.
        nodes: junctions.
        midblock_crossings: crossings between junctions: road, first and last s.
        layout: "usual", or one of :data:`UNSEEN_LAYOUTS`.
        beyond: length of the main road beyond each end of the ego lane, metres.
    """

    roads: tuple[Road, ...]
    nodes: tuple[Node, ...]
    midblock_crossings: tuple[tuple[Road, float, float], ...]
    layout: str
    beyond: float

    @property
    def main(self) -> Road:
        """The road that the ego vehicle follows."""
        return self.roads[0]

    @cached_property
    def ego_span(self) -> tuple[float, float]:
        """First and last s of the ego lane on the main road."""
        return self.beyond, self.main.ribbon.length - self.beyond

    def arms(self, road: Road) -> list[Arm]:
        """Arms of one road at all its junctions."""
        return [arm for node in self.nodes for arm in node.arms if arm.road is road]

    def open_spans(self, road: Road, margin: float = 0.0) -> list[tuple[float, float]]:
        """Spans of s between the stop lines of a road, shortened by a margin at junctions."""
        closed = sorted(arm.span(0.0, arm.stop + margin) for arm in self.arms(road))
        spans, start = [], 0.0
        for a, b in closed:
            if a - start > 1.0:
                spans.append((start, a))
            start = max(start, b)
        if road.ribbon.length - start > 1.0:
            spans.append((start, road.ribbon.length))
        return spans


def generate_network(rng: np.random.Generator, style: StreetStyle, unseen: bool) -> Network:
    """Draw a main road, side roads and junctions."""
    layout = str(rng.choice(UNSEEN_LAYOUTS)) if unseen else "usual"
    main = _main_road(rng, style, layout)
    stations = _junction_stations(rng, style, main.ribbon.length)
    special = int(rng.integers(max(len(stations), 1)))
    roads, nodes = [main], []
    for number, s in enumerate(stations):
        arms = _side_arms(rng, style, main, s, roads, layout if number == special else "usual")
        roads += list({id(arm.road): arm.road for arm in arms}.values())
        if arms:
            node = Node(main.ribbon.at(s), (Arm(main, s, -1), Arm(main, s, 1), *arms))
            nodes.append(_roundabout(rng, node) if layout == "roundabout" and number == special else node)
    finished = tuple(_with_controls(rng, style, node) for node in nodes)
    network = Network(tuple(roads), finished, (), layout, style.district.beyond)
    return replace(network, midblock_crossings=_midblock(rng, style, network))


def _main_road(rng: np.random.Generator, style: StreetStyle, layout: str) -> Road:
    district = style.district
    length = int(district.ego_length + 2 * district.beyond)
    s = np.arange(length)
    sweep = rng.uniform(0.0, 0.03) if rng.random() < 0.3 else rng.uniform(*district.sweep)
    wavelength = rng.uniform(*district.wavelength)
    yaw = sweep * np.sin(2 * np.pi * s / wavelength + rng.uniform(0, 2 * np.pi))
    yaw += 0.3 * sweep * np.sin(4 * np.pi * s / wavelength + rng.uniform(0, 2 * np.pi))
    if layout == "chicane":
        yaw += _chicane(rng, s)
    points = integrate_path((0.0, 0.0), yaw + rng.uniform(0, 2 * np.pi))
    ribbon = Ribbon(points - points[length // 2] + rng.uniform(-15, 15, 2))
    lanes = 2 if rng.random() < district.two_lanes and layout not in ("roundabout", "chicane") else 1
    if style.kind == "motorway":
        lanes = int(rng.choice((2, 3, 4), p=(0.5, 0.38, 0.12)))
    return sample_road(rng, style, ribbon, lanes, True, layout)


def _chicane(rng: np.random.Generator, s: Array) -> Array:
    """Two sharp bends that shift the road sideways and back."""
    first, gap = rng.uniform(170, 230), rng.uniform(30, 50)
    bump = np.exp(-(((s - first) / 7) ** 2)) - np.exp(-(((s - first - gap) / 7) ** 2))
    return rng.choice((-1, 1)) * rng.uniform(0.35, 0.5) * bump


def _junction_stations(rng: np.random.Generator, style: StreetStyle, length: float) -> Array:
    fewest, most = style.district.junctions
    count = int(rng.integers(fewest, most + 1))
    if count == 0:
        return np.zeros(0)
    first, last = style.district.beyond + 30, length - style.district.beyond - 30
    room = (last - first) / count
    return first + room * (np.arange(count) + 0.5) + rng.uniform(-0.5, 0.5, count) * (room - 66)


def _side_arms(
    rng: np.random.Generator, style: StreetStyle, main: Road, s: float, roads: list[Road], layout: str
) -> list[Arm]:
    """Arms of the side roads that meet the main road at s: a through road, one on one side, or more."""
    through = rng.random() < 0.6 or layout == "roundabout"
    sign = int(rng.choice((-1, 1)))
    turn = rng.uniform(np.radians(60), np.radians(120)) if rng.random() < 0.4 else np.radians(rng.uniform(80, 100))
    first = _free_path(rng, main, s, sign, turn, roads)
    second = _free_path(rng, main, s, -sign, np.pi - turn, roads) if through else None
    arms = []
    if first is not None and second is not None:
        ribbon = Ribbon(smoothed(np.concatenate([second[:0:-1], first]), 60))
        road = sample_road(rng, style, ribbon, 1, False)
        at = ribbon.nearest(first[0])
        arms = [Arm(road, at, -1), Arm(road, at, 1)]
    elif first is not None or second is not None:
        path = first if first is not None else second
        arms = [Arm(sample_road(rng, style, Ribbon(path), 1, False), 0.0, 1)]  # type: ignore[arg-type]
    if layout == "five_arms":
        skew = turn - np.radians(55) if turn > np.pi / 2 else turn + np.radians(55)
        extra = _free_path(rng, main, s, sign, skew, [main])
        if extra is not None:
            arms.append(Arm(sample_road(rng, style, Ribbon(extra), 1, False), 0.0, 1))
    return arms


def _free_path(
    rng: np.random.Generator, main: Road, s: float, sign: int, turn: float, roads: list[Road]
) -> Array | None:
    """A path away from the main road that meets no other road, or None."""
    for _ in range(6):
        length = int(rng.integers(80, 150))
        along = np.arange(length)
        bend = rng.uniform(-0.5, 0.5) * np.sin(np.clip((along - _STRAIGHT_M) / 110, 0, 1) * np.pi / 2) ** 2
        path = integrate_path(main.ribbon.at(s), main.ribbon.yaw(s) + sign * turn + bend)
        line, tail = shapely.LineString(path), shapely.LineString(path[45:])
        others = [shapely.LineString(road.ribbon.points) for road in roads[1:]]
        if tail.distance(shapely.LineString(main.ribbon.points)) > 28 and all(line.distance(o) > 44 for o in others):
            return path
        turn += 0.35 * (np.pi / 2 - turn)
    return None


def _roundabout(rng: np.random.Generator, node: Node) -> Node:
    ring = rng.uniform(15.0, 19.0)
    return replace(node, ring=ring, island=ring - rng.uniform(6.2, 7.5))


def _with_controls(rng: np.random.Generator, style: StreetStyle, node: Node) -> Node:
    """The junction with clearances, crossings, stop lines and right of way of its arms."""
    lit = rng.random() < style.district.lights and not node.ring
    minor = "yield" if node.ring else pick(rng, stop=0.6, none=0.4)
    arms = []
    for arm in node.arms:
        clear = _clearance(arm, node, style.corner)
        end = clear + rng.uniform(0.3, 1.8)
        paved = min(arm.road.left.pavement, arm.road.right.pavement) > 0
        crossing = (end, end + rng.uniform(2.6, 4.2)) if paved and rng.random() < style.district.crossing else None
        stop = crossing[1] + rng.uniform(0.8, 1.5) if crossing else clear + rng.uniform(0.3, 1.5)
        control = "lights" if lit else minor if node.ring or not arm.road.main else "none"
        arms.append(replace(arm, clear=clear, crossing=crossing, stop=stop, control=control))
    return replace(node, arms=tuple(arms))


def _clearance(arm: Arm, node: Node, corner: float) -> float:
    """Distance along an arm at which the carriageway has narrowed to about the arm's own width."""
    reach, road = 56.0, arm.road
    arms = [a.road.carriageway(*a.span(0.0, reach)) for a in node.arms]
    ring = [shapely.Point(node.center).buffer(node.ring)] if node.ring else []
    whole = rounded(shapely.union_all(arms + ring), corner)
    out = np.arange(4.0, reach - 8, 0.5)
    half = np.array([(-road.edge(-1) - 20, road.edge(1) + 20)])
    across = shapely.linestrings(road.ribbon.at(arm.s(out)[:, None], half))
    middle = shapely.points(road.ribbon.at(arm.s(out)))
    pieces, number = shapely.get_parts(shapely.intersection(across, whole), return_index=True)
    own = shapely.distance(pieces, middle[number]) < 0.1
    wide = shapely.length(pieces[own]) > road.edge(-1) + road.edge(1) + 0.6 * corner
    return float(out[number[own][wide]].max(initial=3.5)) + 0.5


def _midblock(rng: np.random.Generator, style: StreetStyle, network: Network) -> tuple[tuple[Road, float, float], ...]:
    """Randomly, a crossing of the main road away from junctions."""
    road = network.main
    spans = [(a, b) for a, b in network.open_spans(road, 12.0) if b - a > 20]
    if not spans or not road.left.pavement or not road.right.pavement or rng.random() > style.district.crossing * 0.5:
        return ()
    a, b = spans[int(rng.integers(len(spans)))]
    s = rng.uniform(a + 6, b - 10)
    return ((road, s, s + rng.uniform(2.8, 4.0)),)
