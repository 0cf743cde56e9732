"""Streets of a drive: ground zones, heights, lanes and walkways."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from training.worldgen.street.cross_section import Road
from training.worldgen.street.frontage import Frontage, generate_frontage
from training.worldgen.street.markings import Paint, bay_pitch, paint_streets
from training.worldgen.street.plots import Bay, Plot
from training.worldgen.street.relief import Bank, Relief
from training.worldgen.street.ribbon import Array
from training.worldgen.street.road_network import Network, generate_network
from training.worldgen.street.street_plan import (
    Crossing,
    StreetPlan,
    ditches,
    lowered_kerbs,
    parking_spans,
    plan_street,
    soft_edges,
)
from training.worldgen.street.street_style import StreetStyle
from training.worldgen.street.terrain import Terrain
from training.worldgen.street.ways import Approach, Junction, Lane, junctions, lanes, walks
from training.worldgen.street.zones import Zone, partition_ground

__all__ = ["Approach", "Bay", "Crossing", "Junction", "Lane", "Paint", "Place", "Plot", "Streets", "Zone"]

_FAR_M = 400.0
_GRADE, _MOTORWAY_GRADE = 0.08, 0.04
_PAVED = ("pavement", "plaza", "path", "paved_island", "kerb")


@dataclass(frozen=True)
class Place:
    """A position for an object beside the road.

    Attributes:
        x: metres.
        y: metres.
        yaw: direction towards the road, radians.
        kind: kind of the zone, as in :class:`Zone`.
        s: along its road, metres.
    """

    x: float
    y: float
    yaw: float
    kind: str
    s: float


@dataclass(frozen=True, eq=False)
class Streets:
    """Roads, pavements and open ground of a drive; the world frame's origin lies near the middle of the main road.

    Attributes:
        style: kind of district and street parameters.
        network: centre lines and cross-sections.
        plan: carriageways, islands, crossings.
        terrain: height without kerbs and ditches: ``terrain(x, y)``.
        relief: kerbs, ramps and ditches relative to the terrain.
        zones: partition of the ground into non-overlapping areas.
        paints: markings and decoys on carriageways, in drawing order.
        lanes: vehicle lanes, right-hand traffic.
        ego_lane: lane of the ego vehicle, along the main road.
        walks: (K, 2) pedestrian paths along pavements and over crossings.
        bays: parking bays.
        plots: building plots.
        back_plots: building plots in a second row, visible through gaps in the first.
        junctions: junctions with their approaches.
        crossings: pedestrian crossings.
    """

    style: StreetStyle
    network: Network
    plan: StreetPlan
    terrain: Terrain
    relief: Relief
    zones: tuple[Zone, ...]
    paints: tuple[Paint, ...]
    lanes: tuple[Lane, ...]
    ego_lane: Lane
    walks: tuple[Array, ...]
    bays: tuple[Bay, ...]
    plots: tuple[Plot, ...]
    back_plots: tuple[Plot, ...]
    junctions: tuple[Junction, ...]

    @classmethod
    def generate(cls, rng: np.random.Generator, unseen: bool = False, kind: str = "") -> Streets:
        """Draw the streets of one drive.

        Args:
            rng: randomness.
            unseen: use one of the layouts reserved for test drives.
            kind: of district, one of :data:`KINDS`; empty: drawn.
        """
        style = StreetStyle.sample(rng, kind, junctions=unseen)
        terrain = Terrain.sample(rng, _MOTORWAY_GRADE if style.kind == "motorway" else _GRADE)
        network = generate_network(rng, style, unseen)
        plan = plan_street(style, network)
        keep_clear = shapely.union_all([_junction_discs(network), *(c.shape.buffer(1.5) for c in plan.crossings)])
        frontage = generate_frontage(rng, style, network, plan.corridor, keep_clear)
        zones = partition_ground(style, network, plan, frontage, _box(network, _FAR_M), soft_edges(network, plan))
        pavement = shapely.union_all([zone.shape for zone in zones if zone.kind in ("pavement", "plaza")])
        all_lanes, ego_lane = lanes(rng, style, network, plan)
        return cls(
            style,
            network,
            plan,
            terrain,
            _relief(rng, style, network, plan, frontage),
            zones,
            paint_streets(rng, style, network, plan, frontage),
            all_lanes,
            ego_lane,
            walks(network, plan, pavement),
            (*_kerb_bays(network, frontage), *frontage.bays),
            frontage.plots,
            frontage.back_plots,
            junctions(network, plan),
        )

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        """Pedestrian crossings."""
        return self.plan.crossings

    @cached_property
    def road(self) -> shapely.Geometry:
        """Carriageways with parking strips, without islands."""
        return self.region("road", "bay")

    @cached_property
    def pavement(self) -> shapely.Geometry:
        """All areas labelled sidewalk, including islands and kerbs."""
        return self.region(*_PAVED)

    @cached_property
    def verge(self) -> shapely.Geometry:
        """Green strips beside carriageways, and green islands."""
        return self.region("verge", "green_island")

    @cached_property
    def ground(self) -> shapely.Geometry:
        """Gardens and open ground."""
        return self.region("yard", "ground", "field", "meadow", "wood")

    def region(self, *kinds: str) -> shapely.Geometry:
        """Union of all zones of the given kinds."""
        return shapely.union_all([zone.shape for zone in self.zones if zone.kind in kinds])

    def zone_at(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.int64]:
        """Indices of the zones at x, y (any shape); the last zone, open ground, where no other matches."""
        east, north = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        number = np.full(east.shape, len(self.zones) - 1)
        for k, zone in enumerate(self.zones[:-1]):
            shapely.prepare(zone.shape)
            number[shapely.contains_xy(zone.shape, east, north)] = k
        return number

    def height(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Height of the surface at x, y (any shape), kerbs, ramps and ditches included, metres."""
        east, north = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        height = self.terrain(east, north)
        shapely.prepare(self.road)
        raised = ~shapely.contains_xy(self.road, east, north)
        height[raised] += self.relief.rise(np.column_stack([east[raised], north[raised]]))
        return height

    def kerbside(self, spacing: float, rng: np.random.Generator, back: float = 0.6) -> tuple[Place, ...]:
        """Positions beside all roads for lamps, trees and signs, clear of crossings, driveways and corners.

        Args:
            spacing: mean distance between neighbours on one side of a road, metres.
            rng: randomness.
            back: distance from the carriageway's edge, metres; negative: on the carriageway, clear of junctions.
        """
        sides = [(road, sign) for road in self.network.roads for sign in (-1, 1)]
        found = [place for road, sign in sides for place in self._beside(road, sign, spacing, rng, back)]
        places = shapely.points([(place.x, place.y) for place in found])
        beside = [self.relief.ditch, self.plan.road] if back > 0 else [_junction_discs(self.network)]
        blocked = shapely.dwithin(shapely.union_all(beside), places, min(0.3, max(back, 0.0) / 2))
        blocked |= shapely.intersects(self._openings, places)
        unfit = ("driveway", "lot", "track")
        return tuple(p for p, is_blocked in zip(found, blocked, strict=True) if not is_blocked and p.kind not in unfit)

    @cached_property
    def _openings(self) -> shapely.Geometry:
        """Areas to keep clear before crossings and driveways."""
        ways = [crossing.shape.buffer(2.0) for crossing in self.crossings]
        return shapely.union_all([*ways, self.region("driveway").buffer(0.5)])

    def _beside(self, road: Road, sign: int, spacing: float, rng: np.random.Generator, back: float) -> list[Place]:
        """Candidate positions along one side of a road."""
        gaps = spacing * rng.uniform(0.8, 1.2, int(road.ribbon.length / spacing * 1.3) + 2)
        stations = rng.uniform(0, spacing) + np.concatenate([[0.0], np.cumsum(gaps)])
        stations = stations[stations < road.ribbon.length]
        points = road.ribbon.at(stations, sign * (road.edge(sign) + back))
        kinds = [self.zones[k].kind for k in self.zone_at(*points.T)]
        return [
            Place(float(x), float(y), road.ribbon.yaw(s) - sign * np.pi / 2, kind, float(s))
            for (x, y), kind, s in zip(points, kinds, stations, strict=True)
        ]


def _relief(
    rng: np.random.Generator, style: StreetStyle, network: Network, plan: StreetPlan, frontage: Frontage
) -> Relief:
    lowered = shapely.union_all([lowered_kerbs(plan, frontage.driveways), soft_edges(network, plan)])
    level = shapely.union_all([*frontage.driveways, _junction_discs(network)])
    bottoms = ditches(network, plan, level)
    banks = _banks(rng, style, network)
    return Relief(style.kerb, style.ramp, lowered, bottoms, float(rng.uniform(0.25, 0.6)), banks)


def _banks(rng: np.random.Generator, style: StreetStyle, network: Network) -> tuple[Bank, ...]:
    """Slopes beside the main road."""
    road, found = network.main, []
    strips = [r.ribbon.strip(0.0, r.ribbon.length, -r.edge(-1) - 3, r.edge(1) + 3) for r in network.roads[1:]]
    level = shapely.union_all([*strips, _junction_discs(network)])
    shapely.prepare(level)
    for sign, height in zip((1, -1), style.banks, strict=True):
        side = road.side(sign)
        foot = road.edge(sign) + (side.border if side.pavement else 4.4 if side.ditch else rng.uniform(1.0, 3.0)) + 0.3
        width = max(abs(height) * rng.uniform(1.5, 3.5), 1.5)
        phase = float(rng.uniform(0, 2 * np.pi))
        if height:
            found.append(Bank(road.ribbon, sign, float(foot), float(width), height, phase, level))
    return tuple(found)


def _junction_discs(network: Network) -> shapely.Geometry:
    discs = [shapely.Point(node.center).buffer(max(arm.clear for arm in node.arms) + 4) for node in network.nodes]
    return shapely.union_all(discs)


def _box(network: Network, reach: float) -> shapely.Polygon:
    """Bounding box of the ego lane, extended by ``reach``."""
    start, end = network.ego_span
    x0, y0, x1, y1 = shapely.LineString(network.main.ribbon.line(0.0, start, end)).bounds
    return shapely.box(x0 - reach, y0 - reach, x1 + reach, y1 + reach)


def _kerb_bays(network: Network, frontage: Frontage) -> list[Bay]:
    """Parking bays along kerbs, except in front of driveways."""
    bays = []
    for road in network.roads:
        for sign in (-1, 1):
            parking = road.side(sign).parking
            if parking:
                for a, b in parking_spans(network, road):
                    bays += _row(road, sign, parking, a, b)
    blocked = shapely.union_all(frontage.driveways).buffer(1.0)
    shapely.prepare(blocked)
    free = [not blocked.intersects(_outline(bay)) for bay in bays]
    return [bay for bay, ok in zip(bays, free, strict=True) if ok]


def _row(road: Road, sign: int, parking: float, start: float, end: float) -> list[Bay]:
    pitch, across = bay_pitch(parking), parking > 4
    middles = np.arange(start, end - pitch + 0.01, pitch) + pitch / 2
    places = road.ribbon.at(middles, sign * (road.edge(sign) - parking / 2))
    bays = []
    for s, (x, y) in zip(middles, places, strict=True):
        yaw = road.ribbon.yaw(s) + (sign * np.pi / 2 if across else np.pi * (sign > 0))
        size = (parking, pitch) if across else (pitch, parking)
        bays.append(Bay(float(x), float(y), float(yaw), "across" if across else "kerb", *size))
    return bays


def _outline(bay: Bay) -> shapely.Polygon:
    return Plot(bay.x, bay.y, bay.yaw, bay.width, bay.length, 0.0, 0.0).rectangle(
        -bay.length / 2, bay.length / 2, -bay.width / 2, bay.width / 2
    )
