"""Street areas: carriageways with rounded corners, islands, crossings, parking, lowered kerbs, ditches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from training.worldgen.street.areas import rounded, without_slivers
from training.worldgen.street.cross_section import Road
from training.worldgen.street.ribbon import Array
from training.worldgen.street.road_network import Network
from training.worldgen.street.street_style import StreetStyle

KERBSTONE_M = 0.15


@dataclass(frozen=True, eq=False)
class Crossing:
    """A pedestrian crossing.

    Attributes:
        shape: on the carriageway, kerb to kerb.
        line: (2, 2) metres, along its middle from kerb to kerb.
        yaw: of the road's travel direction there, radians.
        kind: how it is marked: "zebra", "lines", "bricks" or "plain".
        road: the road.
        start: first s on the road.
        end: last s on the road.
    """

    shape: shapely.Polygon
    line: Array
    yaw: float
    kind: str
    road: Road
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class StreetPlan:
    """Areas of the street between the plots.

    Attributes:
        carriageway: area within the outer kerbs.
        islands: raised parts of it: (kind, polygons).
        corridor: carriageway, verges, tracks and pavements.
        crossings: pedestrian crossings.
        bays: parking strips.
    """

    carriageway: shapely.Geometry
    islands: tuple[tuple[str, shapely.Geometry], ...]
    corridor: shapely.Geometry
    crossings: tuple[Crossing, ...]
    bays: shapely.Geometry

    @property
    def road(self) -> shapely.Geometry:
        """The carriageway without islands."""
        return self.carriageway.difference(shapely.union_all([shape for _, shape in self.islands]))


def plan_street(style: StreetStyle, network: Network) -> StreetPlan:
    """Areas of carriageways, pavements, islands and crossings of a network."""
    lanes, outer = [], []
    for road in network.roads:
        lanes += _lanes_and_parking(style, network, road)
        outer += [_with_border(road)]
    rings = [shapely.Point(node.center).buffer(node.ring, 16) for node in network.nodes if node.ring]
    aprons = [shapely.Point(node.center).buffer(node.ring + 3.0, 16) for node in network.nodes if node.ring]
    carriageway = rounded(shapely.union_all(lanes + rings), style.corner)
    corridor = rounded(shapely.union_all([*lanes, *rings, *aprons, *outer]), style.corner).union(carriageway)
    crossings = tuple(_crossings(style, network, carriageway))
    return StreetPlan(
        carriageway, _islands(network, crossings), corridor, crossings, _bay_strips(network).intersection(carriageway)
    )


def _lanes_and_parking(style: StreetStyle, network: Network, road: Road) -> list[shapely.Polygon]:
    ends = [road.side(sign).pavement > 0 and style.build_outs for sign in (1, -1)]
    left, right = (road.edge(s) - road.side(s).parking * end for s, end in zip((1, -1), ends, strict=True))
    whole = [road.ribbon.strip(0.0, road.ribbon.length, -right, left)]
    return whole + [road.carriageway(a, b) for a, b in network.open_spans(road, 2.0) if b - a > 3 * style.corner]


def _with_border(road: Road) -> shapely.Polygon:
    widths = [road.edge(sign) + (road.side(sign).border if road.side(sign).pavement else 0.0) for sign in (-1, 1)]
    return road.ribbon.strip(0.0, road.ribbon.length, -widths[0], widths[1])


def _bay_strips(network: Network) -> shapely.Geometry:
    """Parking strips, clear of junctions and crossings."""
    strips = [shapely.Polygon()]
    for road in network.roads:
        for sign in (-1, 1):
            inner, outer = road.edge(sign) - road.side(sign).parking, road.edge(sign)
            if outer > inner:
                strips += [road.band(sign, inner, outer, a, b) for a, b in parking_spans(network, road)]
    return shapely.union_all(strips)


def parking_spans(network: Network, road: Road) -> list[tuple[float, float]]:
    """Spans of s where parking is allowed."""
    spans = network.open_spans(road, 5.0)
    for other, start, end in network.midblock_crossings:
        if other is road:
            cut = [((a, min(b, start - 5)), (max(a, end + 5), b)) for a, b in spans]
            spans = [span for pair in cut for span in pair]
    return [(a, b) for a, b in spans if b - a > 7]


def _crossings(style: StreetStyle, network: Network, carriageway: shapely.Geometry) -> list[Crossing]:
    found = []
    for node in network.nodes:
        for arm in node.arms:
            if arm.crossing:
                found.append(_crossing(style, arm.road, *arm.span(*arm.crossing), carriageway))
    found += [_crossing(style, *place, carriageway) for place in network.midblock_crossings]
    return [crossing for crossing in found if crossing is not None]


def _crossing(
    style: StreetStyle, road: Road, start: float, end: float, carriageway: shapely.Geometry
) -> Crossing | None:
    middle, reach = (start + end) / 2, style.corner
    across = shapely.LineString(road.ribbon.at(middle, (-road.edge(-1) - reach, road.edge(1) + reach)))
    pieces = shapely.get_parts(across.intersection(carriageway))
    centre = shapely.Point(road.ribbon.at(middle))
    line = next((piece for piece in pieces if piece.distance(centre) < 0.2), None)
    if line is None or line.length > road.edge(-1) + road.edge(1) + reach:
        return None
    strip = road.ribbon.strip(start, end, -road.edge(-1) - reach, road.edge(1) + reach).intersection(carriageway)
    shape = next(part for part in shapely.get_parts(strip) if part.distance(centre) < 0.2)
    return Crossing(shape, np.array(line.coords), road.ribbon.yaw(middle), style.crossing, road, start, end)


def _islands(network: Network, crossings: tuple[Crossing, ...]) -> tuple[tuple[str, shapely.Geometry], ...]:
    """Medians, refuges at crossings and the middle of roundabouts."""
    green, paved = [shapely.Polygon()], [shapely.Polygon()]
    for road in network.roads:
        half = road.median / 2 - 0.15
        if road.median_kind in ("grass", "paved"):
            medians = [road.ribbon.strip(a, b, -half, half) for a, b in network.open_spans(road, -0.5) if b - a > 6]
            rounded = [median.buffer(-half * 0.8).buffer(half * 0.8, 4) for median in medians]
            (green if road.median_kind == "grass" else paved).extend(rounded)
        elif road.median_kind == "painted":
            at_road = [c for c in crossings if c.road is road and c.end - c.start < 10]
            paved += [_refuge(network, crossing, half) for crossing in at_road]
    green += [shapely.Point(node.center).buffer(node.island, 12) for node in network.nodes if node.ring]
    return (("green_island", shapely.union_all(green)), ("paved_island", shapely.union_all(paved)))


def _refuge(network: Network, crossing: Crossing, half: float) -> shapely.Geometry:
    """A refuge island around a crossing, clipped at the junction."""
    start, end = crossing.start - 3.0, crossing.end + 3.0
    for arm in network.arms(crossing.road):
        near, far = arm.span(0.0, arm.clear)
        if near < end and start < far:
            start, end = (max(start, far), end) if arm.sign > 0 else (start, min(end, near))
    shape = crossing.road.ribbon.strip(start, end, -half, half)
    return shape.buffer(-half * 0.7).buffer(half * 0.7, 4)


def lowered_kerbs(plan: StreetPlan, driveways: tuple[shapely.Polygon, ...]) -> shapely.Geometry:
    """Areas with kerbs lowered to the carriageway: at crossings and driveways."""
    rim = plan.carriageway.buffer(KERBSTONE_M + 0.15, 4)
    ways = [c.road.ribbon.strip(c.start, c.end, *_extent(c.road)).intersection(c.shape.buffer(1.2)) for c in
            plan.crossings]  # fmt: skip
    return shapely.union_all(ways + list(driveways)).intersection(rim)


def _extent(road: Road) -> tuple[float, float]:
    return -road.edge(-1) - 15, road.edge(1) + 15


def soft_edges(network: Network, plan: StreetPlan) -> shapely.Geometry:
    """Narrow strips along carriageway edges without a kerb."""
    strips = [shapely.Polygon()]
    for road in network.roads:
        for sign in (-1, 1):
            if road.side(sign).soft:
                edge = road.edge(sign)
                strips += [road.band(sign, edge - 0.3, edge + 0.5, *span) for span in network.open_spans(road, 2.0)]
    return shapely.union_all(strips).difference(plan.road)


def ditches(network: Network, plan: StreetPlan, keep_clear: shapely.Geometry) -> shapely.Geometry:
    """Bottoms of ditches, at a distance from all level areas."""
    bottoms = [shapely.Polygon()]
    for road in network.roads:
        for sign in (-1, 1):
            if road.side(sign).ditch:
                edge = road.edge(sign)
                bottoms += [road.band(sign, edge + 2.2, edge + 2.5, *span) for span in network.open_spans(road, 4.0)]
    clear = shapely.union_all([keep_clear, plan.corridor.difference(soft_edges(network, plan))]).buffer(1.6)
    return without_slivers(shapely.union_all(bottoms).difference(clear))
