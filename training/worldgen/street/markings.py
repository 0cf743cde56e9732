"""Road markings, and lookalikes labelled road: coloured lanes, repairs, tar lines, manhole covers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely

from training.worldgen.street.areas import polygons
from training.worldgen.street.cross_section import Road
from training.worldgen.street.frontage import Frontage
from training.worldgen.street.road_network import Arm, Network
from training.worldgen.street.street_plan import Crossing, StreetPlan, parking_spans
from training.worldgen.street.street_style import StreetStyle, pick

WHITE = "marking_white"
_LINE_M = 0.13
_ARROW = np.array([(-1.6, -0.08), (0.5, -0.08), (0.5, -0.3), (1.7, 0), (0.5, 0.3), (0.5, 0.08), (-1.6, 0.08)])
_TURN = np.array([(-1.6, -0.08), (0.9, -0.08), (0.9, 0.5), (1.25, 0.5), (0.72, 1.1), (0.2, 0.5), (0.55, 0.5),
                  (0.55, 0.08), (-1.6, 0.08)])  # fmt: skip
_STROKES = np.array([(0, 0, 2, 0.25), (0, 0.65, 2, 0.9), (0, 0.25, 0.25, 0.65), (0.9, 0.25, 1.1, 0.65),
                     (1.75, 0.25, 2, 0.65)])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Paint:
    """A part of the carriageway with another material; later ones overlay earlier ones.

    Attributes:
        shape: polygon, metres.
        material: name of the material.
        label: "road_marking", or "road" for decoys.
        instance: selects the colour.
    """

    shape: shapely.Geometry
    material: str
    label: str
    instance: int = 0


def paint_streets(
    rng: np.random.Generator, style: StreetStyle, network: Network, plan: StreetPlan, frontage: Frontage
) -> tuple[Paint, ...]:
    """All paint of a drive, in drawing order."""
    decoys = [*_coloured_surfaces(rng, style, network), *_repairs(rng, style, network)]
    marks: list[Paint] = []
    for road in network.roads:
        marks += _centre_line(rng, style, network, road)
        marks += _lane_lines(style, network, road)
        marks += _bay_lines(style, network, road)
    for crossing in plan.crossings:
        marks += _crossing_marks(style, crossing)
    for node in network.nodes:
        for arm in node.arms:
            marks += _stop_line(style, arm)
            marks += _arrows(rng, style, network, arm) if style.letters else []
    marks += _letters(rng, style, network) if style.letters else []
    marks += [_mark(shapely.LineString(line).buffer(0.06, cap_style="flat")) for line in frontage.lot_lines]
    worn = _worn(rng, style, network, marks)
    laid = [paint for paint in [*decoys, *worn, *_covers(rng, network), *_crack_seals(rng, style, network)]]
    return tuple(_on_surface(laid, plan, frontage))


def _on_surface(paints: list[Paint], plan: StreetPlan, frontage: Frontage) -> Iterator[Paint]:
    """Clip paint to carriageways and car parks."""
    lots = [patch.shape for patch in frontage.patches if patch.kind == "lot" and patch.material != "gravel"]
    surface = shapely.union_all([plan.road, *lots])
    shapely.prepare(surface)
    shapes = np.array([paint.shape for paint in paints])
    over = ~shapely.contains_properly(surface, shapes)
    shapes[over] = shapely.intersection(shapes[over], surface)
    for paint, shape in zip(paints, shapes, strict=True):
        parts = polygons(shape)
        parts = parts[shapely.area(parts) > 0.01]
        if len(parts):
            whole = parts[0] if len(parts) == 1 else shapely.multipolygons(list(parts))
            yield Paint(whole, paint.material, paint.label, paint.instance)


def _mark(shape: shapely.Geometry, material: str = WHITE) -> Paint:
    return Paint(shape, material, "road_marking")


def _line(road: Road, d: float, start: float, end: float, material: str = WHITE, width: float = _LINE_M) -> Paint:
    return _mark(road.ribbon.strip(start, end, d - width / 2, d + width / 2), material)


def _dashes(road: Road, d: float, start: float, end: float, material: str = WHITE) -> list[Paint]:
    return [_line(road, d, s, min(s + 3.0, end), material) for s in np.arange(start, end - 0.5, 9.0)]


def _centre_line(rng: np.random.Generator, style: StreetStyle, network: Network, road: Road) -> list[Paint]:
    marks: list[Paint] = []
    look, material = style.centre, style.centre_material
    if not road.main and rng.random() < 0.5:
        look = "none" if style.kind == "residential" else "dashed"
    for a, b in network.open_spans(road):
        if road.median_kind == "painted":
            marks += _painted_median(style, network, road, a, b)
        elif road.median_kind in ("grass", "paved", "barrier"):
            marks += [_line(road, side * (road.median / 2 + 0.1), a, b, material) for side in (-1, 1)]
        elif look == "dashed":
            marks += _dashes(road, 0.0, a, b, material)
        elif look == "solid":
            marks.append(_line(road, 0.0, a, b, material))
        elif look == "double":
            marks += [_line(road, side * 0.13, a, b, material, 0.11) for side in (-1, 1)]
    return marks


def _painted_median(style: StreetStyle, network: Network, road: Road, a: float, b: float) -> list[Paint]:
    """Lines on both sides, with hatching between them or without, as a turning lane."""
    half, material = road.median / 2, style.centre_material
    marks = [_line(road, side * half, a, b, material) for side in (-1, 1)]
    if style.centre == "dashed":
        return marks
    for s in np.arange(a + 2, b - half * 2 - 2, 3.2):
        outline = [(0, -half), (0.4, -half), (0.4 + 2 * half, half), (2 * half, half)]
        marks.append(_mark(road.ribbon.shape(s, 0.0, outline), material))
    return marks


def _lane_lines(style: StreetStyle, network: Network, road: Road) -> list[Paint]:
    marks = []
    edge = style.road != "cobbles" and style.edge_lines
    for a, b in network.open_spans(road):
        for sign in (-1, 1):
            side, outer = road.side(sign), road.lanes_edge
            for number in range(1, road.lanes):
                marks += _dashes(road, sign * (road.median / 2 + number * road.lane_width), a, b)
            if side.cycle:
                marks.append(_line(road, sign * outer, a, b))
                outer += side.cycle
                marks += [_line(road, sign * outer, a, b)] if side.parking else []
            elif edge:
                marks.append(_line(road, sign * (outer - (0.0 if side.parking else 0.2)), a, b))
    return marks


def _bay_lines(style: StreetStyle, network: Network, road: Road) -> list[Paint]:
    if not style.bay_lines:
        return []
    marks = []
    for sign in (-1, 1):
        parking, outer = road.side(sign).parking, road.edge(sign)
        if parking:
            for a, b in parking_spans(network, road):
                pitch = bay_pitch(parking)
                lines = np.arange(a, b + 0.01, pitch)
                marks += [_mark(road.band(sign, outer - parking, outer, s - 0.05, s + 0.05)) for s in lines]
    return marks


def bay_pitch(parking: float) -> float:
    """Spacing of parking bays along the road: parallel, or perpendicular in strips deeper than 4 m."""
    return 2.6 if parking > 4 else 6.2


def _crossing_marks(style: StreetStyle, crossing: Crossing) -> list[Paint]:
    road, a, b = crossing.road, crossing.start, crossing.end
    right, left = -road.edge(-1) - style.corner, road.edge(1) + style.corner
    if crossing.kind == "zebra":
        bars = [road.ribbon.strip(a, b, d, d + 0.45) for d in np.arange(right, left, 0.95)]
        return [_mark(bar.intersection(crossing.shape)) for bar in bars if bar.intersects(crossing.shape)]
    if crossing.kind == "plain":
        return []
    edges = [(a, a + 0.3), (b - 0.3, b)]
    marks = [_mark(road.ribbon.strip(*edge, right, left).intersection(crossing.shape)) for edge in edges]
    return [Paint(crossing.shape, "paving_bricks", "road", 7), *marks] if crossing.kind == "bricks" else marks


def _stop_line(style: StreetStyle, arm: Arm) -> list[Paint]:
    if arm.control not in ("lights", "stop", "yield") or style.road == "cobbles":
        return []
    road, near = arm.road, arm.road.median / 2
    right, left = sorted((arm.sign * (near + 0.1), arm.sign * (road.lanes_edge - 0.1)))
    a, b = arm.span(arm.stop, arm.stop + 0.4)
    if arm.control == "yield":
        return [_mark(road.ribbon.strip(a, b, d, d + 0.5)) for d in np.arange(right, left - 0.5, 0.9)]
    return [_mark(road.ribbon.strip(a, b, right, left))]


def _arrows(rng: np.random.Generator, style: StreetStyle, network: Network, arm: Arm) -> list[Paint]:
    """Lane arrows before a junction."""
    road = arm.road
    s = arm.s(arm.stop + rng.uniform(4, 8))
    if not any(a + 2 < s < b - 2 for a, b in network.open_spans(road)) or (not road.main and rng.random() < 0.6):
        return []
    marks = []
    for number in range(road.lanes):
        outline = (_ARROW, _TURN, _TURN * (1, -1))[int(rng.integers(3))] * (1.2, 1.0) * -arm.sign
        marks.append(
            _mark(road.ribbon.shape(s, arm.sign * (road.median / 2 + (number + 0.5) * style.lane_width), outline))
        )
    return marks


def _letters(rng: np.random.Generator, style: StreetStyle, network: Network) -> list[Paint]:
    """Letter-like blocks of a few strokes each."""
    road, marks = network.main, []
    for a, b in network.open_spans(road, 14.0):
        if b - a < 12 or rng.random() < 0.4:
            continue
        s, sign = rng.uniform(a + 4, b - 4), int(rng.choice((-1, 1)))
        middle = sign * (road.lanes_edge - style.lane_width / 2)
        count = int(rng.integers(2, 4))
        for k in range(count):
            strokes = _STROKES[rng.random(len(_STROKES)) < 0.7]
            d = middle + (k - (count - 1) / 2) * 0.98 - 0.45
            marks += [_mark(road.ribbon.strip(s + u0, s + u1, d + v0, d + v1)) for u0, v0, u1, v1 in strokes]
    return marks


def _worn(rng: np.random.Generator, style: StreetStyle, network: Network, marks: list[Paint]) -> list[Paint]:
    """Remove some markings and cut holes into others."""
    if style.worn == 0 or not marks:
        return marks
    kept = [mark for mark in marks if mark.label == "road" or rng.random() > 0.35 * style.worn]
    road = network.main
    count = int(style.worn * 160)
    s, d = rng.uniform(0, road.ribbon.length, count), rng.uniform(-1, 1, count) * (road.lanes_edge + 1)
    blots = [
        road.ribbon.shape(*place, rng.uniform(0.2, 1.4) * _irregular_polygon(rng)) for place in zip(s, d, strict=True)
    ]
    holes = shapely.union_all(blots)
    shapely.prepare(holes)
    shapes = np.array([mark.shape for mark in kept])
    hit = shapely.intersects(holes, shapes)
    shapes[hit] = shapely.difference(shapes[hit], holes)
    return [Paint(s, m.material, m.label, m.instance) for s, m in zip(shapes, kept, strict=True)]


def _irregular_polygon(rng: np.random.Generator) -> np.ndarray:
    angle = np.arange(7) * (2 * np.pi / 7)
    return np.column_stack([np.cos(angle), np.sin(angle)]) * rng.uniform(0.6, 1.2, (7, 1))


def _coloured_surfaces(rng: np.random.Generator, style: StreetStyle, network: Network) -> list[Paint]:
    """Side roads of another material and painted cycle and bus lanes, all labelled road."""
    paints = []
    if style.side_road != style.road:
        for road in network.roads[1:]:
            whole = [road.ribbon.strip(a, b, -road.edge(-1) - 1, road.edge(1) + 1) for a, b in network.open_spans(road)]
            paints += [Paint(strip, style.side_road, "road", 3) for strip in whole]
    road, colour = network.main, int(rng.integers(1, 100))
    for a, b in network.open_spans(road, -1.0):
        for sign in (-1, 1):
            side, outer = road.side(sign), road.lanes_edge
            if side.cycle and style.cycle_painted:
                paints.append(Paint(road.band(sign, outer, outer + side.cycle, a, b), "lane_paint", "road", colour))
            if style.bus_lane and road.lanes > 1 and sign < 0:
                strip = road.ribbon.strip(a, b, -outer, -(outer - road.lane_width))
                paints.append(Paint(strip, "lane_paint", "road", colour + 1))
    return paints


def _repairs(rng: np.random.Generator, style: StreetStyle, network: Network) -> list[Paint]:
    """Rectangles of newer or older asphalt, and trenches along or across the road."""
    paints = []
    for road in network.roads:
        for _ in range(rng.poisson(style.patches * road.ribbon.length / 100)):
            s, d = rng.uniform(4, road.ribbon.length - 12), rng.uniform(-1, 1) * road.lanes_edge
            length, width = (
                (rng.uniform(3, 12), rng.uniform(0.5, 0.9)) if rng.random() < 0.4 else rng.uniform(0.7, 3, 2)
            )
            material = pick(rng, asphalt=0.5, asphalt_new=0.4, paving_concrete=0.1)
            shape = road.ribbon.strip(s, s + length, d, d + width)
            paints.append(Paint(shape, material, "road", int(rng.integers(1, 100))))
    return paints


def _covers(rng: np.random.Generator, network: Network) -> list[Paint]:
    """Manhole covers and drains."""
    paints = []
    for road in network.roads:
        for s in np.arange(rng.uniform(5, 30), road.ribbon.length - 3, rng.uniform(18, 40)):
            d = rng.uniform(-0.9, 0.9) * road.lanes_edge
            octagon = _octagon(rng.uniform(0.28, 0.36))
            paints.append(Paint(road.ribbon.shape(s, d, octagon), "metal", "road", int(rng.integers(1, 100))))
            sign = int(rng.choice((-1, 1)))
            gully = sign * (road.edge(sign) - 0.3)
            shape = road.ribbon.strip(s + 2, s + 2.5, gully - 0.2, gully + 0.2)
            paints.append(Paint(shape, "metal", "road", int(rng.integers(1, 100))))
    return paints


def _octagon(radius: float) -> np.ndarray:
    angle = np.arange(8) * (np.pi / 4)
    return radius * np.column_stack([np.cos(angle), np.sin(angle)])


def _crack_seals(rng: np.random.Generator, style: StreetStyle, network: Network) -> list[Paint]:
    """Sealed cracks: dark meandering lines."""
    paints = []
    for road in network.roads:
        for _ in range(rng.poisson(style.tar * road.ribbon.length / 100)):
            count = int(rng.integers(4, 9))
            turn = rng.choice((0.0, np.pi / 2)) + np.cumsum(rng.normal(0, 0.35, count))
            steps = np.column_stack([np.cos(turn), np.sin(turn)]) * rng.uniform(0.6, 1.4)
            s, d = rng.uniform(10, road.ribbon.length - 10), rng.uniform(-0.8, 0.8) * road.lanes_edge
            local = np.cumsum(steps, axis=0)
            line = shapely.LineString(road.ribbon.at(np.clip(s + local[:, 0], 0, road.ribbon.length), d + local[:, 1]))
            paints.append(Paint(line.buffer(rng.uniform(0.03, 0.06), 1, cap_style="flat"), "asphalt_new", "road", 5))
    return paints
