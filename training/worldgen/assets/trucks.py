"""Trucks, buses and construction vehicles: class truck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from training.worldgen.assets.bodywork import (
    arch_stations,
    arched,
    draw,
    mirrors,
    number_plate,
    pair,
    panels_across,
    side_panes,
    underside,
    wheels,
)
from training.worldgen.assets.skins import fan, limb, loft, without_slivers
from training.worldgen.mesh import Mesh, box, extrude, merge, tube

_LABEL = "truck"
_MIRRORED = np.array((1.0, -1.0, 1.0))
_FRAME_HALF_M = 0.45

Space = tuple[float, float, float, float, float]
"""Cargo space: x from and to, width, z from and to."""


@dataclass(frozen=True)
class _Cab:
    """A driver's cab, metres.

    Attributes:
        front: x of its bumper.
        bonnet: length of the bonnet; almost none for a cab over the engine.
        length: from the foot of the windscreen to the rear wall.
        width: overall.
        low: height of its lower edge.
        belt: height of the windscreen's foot.
        top: height of its roof.
        material: of its sheet metal.
    """

    front: float
    bonnet: float
    length: float
    width: float
    low: float
    belt: float
    top: float
    material: str = "car_paint"

    @property
    def rear(self) -> float:
        """X of the rear wall."""
        return self.front - self.bonnet - self.length

    @property
    def axle(self) -> float:
        """X of the wheels under it."""
        return self.front - (1.25 if self.bonnet < 0.5 else 0.95)

    def parts(self) -> list[Mesh]:
        """Sheet metal, windows, lamps, mirrors, number plate."""
        cowl = self.front - self.bonnet
        screen = np.array([(cowl, self.belt), (cowl - 0.3, self.top - 0.12)])
        nose = [(self.front, self.low), (self.front, self.belt - 0.2 - 0.1 * self.bonnet)]
        outline = [(self.rear, self.low), *nose, (cowl, self.belt), screen[1], (cowl - 0.5, self.top)]
        side = np.array([*outline, (self.rear, self.top)])
        shell = extrude(side, self.width, self.material, _LABEL)
        half = self.width / 2
        glass = panels_across(screen[0], screen[1], [(0.1 - half, half - 0.1, 0.06, 0.92, "car_glass")], _LABEL)
        face = [*pair(half - 0.42, half - 0.08, 0.3, 0.55, "headlight"), (0.5 - half, half - 0.5, 0.25, 0.9, "trim")]
        door = (cowl - 0.2 - min(0.95, self.length - 0.4), cowl)
        pane = shapely.Polygon(side).buffer(-0.1, join_style="mitre").intersection(shapely.box(-99, self.belt, 99, 99))
        return [
            shell,
            glass,
            panels_across(nose[0], nose[1], face, _LABEL),
            side_panes(pane, [door], lambda z: np.full_like(z, half), "car_glass", _LABEL),
            mirrors(cowl - 0.1, half, self.belt + 0.1, (0.12, 0.25, 0.6), "trim", _LABEL),
            number_plate(self.front + 0.01, self.low + 0.12, _LABEL, True),
        ]


def truck(rng: np.random.Generator) -> Mesh:
    """A truck with a box, curtain sides, tank or open bed, a refuse truck, a semi-trailer, or an excavator."""
    kinds = (_rigid, _semi, _excavator, _loader)
    mesh = _built(kinds[int(rng.choice(4, p=(0.72, 0.14, 0.07, 0.07)))](rng))
    x = mesh.vertices[:, 0]
    return mesh.placed(-float(x.max() + x.min()) / 2, 0.0)


def bus(rng: np.random.Generator) -> Mesh:
    """A city bus or a coach; one in five is a shuttle of 7 to 8 m."""
    short = rng.random() < 0.2
    length = draw(rng, (7.0, 8.0) if short else (10.0, 12.2))
    return _built(_bus(rng, length, 2.3 if short else 2.55, draw(rng, (2.7, 2.9) if short else (2.95, 3.3))))


def _built(parts: Sequence[Mesh]) -> Mesh:
    return without_slivers(merge(parts))


def _rigid(rng: np.random.Generator) -> list[Mesh]:
    """A rigid truck: cab, frame, wheels and cargo."""
    length, width, top = draw(rng, (6.0, 9.0)), draw(rng, (2.2, 2.5)), draw(rng, (3.0, 3.8))
    cab = _cab(rng, length / 2, width - 0.1, draw(rng, (2.5, 2.9)))
    radius = 0.4 + 0.04 * (length - 6.0)
    axle = -0.24 * length
    rear = [axle, axle + 2.4 * radius] if length > 8.3 else [axle]
    space = (-length / 2, cab.rear - 0.12, width, 2 * radius + 0.12, top)
    return [*cab.parts(), *_frame(space, cab.rear, radius), *_axles(cab.axle, rear, radius, width), *_cargo(rng, space)]


def _semi(rng: np.random.Generator) -> list[Mesh]:
    """A tractor with its trailer."""
    trailer_length, tractor = draw(rng, (9.0, 13.5)), draw(rng, (5.6, 6.8))
    length = trailer_length + tractor - 3.0
    cab = _cab(rng, length / 2, 2.35, draw(rng, (2.9, 3.6)), tractor > 6.2)
    rear = cab.front - tractor + 0.9
    axles = [rear, rear + 1.25] if rng.random() < 0.6 else [rear]
    space = (cab.front - tractor, cab.rear, 2.45, 1.0, 1.1)
    behind = (-length / 2, min(trailer_length - length / 2, cab.rear - 0.5))
    top = draw(rng, (3.5, 4.0))
    return [
        *cab.parts(),
        *_frame(space, cab.rear, 0.5),
        *_axles(cab.axle, axles, 0.5, 2.45),
        *_semi_trailer(rng, behind, top),
    ]


def _cab(rng: np.random.Generator, front: float, width: float, top: float, long_nose: bool | None = None) -> _Cab:
    nosed = rng.random() < 0.4 if long_nose is None else long_nose
    bonnet = draw(rng, (0.9, 1.4)) if nosed else 0.04
    belt = draw(rng, (1.55, 1.75)) if nosed else draw(rng, (1.4, 1.65))
    length = draw(rng, (1.5, 1.9)) if nosed else draw(rng, (1.65, 2.1))
    return _Cab(
        front, bonnet, length, width, draw(rng, (0.4, 0.5)), belt, top, str(rng.choice(("car_paint", "metal_bright")))
    )


def _frame(space: Space, cab_rear: float, radius: float) -> list[Mesh]:
    """Rails, tanks beside them, tail lights and the bar behind the wheels."""
    x0, x1, width, deck = space[0], cab_rear + 0.5, space[2], 2 * radius + 0.12
    rails = box((x1 - x0 - 0.05, 2 * _FRAME_HALF_M, 0.35), "trim", _LABEL, ((x0 + x1) / 2, 0, deck - 0.36))
    tank = [box((0.9, 0.55, 0.5), "metal", _LABEL, (cab_rear - 0.8, s * (width / 2 - 0.35), 0.45)) for s in (1, -1)]
    bar = box((0.1, width - 0.2, 0.14), "trim", _LABEL, (x0 + 0.1, 0, 0.45))
    lights = panels_across((x0, 0.6), (x0, 0.8), pair(width / 2 - 0.5, width / 2 - 0.1, 0.0, 1.0, "taillight"), _LABEL)
    carrier = box((0.1, width - 0.2, 0.24), "trim", _LABEL, (x0 + 0.06, 0, 0.58))
    return [rails, *tank, bar, carrier, lights, number_plate(x0 - 0.005, 0.52, _LABEL, True)]


def _axles(front: float, rear: Sequence[float], radius: float, width: float) -> list[Mesh]:
    """A steered axle and driven ones with twin tyres."""
    single, twin = 0.3, 0.56
    steered = [(front, s * (width / 2 - single / 2 - 0.02)) for s in (1, -1)]
    driven = [(x, s * (width / 2 - twin / 2 - 0.02)) for x in rear for s in (1, -1)]
    return [wheels(steered, radius, single, _LABEL, 11), wheels(driven, radius, twin, _LABEL, 10)]


def _cargo(rng: np.random.Generator, space: Space) -> list[Mesh]:
    kinds: tuple[Callable[[np.random.Generator, Space], list[Mesh]], ...] = (_box, _curtain, _tank, _rubbish, _open_bed)
    return kinds[int(rng.choice(len(kinds), p=(0.5, 0.14, 0.08, 0.14, 0.14)))](rng, space)


def _box(rng: np.random.Generator, space: Space) -> list[Mesh]:
    """A box of sheet metal, its rear doors with bars."""
    x0, x1, width, low, top = space
    material = str(rng.choice(("truck_box", "truck_steel", "metal_painted", "car_paint")))
    body = box((x1 - x0, width, top - low), material, _LABEL, ((x0 + x1) / 2, 0, low))
    bars = [(y - 0.02, y + 0.02, 0.03, 0.97, "metal") for y in (-0.5, -0.25, 0.25, 0.5)]
    return [body, panels_across((x0, low), (x0, top), bars, _LABEL)]


def _curtain(rng: np.random.Generator, space: Space) -> list[Mesh]:
    """A flat bed under a tarpaulin with a ridge."""
    x0, x1, width, low, top = space
    half = width / 2
    arch = np.array(
        [(-half, low), (-half, top - 0.2), (-0.4 * half, top), (0.4 * half, top), (half, top - 0.2), (half, low)]
    )
    rings = [[(x, -y, z) for y, z in arch] for x in (x0, x1)]
    sides = box((x1 - x0, width + 0.04, 0.3), "metal", _LABEL, ((x0 + x1) / 2, 0, low))
    ends = [fan(rings[1][::-1], "tarpaulin", _LABEL), fan(rings[0], "tarpaulin", _LABEL)]
    return [loft(rings, "tarpaulin", _LABEL), *ends, sides]


def _tank(rng: np.random.Generator, space: Space) -> list[Mesh]:
    """A horizontal tank on saddles."""
    x0, x1, width, low, top = space
    radius = min(width / 2 - 0.05, (top - low) / 2 - 0.1)
    z = low + radius + 0.15
    path = [(x0 + 0.05, 0, z), (x0 + 0.3, 0, z), (x1 - 0.3, 0, z), (x1 - 0.05, 0, z)]
    radii = (0.75 * radius, radius, radius, 0.75 * radius)
    material = str(rng.choice(("metal", "metal_painted", "metal_bright")))
    tank = limb(path, radii, material, _LABEL, sides=12, flat=min(1.25, (width / 2) / radius))
    rear = fan(
        np.array(
            [(x0 + 0.05, 0.7 * radius * np.cos(a), z + 0.7 * radius * np.sin(a)) for a in np.arange(12) * (-np.pi / 6)]
        ),
        material,
        _LABEL,
    )
    hatch = box((0.9, 0.5, 0.18), "metal", _LABEL, ((x0 + x1) / 2, 0, z + radius - 0.05))
    saddles = [box((0.3, 1.4, 0.4), "trim", _LABEL, (x, 0, low)) for x in (x0 + 0.8, x1 - 0.8)]
    return [tank, rear, hatch, *saddles]


def _rubbish(rng: np.random.Generator, space: Space) -> list[Mesh]:
    """A refuse body with its hopper behind."""
    x0, x1, width, low, top = space
    top = min(top, 3.5)
    body = [(x0 + 1.4, low), (x1, low), (x1, top - 0.15), (x1 - 0.3, top), (x0 + 1.4, top)]
    hopper = [
        (x0 + 0.3, low - 0.4),
        (x0 + 1.4, low - 0.35),
        (x0 + 1.4, top),
        (x0 + 0.7, top),
        (x0, low + 1.0),
        (x0, low + 0.1),
    ]
    hole = [(-0.4 * width, 0.4 * width, 0.1, 0.7, "trim")]
    return [
        extrude(body, width - 0.1, "metal_bright", _LABEL),
        extrude(hopper, width, "metal_bright", _LABEL),
        panels_across((x0, low + 0.1), (x0, low + 1.0), hole, _LABEL),
    ]


def _open_bed(rng: np.random.Generator, space: Space) -> list[Mesh]:
    """A bed with low sides, often loaded."""
    x0, x1, width, low, _ = space
    length, middle, wall = x1 - x0, (x0 + x1) / 2, draw(rng, (0.4, 0.9))
    floor = box((length, width, 0.12), "metal", _LABEL, (middle, 0, low))
    along = [
        box((length, 0.06, wall), "metal_bright", _LABEL, (middle, s * (width / 2 - 0.03), low + 0.12)) for s in (1, -1)
    ]
    across = [
        box((0.06, width - 0.1, wall), "metal_bright", _LABEL, (x, 0, low + 0.12)) for x in (x0 + 0.03, x1 - 0.03)
    ]
    heap = [(x0 + 0.1, low), (x1 - 0.1, low), (middle + 0.5, low + wall + 0.4), (middle - 0.5, low + wall + 0.4)]
    load = [extrude(heap, width - 0.2, str(rng.choice(("soil", "gravel", "wood", "tarpaulin"))), _LABEL)]
    return [floor, *along, *across, *(load if rng.random() < 0.6 else [])]


def _semi_trailer(rng: np.random.Generator, x: tuple[float, float], top: float) -> list[Mesh]:
    """A trailer with two or three axles at its rear, without legs."""
    rear, front = x
    space = (rear, front, 2.5, 1.15, top)
    axles = rear + 1.4 + 1.3 * np.arange(int(rng.integers(2, 4)))
    places = [(a, s * 0.95) for a in axles for s in (1, -1)]
    rails = box((front - rear - 0.1, 2 * _FRAME_HALF_M, 0.3), "trim", _LABEL, ((rear + front) / 2, 0, 0.86))
    bar = box((0.1, 2.3, 0.2), "trim", _LABEL, (rear + 0.1, 0, 0.5))
    lights = panels_across((rear, 0.75), (rear, 1.1), pair(0.8, 1.15, 0.2, 0.8, "taillight"), _LABEL)
    panel = panels_across((rear, 0.7), (rear, 1.15), [(-1.2, 1.2, 0.0, 1.0, "trim")], _LABEL)
    kinds = (_box, _curtain, _tank, _open_bed)
    cargo = kinds[int(rng.choice(4, p=(0.6, 0.2, 0.1, 0.1)))](rng, space)
    rear_face = [panel, lights.placed(-0.01, 0, 0), number_plate(rear - 0.02, 0.95, _LABEL, True)]
    return [wheels(places, 0.5, 0.56, _LABEL, 9), rails, bar, *cargo, *rear_face]


def _bus(rng: np.random.Generator, length: float, width: float, height: float) -> list[Mesh]:
    """Body with wheel arches, a row of windows, doors on the right, a sign over the windscreen."""
    end, half = length / 2, width / 2
    axles, radius = (-end + 0.27 * length, end - max(0.22 * length, 2.25)), 0.48
    doors = (end - 1.1, axles[0] + 2.2) if length > 9 else (end - 1.1,)
    belt, top = draw(rng, (1.15, 1.45)), height - 0.4
    places = [(x, s * (half - 0.17)) for x in axles for s in (1, -1)]
    panes = np.linspace(-end + 0.25, end - 0.25, max(4, round(length / 1.7)) + 1)
    spans = np.column_stack([panes[:-1] + 0.05, panes[1:] - 0.05])
    band = shapely.box(-end, belt, end, top)
    return [
        _hull(length, width, height, axles, radius),
        side_panes(band, spans, lambda z: np.full_like(z, half), "car_glass", _LABEL),
        *_bus_ends(end, half, height, belt),
        *[_door(x, half) for x in doors],
        wheels(places, radius, 0.3, _LABEL, 12),
        underside((-end + 0.2, end - 0.2), half - 0.45, (0.4, 2 * radius + 0.15), _LABEL),
        mirrors(end + 0.05, half - 0.05, 2.0, (0.12, 0.25, 0.4), "trim", _LABEL),
        *(
            [box((0.3 * length, 0.7 * width, 0.22), "frame", _LABEL, (-0.1 * length, 0, height - 0.01))]
            if rng.random() < 0.6
            else []
        ),
    ]


def _hull(length: float, width: float, height: float, axles: Sequence[float], radius: float) -> Mesh:
    """The body of a bus: flat sides, rounded along the roof."""
    x = np.array([-length / 2, *arch_stations(axles, radius), length / 2])
    sill = arched(x, axles, radius, 0.35)
    half, edge, flat = width / 2, height - 0.22, width / 2 - 0.25
    rows = [
        (x, np.full_like(x, y), z)
        for y, z in ((half, sill), (half, np.full_like(x, edge)), (flat, np.full_like(x, height)))
    ]
    left = np.array([np.stack(row, axis=-1) for row in rows]).swapaxes(0, 1)
    sections = np.concatenate([left, left[:, ::-1] * _MIRRORED], axis=1)
    ends = [fan(sections[0], "bus_paint", _LABEL), fan(sections[-1, ::-1], "bus_paint", _LABEL)]
    return merge([loft(sections, "bus_paint", _LABEL), *ends])


def _bus_ends(end: float, half: float, height: float, belt: float) -> list[Mesh]:
    """Windscreen, sign and lamps in front; window, lamps and number plate behind."""
    front = [
        (0.08 - half, half - 0.08, belt - 0.25, height - 0.6, "car_glass"),
        (0.35 - half, half - 0.35, height - 0.55, height - 0.25, "print"),
        *pair(half - 0.5, half - 0.1, 0.6, 0.8, "headlight"),
        (-0.7, 0.7, 0.42, 0.56, "trim"),
    ]
    rear = [
        (0.3 - half, half - 0.3, belt + 0.3, height - 0.5, "car_glass"),
        *pair(half - 0.3, half - 0.06, 0.75, 1.15, "taillight"),
        (-0.8, 0.8, 0.55, belt, "trim"),
    ]
    low, high = 0.0, 1.0
    return [
        panels_across((end, low), (end, high), front, _LABEL),
        panels_across((-end, low), (-end, high), rear, _LABEL),
        number_plate(end + 0.012, 0.45, _LABEL, True),
        number_plate(-end - 0.012, 0.48, _LABEL, True),
    ]


def _door(x: float, half: float) -> Mesh:
    """A door with glass from top to bottom, on the right."""
    pane = box((1.1, 0.02, 1.9), "car_glass", _LABEL, (x, -half - 0.006, 0.45))
    frame = box((0.06, 0.04, 1.95), "trim", _LABEL, (x, -half - 0.006, 0.42))
    return merge([pane, frame])


def _excavator(rng: np.random.Generator) -> list[Mesh]:
    """A tracked excavator with its arm folded to the front."""
    size, paint = draw(rng, (0.75, 1.1)), "metal_bright"
    track = np.array([(-1.7, 0.35), (-1.4, 0.0), (1.4, 0.0), (1.7, 0.35), (1.4, 0.75), (-1.4, 0.75)])
    tracks = [extrude(track * size, 0.5 * size, "tyre", _LABEL).placed(0, s * size, 0) for s in (1, -1)]
    house = box((2.6 * size, 2.4 * size, 1.0 * size), paint, _LABEL, (-0.5 * size, 0, 0.95 * size))
    base = box((1.6 * size, 1.6 * size, 0.5 * size), "trim", _LABEL, (0, 0, 0.5 * size))
    cab = [
        box((1.4 * size, 0.9 * size, 1.5 * size), m, _LABEL, (0.3 * size, 0.7 * size, z * size))
        for m, z in (("car_glass", 1.3),)
    ]
    roof = box((1.5 * size, 1.0 * size, 0.1), paint, _LABEL, (0.3 * size, 0.7 * size, 2.8 * size))
    boom = np.array([(0.7, -0.3, 1.4), (2.0, -0.3, 3.4), (4.0, -0.3, 3.2)]) * size
    stick = np.array([(4.0, -0.3, 3.4), (3.6, -0.3, 0.9)]) * size
    bucket = np.array([(3.0, 0.3), (3.6, 0.1), (4.0, 0.5), (3.8, 1.0), (3.4, 1.0)]) * size
    arm = [tube(boom, 0.24 * size, paint, _LABEL), tube(stick, 0.18 * size, paint, _LABEL)]
    scoop = extrude(bucket, 0.9 * size, "metal", _LABEL).placed(0, -0.3 * size, 0)
    return [*tracks, base, house, *cab, roof, *arm, scoop]


def _loader(rng: np.random.Generator) -> list[Mesh]:
    """A wheel loader."""
    size, paint = draw(rng, (0.8, 1.1)), "metal_bright"
    rear = [(-2.9, 0.7), (0.2, 0.6), (0.2, 1.3), (-0.6, 1.5), (-2.8, 1.6)]
    front = [(0.2, 0.6), (1.6, 0.6), (1.4, 1.3), (0.2, 1.3)]
    hull = [extrude(np.array(outline) * size, w * size, paint, _LABEL) for outline, w in ((rear, 1.5), (front, 0.9))]
    cab = box((1.4 * size, 1.3 * size, 1.5 * size), "car_glass", _LABEL, (-0.7 * size, 0, 1.5 * size))
    roof = box((1.5 * size, 1.4 * size, 0.1), paint, _LABEL, (-0.7 * size, 0, 3.0 * size))
    arms = [
        tube(np.array([(0.9, y, 1.4), (2.0, y, 1.3), (2.9, y, 0.5)]) * size, 0.14 * size, paint, _LABEL)
        for y in (-0.5, 0.5)
    ]
    scoop = np.array([(2.7, 0.05), (3.8, 0.02), (3.1, 0.25), (2.95, 0.7), (3.2, 1.15), (2.7, 1.0)]) * size
    places = np.array([(x, s * 0.95) for x in (-1.7, 1.3) for s in (1, -1)]) * size
    return [
        *hull,
        cab,
        roof,
        *arms,
        extrude(scoop, 2.5 * size, "metal", _LABEL),
        wheels(places, 0.72 * size, 0.5 * size, _LABEL, 12),
    ]
