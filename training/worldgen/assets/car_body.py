"""Parametric car body: a lower part with wheel arches and a narrower upper part with windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray

from training.worldgen.assets.bodywork import (
    arch_stations,
    arched,
    mirrors,
    number_plate,
    pair,
    panels_across,
    side_panes,
    underside,
    wheels,
)
from training.worldgen.assets.skins import fan, loft
from training.worldgen.mesh import Mesh, box, merge, quads

_MIRRORED = np.array((1.0, -1.0, 1.0))
_BED_WALL_M = 0.08
_PILLAR_M = 0.07


@dataclass(frozen=True)
class CarBody:
    """A car body. Lengths in metres; faces +x, centred on the origin, wheels on z = 0.

    Attributes:
        label: drive13 class.
        length: overall, without number plates.
        width: overall, without mirrors.
        height: ground to roof.
        clearance: ground to sill.
        radius: of the wheels.
        front: from the nose to the front axle.
        rear: from the tail to the rear axle.
        nose: height of the bonnet's front edge.
        belt: height of the windows' lower edge.
        tail: height of the boot's edge above that.
        bonnet: from the nose to the foot of the windscreen.
        screen: horizontal extent of the windscreen.
        back: horizontal extent of the rear window.
        boot: from the rear window's foot to the tail.
        roof: ratio of roof width to body width.
        drop: fall of the roof towards the rear.
        panes: number of windows on each side.
        panel_van: sheet metal behind the front windows.
        open_bed: a pick-up's bed in place of the boot.
        american: format of the number plates.
        bumper: material of the lowest part of front and rear.
    """

    label: str
    length: float
    width: float
    height: float
    clearance: float
    radius: float
    front: float
    rear: float
    nose: float
    belt: float
    tail: float
    bonnet: float
    screen: float
    back: float
    boot: float
    roof: float
    drop: float
    panes: int = 2
    panel_van: bool = False
    open_bed: bool = False
    american: bool = False
    bumper: str = "car_paint"

    def parts(self) -> list[Mesh]:
        """All parts except cargo and roof rack."""
        tread = 0.12 * self.width
        y = self.width / 2 - tread / 2 - 0.03
        places = [(x, side * y) for x in self._axles for side in (1, -1)]
        reach = self.radius + 0.1
        arches = (self._axles[0] - reach, self._axles[1] + reach)
        heights = (self.clearance + 0.03, 2 * self.radius + 0.1)
        return [
            self._lower(),
            self._nose(),
            self._tail(),
            self._upper(),
            self._windows(),
            wheels(places, self.radius, tread, self.label, 10),
            underside(arches, self.width / 2 - tread - 0.1, heights, self.label),
            mirrors(self._cowl - 0.3, 0.46 * self.width, self.belt, (0.1, 0.2, 0.14), "car_paint", self.label),
        ]

    @property
    def _axles(self) -> tuple[float, float]:
        return self.rear - self.length / 2, self.length / 2 - self.front

    @property
    def _cowl(self) -> float:
        """Foot of the windscreen."""
        return self.length / 2 - self.bonnet

    @property
    def _deck(self) -> float:
        """Foot of the rear window."""
        return self.boot - self.length / 2

    # The lower body

    def _stations(self) -> NDArray[np.float64]:
        """(S,) stations x at which the lower body's shape changes, from the rear."""
        end = self.length / 2
        bed = [self._deck] if self.open_bed else []
        inner = np.sort([*arch_stations(self._axles, self.radius), *bed])
        return np.array([-end, 0.18 - end, *inner, end - 0.3, end])

    def _sill(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lower edge: arches over the wheels, a little higher towards the ends."""
        rise = np.interp(np.abs(x), (self.length / 2 - 0.5, self.length / 2), (0.0, 0.06))
        return arched(x, self._axles, self.radius, self.clearance + rise)

    def _shoulder(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Upper edge: boot, belt line, bonnet."""
        end, tail = self.length / 2, self.belt + self.tail
        knots = (-end, self._deck, self._cowl, self._cowl + 0.65 * self.bonnet, end)
        bonnet = self.nose + 0.55 * (self.belt - self.nose)
        return np.interp(x, knots, (tail - 0.03, tail, self.belt, bonnet, self.nose))

    @cached_property
    def _rows(self) -> NDArray[np.float64]:
        """(S, 3, 3) left side of the lower body: sill, waist (where it is widest), shoulder."""
        x, end = self._stations(), self.length / 2
        knots = (-end, 0.18 - end, 0.7 - end, end - 0.9, end - 0.3, end)
        square = 0.93 if self.boot < 0.3 else 0.86
        half = self.width / 2 * np.interp(x, knots, (square, 0.96, 1.0, 1.0, 0.95, 0.78))
        sill, shoulder = self._sill(x), self._shoulder(x)
        waist = np.maximum(self.clearance + 0.62 * (shoulder - self.clearance), sill + 0.03)
        heights = np.stack([sill, waist, np.maximum(shoulder, waist + 0.03)])
        slant = np.zeros((3, len(x)))
        slant[:, 0], slant[:, -1] = (0.06, 0.0, 0.05), (-0.06, 0.0, -0.12)
        widths = np.array((0.95, 1.0, 0.94))[:, None] * half
        return np.stack([x + slant, widths, heights], axis=-1).swapaxes(0, 1)

    def _lower(self) -> Mesh:
        """All below the belt line."""
        left = self._rows
        sections = np.concatenate([left, left[:, ::-1] * _MIRRORED], axis=1)
        names = np.full((len(sections) - 1, 5), "car_paint", "<U9")
        names[-1, (1, 3)], names[0, (1, 3)] = "headlight", "taillight"
        if self.open_bed:
            names[self._stations()[:-1] < self._deck - 1e-6, 2] = ""
        rear = [(left[0, k], left[0, k + 1], left[0, k + 1] * _MIRRORED, left[0, k] * _MIRRORED) for k in (0, 1)]
        front = [(left[-1, k] * _MIRRORED, left[-1, k + 1] * _MIRRORED, left[-1, k + 1], left[-1, k]) for k in (0, 1)]
        lowest, middle = zip(rear, front, strict=True)
        ends = [quads(lowest, self.bumper, self.label), quads(middle, "car_paint", self.label)]
        return merge([loft(sections, names, self.label), *ends])

    def _nose(self) -> Mesh:
        """Grille, headlights and number plate."""
        sill, waist, shoulder = self._rows[-1][:, [0, 2]]
        half = self._rows[-1, 2, 1]
        lamps = pair(half - 0.3, half - 0.02, 0.15, 0.8, "headlight")
        grille = (0.34 - half, half - 0.34, 0.1, 0.75, "trim")
        intake = (0.15 - half, half - 0.15, 0.12, 0.4, "trim")
        plate_z = sill[1] + 0.66 * (waist[1] - sill[1])
        return merge(
            [
                panels_across(waist, shoulder, [*lamps, grille], self.label),
                panels_across(sill, waist, [intake], self.label),
                number_plate(waist[0] + 0.005, plate_z, self.label, self.american),
            ]
        )

    def _tail(self) -> Mesh:
        """Tail lights and number plate."""
        sill, waist, shoulder = self._rows[0][:, [0, 2]]
        half = self._rows[0, 2, 1]
        rims = pair(half - 0.29, half, 0.0, 0.97, "trim")  # keeps red lamps visible on a red car
        lamps = panels_across(waist, shoulder, pair(half - 0.26, half - 0.02, 0.12, 0.86, "taillight"), self.label)
        plate_z = sill[1] + 0.7 * (waist[1] - sill[1])
        diffuser = (0.2 - half, half - 0.2, 0.02, 0.25, "trim")
        return merge(
            [
                panels_across(waist, shoulder, rims, self.label),
                lamps.placed(-0.004, 0.0),
                panels_across(sill, waist, [diffuser], self.label),
                number_plate(waist[0] - 0.005, plate_z, self.label, self.american),
            ]
        )

    # The upper body

    @property
    def _screen_top(self) -> float:
        """Height of the windscreen's upper edge; a tall van has sheet metal above it."""
        return min(self.height - 0.09, self.belt + 0.85)

    def _side(self) -> NDArray[np.float64]:
        """(5 or 6, 2) x and z of the upper body's side, from the foot of the rear window to that of the windscreen."""
        edge, top = self.height - 0.06, self._screen_top
        front, rear = self._cowl - self.screen, self._deck + self.back
        brow = [(front - 0.3, edge)] if top < edge - 0.1 else []
        roof = [(rear, edge - self.drop), ((front + rear) / 2, edge + 0.001), *brow, (front, top)]
        return np.array([(self._deck, self.belt + self.tail - 0.03), *roof, (self._cowl, self.belt - 0.03)])

    def _half_width(self, z: NDArray[np.floating]) -> NDArray[np.float64]:
        """Half the upper body's width at a height."""
        return np.interp(z, (self.belt, self.height), (0.465 * self.width, self.roof * self.width / 2))

    def _upper(self) -> Mesh:
        """Pillars, roof and the two screens."""
        side = self._side()
        half = self._half_width(side[:, 1])
        half[0] *= 0.97
        outer = np.column_stack([side[:, 0], half, side[:, 1]])
        forward, crown = np.zeros(len(side)), np.full(len(side), 0.05)  # screens and roof bulge
        forward[[0, -2, -1]], crown[[0, -1]] = (-0.03, 0.02, 0.1), 0.0
        inner = outer + np.column_stack([forward, -0.14 * half, crown])
        sections = np.stack([outer, inner, inner * _MIRRORED, outer * _MIRRORED], axis=1)
        names = np.full((len(side) - 1, 3), "car_paint", "<U9")
        names[-1, 1] = "car_glass"
        names[0, 1] = "car_paint" if self.panel_van else "car_glass"
        left, right = fan(outer, "car_paint", self.label), fan(outer[::-1] * _MIRRORED, "car_paint", self.label)
        return merge([loft(sections, names, self.label), left, right])

    def _windows(self) -> Mesh:
        """Side windows between the pillars."""
        end = self.length / 2
        frame = shapely.box(-end, max(self.belt, self.belt + self.tail) + 0.03, end, self._screen_top)
        glass = shapely.Polygon(self._side()).buffer(-_PILLAR_M, join_style="mitre").intersection(frame)
        rear, front = glass.bounds[0], self._cowl - 0.35 * self.screen
        if self.panel_van:
            rear = front - 1.2
        cuts = np.linspace(rear, front, self.panes + 1)
        spans = np.column_stack([cuts[:-1] + _PILLAR_M / 2, cuts[1:] - _PILLAR_M / 2])
        spans[-1, 1] = end
        return side_panes(glass, spans, self._half_width, "car_glass", self.label)

    # Optional parts

    def roof_rack(self) -> Mesh:
        """Two bars along the roof."""
        front, rear = self._cowl - self.screen, self._deck + self.back
        y, z = 0.42 * self.roof * self.width, self.height - 0.02
        size = (0.75 * (front - rear), 0.04, 0.07)
        return merge([box(size, "trim", self.label, ((front + rear) / 2, side * y, z)) for side in (1, -1)])

    @property
    def bed_floor(self) -> tuple[float, float, float]:
        """Load area of a pick-up: x of its centre, length and half width."""
        rear = -self.length / 2 + _BED_WALL_M
        return (rear + self._deck) / 2, self._deck - rear, 0.47 * self.width - _BED_WALL_M

    def bed(self) -> Mesh:
        """Inside of a pick-up's bed: floor, walls and their tops."""
        middle, length, half = self.bed_floor
        x0, x1 = middle - length / 2, middle + length / 2
        top, floor, end = self.belt + self.tail - 0.02, self.belt - 0.5, -self.length / 2
        outer = 0.47 * self.width
        inside = [
            [(x0, -half, floor), (x1, -half, floor), (x1, half, floor), (x0, half, floor)],
            [(x0, half, floor), (x1, half, floor), (x1, half, top), (x0, half, top)],
            [(x1, -half, floor), (x0, -half, floor), (x0, -half, top), (x1, -half, top)],
            [(x0, -half, floor), (x0, half, floor), (x0, half, top), (x0, -half, top)],
            [(x1, half, floor), (x1, -half, floor), (x1, -half, top), (x1, half, top)],
        ]
        tops = [
            [(x0, half, top), (x1, half, top), (x1, outer, top), (x0, outer, top)],
            [(x0, -outer, top), (x1, -outer, top), (x1, -half, top), (x0, -half, top)],
            [(end + 0.05, -outer, top), (x0, -outer, top), (x0, outer, top), (end + 0.05, outer, top)],
        ]
        return merge([quads(inside, "trim", self.label), quads(tops, "car_paint", self.label)])
