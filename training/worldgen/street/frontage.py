"""Land use behind the pavement: building plots with front gardens and driveways, car parks, squares, parks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from training.worldgen.street.cross_section import Road
from training.worldgen.street.plots import Bay, Plot
from training.worldgen.street.ribbon import Array
from training.worldgen.street.road_network import Network
from training.worldgen.street.street_style import RURAL, StreetStyle, pick

_USES = {
    "urban": {"building": 0.74, "lot": 0.13, "plaza": 0.05, "park": 0.06, "open": 0.02},
    "residential": {"building": 0.83, "lot": 0.02, "plaza": 0.0, "park": 0.06, "open": 0.04, "wood": 0.05},
    "suburban": {"building": 0.64, "lot": 0.03, "plaza": 0.0, "park": 0.07, "open": 0.12, "meadow": 0.04, "wood": 0.1},
    "industrial": {"building": 0.55, "lot": 0.27, "plaza": 0.0, "park": 0.02, "open": 0.11, "wood": 0.05},
    "country": {"building": 0.16, "open": 0.08, "field": 0.28, "meadow": 0.22, "wood": 0.26},
    "motorway": {"open": 0.3, "field": 0.2, "meadow": 0.15, "wood": 0.35},
}
_LAND = ("field", "meadow", "wood")
_LAND_M = {"country": (20.0, 80.0), "motorway": (40.0, 120.0)}
"""Length of fields, meadows and woods along the road; elsewhere they are as long as a plot is."""
_AISLE_M, _BAY_DEPTH_M, _BAY_WIDTH_M = 6.2, 5.0, 2.55


@dataclass(frozen=True, eq=False)
class Patch:
    """A piece of ground of one use and material, before clipping against the street.

    Attributes:
        kind: "path", "lot", "plaza", "yard", "field", "meadow" or "wood".
        shape: polygons, metres.
        material: name of the material.
    """

    kind: str
    shape: shapely.Geometry
    material: str


@dataclass(frozen=True, eq=False)
class Frontage:
    """Land use behind the pavement.

    Attributes:
        plots: building plots.
        back_plots: building plots in the second row, visible through gaps in the first.
        patches: gardens, squares and so on.
        driveways: strips from the carriageway into the plots.
        bays: parking bays in car parks and driveways.
        lot_lines: lines between bays, (2, 2) points each.
    """

    plots: tuple[Plot, ...]
    back_plots: tuple[Plot, ...]
    patches: tuple[Patch, ...]
    driveways: tuple[shapely.Polygon, ...]
    bays: tuple[Bay, ...]
    lot_lines: tuple[Array, ...]


def generate_frontage(
    rng: np.random.Generator,
    style: StreetStyle,
    network: Network,
    corridor: shapely.Geometry,
    keep_clear: shapely.Geometry,
) -> Frontage:
    """Divide the land along all roads into plots.

    Args:
        rng: randomness.
        style: street parameters of the drive.
        network: roads.
        corridor: carriageways, verges and pavements; plots do not overlap it.
        keep_clear: crossings and junctions; driveways do not overlap them.
    """
    shapely.prepare(corridor)
    shapely.prepare(keep_clear)
    builder = _Builder(rng, style, corridor, keep_clear)
    for road in network.roads:
        for sign in (-1, 1):
            builder.add_plots_along(road, sign)
        builder.add_end_buildings(road, network)
    builder.add_back_row()
    return builder.finished()


class _Builder:
    """Collects plots one after another, each where it fits."""

    def __init__(
        self, rng: np.random.Generator, style: StreetStyle, corridor: shapely.Geometry, keep_clear: shapely.Geometry
    ) -> None:
        self._rng, self._style, self._corridor, self._keep_clear = rng, style, corridor, keep_clear
        self._occupied: list[shapely.Polygon] = []
        self._plots: list[Plot] = []
        self._back_plots: list[Plot] = []
        self._patches: list[Patch] = []
        self._driveways: list[shapely.Polygon] = []
        self._bays: list[Bay] = []
        self._lines: list[Array] = []

    def finished(self) -> Frontage:
        collected = (self._plots, self._back_plots, self._patches, self._driveways, self._bays, self._lines)
        return Frontage(*(tuple(part) for part in collected))  # type: ignore[arg-type]

    def add_plots_along(self, road: Road, sign: int) -> None:
        """Add plots along one side of a road, from its start to its end."""
        rng, district = self._rng, self._style.district
        s, end = rng.uniform(1, 5), road.ribbon.length - 1
        setback = rng.uniform(*district.setback)
        while s < end - district.front[0]:
            use = pick(rng, **_USES[self._style.kind])
            width, depth = rng.uniform(*district.front), rng.uniform(*district.depth)
            if use == "lot":
                width, depth = _AISLE_M + 2 * _BAY_DEPTH_M + 0.6, rng.uniform(18, 36)
            if use in _LAND:
                width, depth = rng.uniform(*_LAND_M.get(self._style.kind, district.front)), rng.uniform(25, 45)
            gap = 0.0 if use in _LAND else rng.uniform(*district.gap)
            back = np.clip(setback + rng.normal(0, 0.15 * setback), *district.setback) if use == "building" else 0.3
            plot = self._fit(road, sign, s + gap / 2 + width / 2, width, depth, float(back), gap)
            if plot is None:
                s += 3.0
                continue
            self._occupied.append(plot.area())
            if use in _LAND:
                self._add_land(plot, use)
            else:
                getattr(self, f"_add_{use}")(plot, road, sign)
            s += width + gap

    def add_end_buildings(self, road: Road, network: Network) -> None:
        """Add buildings across some ends of a road."""
        rng, district = self._rng, self._style.district
        if self._style.kind in RURAL:
            return
        joined = {arm.at for arm in network.arms(road)}
        for s, sign in ((0.0, -1), (road.ribbon.length, 1)):
            if s in joined or rng.random() < 0.4:
                continue
            away = road.ribbon.yaw(s) + (0.0 if sign > 0 else np.pi)
            reach = rng.uniform(3, 12)
            x, y = road.ribbon.at(s) + reach * np.array((np.cos(away), np.sin(away)))
            width, depth = max(*district.front, 16.0), rng.uniform(*district.depth)
            plot = Plot(float(x), float(y), float(away - np.pi), width, depth, float(reach), district.gap[1])
            if self._free(plot.area()):
                self._occupied.append(plot.area())
                self._plots.append(plot)

    def add_back_row(self) -> None:
        """Add a second row of buildings behind some of the first."""
        for plot in tuple(self._plots):
            back = plot.depth + self._rng.uniform(8, 26)
            x, y = plot.points([(-back, self._rng.uniform(-4, 4))])[0]
            depth = self._rng.uniform(*self._style.district.depth)
            behind = Plot(float(x), float(y), plot.yaw, plot.width, depth, back, plot.gap)
            if self._rng.random() < 0.6 and self._free(behind.area()):
                self._occupied.append(behind.area())
                self._back_plots.append(behind)

    def _free(self, area: shapely.Polygon) -> bool:
        return not self._corridor.intersects(area) and not shapely.intersects(np.array(self._occupied), area).any()

    def _fit(
        self, road: Road, sign: int, s: float, width: float, depth: float, setback: float, gap: float
    ) -> Plot | None:
        """A plot around s that overlaps neither the street nor another plot; set back where the road bends."""
        if s + width / 2 > road.ribbon.length:
            return None
        yaw = road.ribbon.yaw(s) - sign * np.pi / 2
        front = road.edge(sign) + road.side(sign).border
        for extra in (0.05, 0.4, 1.0, 2.0):
            x, y = road.ribbon.at(s, sign * (front + setback + extra))
            plot = Plot(float(x), float(y), float(yaw), width, depth, setback + extra, gap)
            area = plot.area()
            if not self._corridor.intersects(area):
                room = plot.rectangle(-depth, 0.0, -width / 2 - gap * 0.4, width / 2 + gap * 0.4)
                free = not self._occupied or not shapely.intersects(np.array(self._occupied), room).any()
                return plot if free else None
        return None

    def _to_road(self, plot: Plot, road: Road, sign: int) -> float:
        """Distance from the front wall to the carriageway's edge, metres."""
        return plot.setback + road.side(sign).border

    def _add_driveway(self, plot: Plot, road: Road, sign: int, y: float, width: float, back: float) -> bool:
        """Add a driveway from the carriageway to x = back in the plot unless it meets a crossing or junction."""
        reach = self._to_road(plot, road, sign)
        mouth = plot.rectangle(0.0, reach + 1.0, y - width / 2 - 1, y + width / 2 + 1)
        if self._keep_clear.intersects(mouth):
            return False
        self._driveways.append(plot.rectangle(back, reach + 0.6, y - width / 2, y + width / 2))
        return True

    def _add_building(self, plot: Plot, road: Road, sign: int) -> None:
        rng, district = self._rng, self._style.district
        self._plots.append(plot)
        reach = self._to_road(plot, road, sign)
        if rng.random() < district.driveway:
            wide = self._style.kind == "industrial"
            width = rng.uniform(5, 8) if wide else rng.uniform(2.7, 4.5)
            y = rng.choice((-1, 1)) * max(0.0, plot.width / 2 - width / 2 - 0.4)
            if self._add_driveway(plot, road, sign, y, width, 0.0) and plot.setback > 5.2:
                x, py = plot.points([(plot.setback - 2.7, y)])[0]
                self._bays.append(Bay(float(x), float(py), plot.yaw, "driveway", 5.0, 2.5))
        paved = self._style.kind == "urban" or (self._style.kind == "industrial" and rng.random() < 0.5)
        half = plot.width / 2 + plot.gap / 2
        garden = plot.rectangle(-3.0, reach, -half, half)
        if paved:
            material = self._style.pavement if rng.random() < 0.5 else _paving(rng)
            self._patches.append(Patch("plaza", garden, material))
        else:
            material = pick(rng, grass=0.55, dry_grass=0.15, soil=0.12, gravel=0.18)
            self._garden_path(plot, reach)
            self._patches.append(Patch("yard", garden, material))

    def _garden_path(self, plot: Plot, reach: float) -> None:
        """Add a path to the front door."""
        if plot.setback > 2.0 and self._rng.random() < 0.6:
            y, width = self._rng.uniform(-0.2, 0.2) * plot.width, self._rng.uniform(0.9, 1.4)
            shape = plot.rectangle(0.0, reach, y - width / 2, y + width / 2)
            self._patches.append(Patch("path", shape, _paving(self._rng)))

    def _add_lot(self, plot: Plot, road: Road, sign: int) -> None:
        """Add a car park: an aisle with bays on both sides."""
        if not self._add_driveway(plot, road, sign, 0.0, _AISLE_M, -1.0):
            return self._add_open(plot, road, sign)
        half, depth = plot.width / 2, plot.depth
        material = pick(self._rng, asphalt=0.65, asphalt_new=0.2, concrete_road=0.15)
        self._patches.append(Patch("lot", plot.rectangle(-depth, 0.0, -half, half), material))
        lines = np.arange(-depth + 0.5, -0.4, _BAY_WIDTH_M)
        for side in (-1, 1):
            inner, outer = side * _AISLE_M / 2, side * (_AISLE_M / 2 + _BAY_DEPTH_M)
            self._lines += [plot.points([(x, inner), (x, outer)]) for x in lines]
            for x in lines[:-1] + _BAY_WIDTH_M / 2:
                px, py = plot.points([(x, (inner + outer) / 2)])[0]
                self._bays.append(Bay(float(px), float(py), plot.yaw + np.pi / 2, "lot", _BAY_DEPTH_M, _BAY_WIDTH_M))
        return None

    def _add_plaza(self, plot: Plot, road: Road, sign: int) -> None:
        half = plot.width / 2
        square = plot.rectangle(-plot.depth, plot.setback + 1.0, -half, half)
        self._patches.append(Patch("plaza", square, _paving(self._rng)))

    def _add_park(self, plot: Plot, road: Road, sign: int) -> None:
        half, x = plot.width / 2, -self._rng.uniform(3, plot.depth - 2)
        material = pick(self._rng, gravel=0.4, paving_asphalt=0.3, paving_slabs=0.3)
        way = shapely.LineString(plot.points([(plot.setback + 1, -half), (x, -half * 0.2), (x * 0.6, half)]))
        self._patches.append(Patch("path", way.buffer(0.9, cap_style="flat"), material))
        self._patches.append(Patch("yard", plot.rectangle(-plot.depth, plot.setback + 1.0, -half, half), "grass"))

    def _add_land(self, plot: Plot, use: str) -> None:
        half = plot.width / 2
        material = {
            "field": pick(self._rng, soil=0.5, dry_grass=0.3, grass=0.2),
            "meadow": pick(self._rng, grass=0.7, dry_grass=0.3),
            "wood": pick(self._rng, soil=0.5, grass=0.3, dry_grass=0.2),
        }[use]
        self._patches.append(Patch(use, plot.rectangle(-plot.depth, plot.setback + 0.3, -half, half), material))

    def _add_open(self, plot: Plot, road: Road, sign: int) -> None:
        half = plot.width / 2
        material = pick(self._rng, dry_grass=0.4, soil=0.2, gravel=0.2, grass=0.2)
        self._patches.append(Patch("yard", plot.rectangle(-plot.depth, plot.setback + 1.0, -half, half), material))


def _paving(rng: np.random.Generator) -> str:
    return pick(rng, paving_slabs=0.35, paving_concrete=0.25, paving_bricks=0.25, paving_asphalt=0.15)
