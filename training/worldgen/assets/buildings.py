"""Buildings along a street, and walls and fences.

The front of a building is the plane x = 0, faces +x and is centred on y = 0; the building extends to -x. Bays,
balconies, awnings and signs project in front of it by at most 1.6 m.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.worldgen.assets import roofs
from training.worldgen.assets.building_parts import (
    awnings,
    balconies,
    bay,
    blade_sign,
    chimney,
    fire_escape,
    flat_top,
    poster_wall,
    sign_board,
    upper_storeys,
    wall_details,
    walls,
    windows_of,
)
from training.worldgen.assets.facades import (
    LABEL,
    FacadeStyle,
    Storey,
    facade,
    ground_storey,
    ribbon_storey,
    window_storey,
)
from training.worldgen.assets.parts import boxes, evenly, limbs, panels, pick
from training.worldgen.assets.unseen_buildings import UNSEEN_STYLES, Style
from training.worldgen.mesh import Mesh, merge

_ROW_WALLS = ("planks_painted", "plaster_painted", "plaster_painted", "plaster", "planks", "brick")
_SHED_WALLS = ("cladding", "cladding", "concrete", "plaster", "plaster_painted", "brick", "planks_painted")
_BARS = ("iron", "iron", "metal_painted")
_OFFICE_WALLS = ("concrete", "stone", "brick", "plaster_painted", "metal", "plaster")


def building(rng: np.random.Generator, width: float, depth: float, unseen: bool = False) -> Mesh:
    """One building.

    Args:
        rng: randomness for style, materials and sizes.
        width: of the front, metres; a detached house may be narrower.
        depth: metres.
        unseen: draw from the styles reserved for test drives.
    """
    styles = UNSEEN_STYLES if unseen else _STYLES
    fitting = [make for make, min_width, max_width in styles if min_width <= width <= max_width]
    make = pick(rng, fitting) if fitting else _apartments
    return merge(make(rng, width, depth))


def _row_house(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """Two to four floors, bay windows, a garage and steps up to the door: San Francisco's usual house."""
    style = replace(FacadeStyle.sample(rng, _ROW_WALLS), size=(rng.uniform(0.8, 1.2), rng.uniform(1.4, 1.9)))
    floors, base, height = int(rng.integers(1, 4)), rng.uniform(2.6, 3.2), rng.uniform(2.8, 3.3)
    kinds = (("garage", "porch"), ("porch", "garage"), ("door", "window", "window"), ("porch", "window"))[
        rng.integers(4)
    ]
    storeys = [ground_storey(rng, width, base, style.ground, kinds * max(1, int(width / 6.5)))]
    upper, style = upper_storeys(width, base, floors, height, rng.uniform(2.0, 3.0), style)
    top = base + floors * height
    crown, meshes = _row_roof(rng, width, depth, top, style)
    storeys += [*upper, *crown]
    meshes += walls(rng, width, depth, storeys, style)
    if rng.random() < 0.75:
        bands = [(base + k * height, base + (k + 1) * height) for k in range(floors)]
        meshes += _bays(rng, width, bands, style)
    elif floors > 1 and rng.random() < 0.4:
        meshes.append(fire_escape(windows_of(upper)[:: max(1, len(windows_of(upper)) // floors)], top))
    return meshes + wall_details(rng, width, base)


def _row_roof(
    rng: np.random.Generator, width: float, depth: float, top: float, style: FacadeStyle
) -> tuple[list[Storey], list[Mesh]]:
    """A flat top with a cornice, a gable towards the street, or a mansard."""
    kind = rng.random()
    if kind < 0.6:
        storey, meshes = flat_top(rng, width, depth, top, style)
        return [storey], meshes
    if kind < 0.85:
        roof = roofs.turned(roofs.gabled(width, depth, rng.uniform(0.25, 0.5) * width, 0.2, "roof_tiles", style.wall))
    else:
        roof = roofs.mansard(depth, width, rng.uniform(1.8, 2.6), 0.8, "roof_tiles")
    return [], [roof.placed(-depth / 2, 0, top)]


def _bays(rng: np.random.Generator, width: float, bands: list[tuple[float, float]], style: FacadeStyle) -> list[Mesh]:
    """One or two bays, as many as fit."""
    count = int(np.clip(rng.integers(1, 3), 1, max(1, width // 3.4)))
    wide, slant = min(rng.uniform(2.1, 3.0), width - 0.4), rng.choice([0.0, 0.45, 0.6])
    places = (np.arange(count) + 0.5) / count - 0.5
    places = places + (rng.uniform(-0.12, 0.12) if count == 1 else 0.0)
    one = bay(rng, bands, style, wide, float(slant))
    return [one.placed(0, float(y) * (width if count > 1 else width - wide), 0) for y in places]


def _apartments(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """Three to seven floors of equal windows, often with balconies or fire escapes."""
    style = FacadeStyle.sample(rng)
    floors, base, height = int(rng.integers(2, 7)), rng.uniform(3.0, 3.8), rng.uniform(2.8, 3.3)
    kinds = ["window"] * max(1, int(width / 3.2))
    kinds[rng.integers(len(kinds))] = pick(rng, ("door", "porch", "garage"))
    upper, style = upper_storeys(width, base, floors, height, rng.uniform(2.2, 3.6), style)
    crown, meshes = flat_top(rng, width, depth, base + floors * height, style)
    storeys = [ground_storey(rng, width, base, style.ground, kinds), *upper, crown]
    meshes += walls(rng, width, depth, storeys, style)
    drawn, holes = rng.random(), windows_of(upper)
    if drawn < 0.35:
        meshes.append(balconies(rng, holes))
    elif drawn < 0.55:
        column = int(rng.integers(len(holes) // floors))
        meshes.append(fire_escape(holes[column :: len(holes) // floors], base + height))
    if rng.random() < 0.25:
        meshes.append(poster_wall(rng, width, depth, base + floors * height))
    return meshes + wall_details(rng, width, base)


def _shop(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """Shopfronts with awnings and signs, and up to three floors above."""
    style = FacadeStyle.sample(rng)
    floors, base, height = int(rng.integers(0, 4)), rng.uniform(3.3, 4.4), rng.uniform(2.8, 3.4)
    kinds = ("shop", "door") * max(1, int(width / 6.5)) + ("shop",)
    ground = ground_storey(rng, width, base, style.ground, kinds)
    upper, style = upper_storeys(width, base, floors, height, rng.uniform(2.0, 3.2), style)
    crown, meshes = flat_top(rng, width, depth, base + floors * height, style)
    meshes += walls(rng, width, depth, [ground, *upper, crown], style)
    fronts = windows_of([ground], "shop")
    if rng.random() < 0.6 and len(fronts):
        meshes.append(awnings(rng, fronts))
    if rng.random() < 0.8:
        meshes.append(sign_board(rng, width, base - rng.uniform(0.3, 0.6)))
    if rng.random() < 0.4:
        meshes.append(blade_sign(rng, rng.uniform(-0.45, 0.45) * width, rng.uniform(2.6, 3.4)))
    if rng.random() < 0.2 and floors:
        meshes.append(poster_wall(rng, width, depth, base + floors * height))
    return meshes


def _office(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """An office building with a curtain wall, window bands, or wide windows between posts."""
    style = replace(
        FacadeStyle.sample(rng, _OFFICE_WALLS),
        size=(rng.uniform(1.6, 2.8), 2.0),
        panes=(2, 1),
        depth=rng.uniform(0.1, 0.4),
    )
    floors, base, height = int(rng.integers(2, 8)), rng.uniform(3.6, 4.8), rng.uniform(3.3, 3.9)
    kinds = ("shop", "shop", "door", "shop") * max(1, int(width / 12))
    ground = ground_storey(rng, width, base, style.ground, kinds)
    bands = [(base + k * height, base + (k + 1) * height) for k in range(floors)]
    kind = rng.random()
    if kind < 0.35:
        upper, style = upper_storeys(width, base, floors, height, style.size[0] + rng.uniform(0.5, 1.5), style)
    else:
        sill, margin = (0.9, 0.0) if kind < 0.7 else (0.15, rng.uniform(0.0, 0.6))
        upper = [ribbon_storey(width, low, high, style.wall, sill, margin + 0.2) for low, high in bands]
    crown, meshes = flat_top(rng, width, depth, bands[-1][1], style)
    meshes += walls(rng, width, depth, [ground, *upper, crown], style)
    if rng.random() < 0.4:
        meshes.append(_fins(width, base, bands[-1][1], rng.uniform(2.0, 4.0), style.trim))
    if rng.random() < 0.5:
        meshes.append(boxes((0, 1.4, -1.8, 1.8, base - 0.6, base - 0.35), "metal_painted", LABEL))
    return meshes


def _fins(width: float, low: float, high: float, spacing: float, material: str) -> Mesh:
    """Thin vertical fins in front of a facade."""
    y = evenly(width - 0.3, spacing)
    zero = np.zeros_like(y)
    return boxes(np.column_stack([zero, zero + 0.3, y - 0.08, y + 0.08, zero + low, zero + high]), material, LABEL)


def _shed(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """A hall or workshop: gates, few and high windows, a low roof."""
    style = replace(
        FacadeStyle.sample(rng, _SHED_WALLS), size=(rng.uniform(1.5, 3.0), rng.uniform(0.9, 1.4)), panes=(4, 2)
    )
    height = rng.uniform(4.8, 8.5)
    kinds = [pick(rng, ("gate", "gate", "garage", "door", "window")) for _ in range(int(width / rng.uniform(4, 8)))]
    ground = ground_storey(rng, width, min(height, 4.8), style.ground, kinds)
    high = [window_storey(width, 4.8, height, style.wall, int(width / 4), style)] if height > 6.8 else []
    upper = high or ([Storey(4.8, height, style.wall)] if height > 4.8 else [])
    crown, meshes = _shed_roof(rng, width, depth, height, style)
    meshes += walls(rng, width, depth, [ground, *upper, *crown], style.plain() if len(high) else style)
    if rng.random() < 0.4:
        meshes.append(sign_board(rng, min(width, 9.0), min(height, 4.8) - rng.uniform(0.0, 0.3)))
    if rng.random() < 0.2:
        meshes.append(poster_wall(rng, width, depth, height))
    return meshes + wall_details(rng, width, height)


def _shed_roof(
    rng: np.random.Generator, width: float, depth: float, height: float, style: FacadeStyle
) -> tuple[list[Storey], list[Mesh]]:
    kind, material = rng.random(), pick(rng, ("cladding", "roof_flat", "metal"))
    if kind < 0.4:
        storey, meshes = flat_top(rng, width, depth, height, style)
        return [storey], meshes
    if kind < 0.6:
        roof = roofs.turned(roofs.barrel(width, depth, rng.uniform(0.08, 0.16) * width, material, style.wall))
    elif kind < 0.8:
        roof = roofs.turned(roofs.gabled(width, depth, rng.uniform(0.1, 0.25) * width, 0.2, material, style.wall))
    elif kind < 0.9:
        roof = roofs.gabled(depth, width, rng.uniform(0.1, 0.25) * depth, 0.3, material, style.wall)
    else:
        roof = roofs.sawtooth(depth, width, rng.uniform(1.5, 2.5), max(1, int(depth / 5)), material, style.wall)
    return [], [roof.placed(-depth / 2, 0, height)]


def _house(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """A detached house with a pitched roof, a chimney, and sometimes a garage beside it."""
    style = FacadeStyle.sample(rng)
    wide, deep = min(width - 0.8, rng.uniform(7, 12)), min(depth, rng.uniform(7, 11))
    floors, height = int(rng.integers(1, 3)), rng.uniform(2.6, 3.1)
    kinds = pick(rng, (("window", "door", "window"), ("window", "porch", "window"), ("door", "window", "garage")))
    storeys = [ground_storey(rng, wide, height, style.ground, kinds)]
    upper, style = upper_storeys(wide, height, floors - 1, height, rng.uniform(2.5, 3.5), style)
    meshes = walls(rng, wide, deep, storeys + upper, style)
    top, rise = floors * height, rng.uniform(0.25, 0.5) * min(deep, wide)
    meshes.append(_pitched(rng, wide, deep, rise, style).placed(-deep / 2, 0, top))
    if rng.random() < 0.6:
        meshes.append(chimney(rng, -deep * rng.uniform(0.3, 0.7), rng.uniform(-0.4, 0.4) * wide, top, top + rise + 0.6))
    free = width - wide
    shift = rng.uniform(-0.5, 0.5) * free
    if free > 3.6 and rng.random() < 0.6:
        shift = -0.5 * (free - 0.4)
        meshes.append(_side_garage(rng, style).placed(-1.0, wide / 2 + 1.6, 0))
    return [mesh.placed(0, shift) for mesh in meshes]


def _pitched(rng: np.random.Generator, wide: float, deep: float, rise: float, style: FacadeStyle) -> Mesh:
    """A gable roof with its ridge along or across the street, or a hip roof; centred on the origin."""
    kind, over = rng.random(), rng.uniform(0.15, 0.6)
    if kind < 0.4:
        return roofs.gabled(deep, wide, rise, over, "roof_tiles", style.wall)
    if kind < 0.7:
        return roofs.turned(roofs.gabled(wide, deep, rise, over, "roof_tiles", style.wall))
    if kind < 0.92:
        return roofs.hipped(deep, wide, rise, over, "roof_tiles")
    return roofs.mansard(deep, wide, rise, 1.0, "roof_tiles")


def _side_garage(rng: np.random.Generator, style: FacadeStyle) -> Mesh:
    """A garage, 3.2 m wide."""
    front = facade(rng, 3.2, [ground_storey(rng, 3.2, 2.7, style.wall, ("garage",))], style)
    return merge([front, boxes((-5.5, -0.42, -1.6, 1.6, 0.0, 2.7), style.wall, LABEL)])


def hut(rng: np.random.Generator) -> Mesh:
    """A shipping container, site cabin or kiosk (building), its door towards +x."""
    long, wide, tall = rng.uniform(2.2, 2.6), rng.choice([3.0, 4.5, 6.1]), rng.uniform(2.3, 2.8)
    style = replace(FacadeStyle.sample(rng, ("cladding", "truck_steel", "planks_painted")), depth=0.05, sills=False)
    kinds = pick(rng, (("door", "window"), ("window", "door", "window"), ()))
    storeys = [ground_storey(rng, wide, tall, style.wall, kinds)]
    roof = roofs.flat(long, wide, "roof_flat", 0.0).placed(-long / 2, 0, tall)
    plain = [Storey(0.0, tall, style.wall)]
    sides = [facade(rng, length, plain, style) for length in (long, long, wide)]
    places = ((-long / 2, wide / 2, 0, np.pi / 2), (-long / 2, -wide / 2, 0, -np.pi / 2), (-long, 0, 0, np.pi))
    return merge([facade(rng, wide, storeys, style), roof, *(s.placed(*p) for s, p in zip(sides, places, strict=True))])


def wall(rng: np.random.Generator, length: float) -> Mesh:
    """A free-standing wall along y (other_static), 0.4 to 3.5 m high, with a coping and sometimes piers."""
    height, half = rng.choice([rng.uniform(0.4, 1.0), rng.uniform(1.4, 3.5)]), rng.uniform(0.08, 0.2)
    material = pick(rng, ("brick", "plaster", "plaster_painted", "concrete", "stone", "stone"))
    body = [(-half, half, -length / 2, length / 2, 0.0, height)]
    coping = [(-half - 0.04, half + 0.04, -length / 2, length / 2, height, height + 0.07)]
    if rng.random() < 0.4:
        y = evenly(length - 0.4, rng.uniform(2.5, 4.0))
        zero = np.zeros_like(y)
        body += [*np.column_stack([zero - half - 0.1, zero + half + 0.1, y - 0.2, y + 0.2, zero, zero + height + 0.15])]
    cap = pick(rng, ("concrete", material, "stone"))
    return merge([boxes(body, material, "other_static"), boxes(coping, cap, "other_static")])


def fence(rng: np.random.Generator, length: float) -> Mesh:
    """A fence along y (other_static): boards, wire, pickets, iron bars or palisades, 0.7 to 3.2 m high."""
    return pick(rng, (_board_fence, _wire_fence, _picket_fence, _iron_fence, _iron_fence, _palisade))(rng, length)


def yard_fence(rng: np.random.Generator, length: float) -> Mesh:
    """A yard fence along y (other_static), 1.7 to 3.2 m high: palisades, sheets, or wire, bare or screened.

    Behind parked cars it appears as a flat dark wall like a truck; only its length distinguishes them.
    """
    return pick(rng, (_palisade, _palisade, _sheet_fence, _sheet_fence, _tall_wire, _screened_fence))(rng, length)


def _posts(length: float, spacing: float, half: float, height: float, material: str) -> Mesh:
    y = evenly(length - 2 * half, spacing)
    zero = np.zeros_like(y)
    columns = np.column_stack([zero - half, zero + half, y - half, y + half, zero, zero + height])
    return boxes(columns, material, "other_static")


def _board_fence(rng: np.random.Generator, length: float) -> Mesh:
    height, material = rng.uniform(1.2, 2.6), pick(rng, ("planks", "planks_painted"))
    boards = boxes((-0.02, 0.02, -length / 2, length / 2, 0.05, height), material, "other_static")
    return merge([boards, _posts(length, rng.uniform(1.8, 2.6), 0.06, height + 0.1, material)])


def _wire_fence(rng: np.random.Generator, length: float) -> Mesh:
    return _wire(rng, length, rng.uniform(1.2, 2.6))


def _tall_wire(rng: np.random.Generator, length: float) -> Mesh:
    return _wire(rng, length, rng.uniform(1.8, 3.0))


def _screened_fence(rng: np.random.Generator, length: float) -> Mesh:
    """Wire with cloth or boards behind most of its height."""
    height = rng.uniform(1.8, 3.0)
    top, low = height * rng.uniform(0.7, 1.0), rng.uniform(0.0, 0.3)
    material = pick(rng, ("tarpaulin", "tarpaulin", "print", "planks"))
    screen = panels([(-length / 2, length / 2, low, top)], -0.02, material, "other_static")
    return merge([_wire(rng, length, height), screen])


def _wire(rng: np.random.Generator, length: float, height: float) -> Mesh:
    """Wire as single thin strips: some rays hit them, others pass between."""
    mesh = rng.uniform(0.1, 0.2)
    y, z = evenly(length, mesh), np.arange(0.1, height, mesh * rng.uniform(1.0, 1.5))
    upright = np.column_stack([y - 0.005, y + 0.005, np.full_like(y, 0.05), np.full_like(y, height)])
    across = np.column_stack([np.full_like(z, -length / 2), np.full_like(z, length / 2), z - 0.005, z + 0.005])
    wire = panels(np.concatenate([upright, across]), 0.0, "metal", "other_static")
    rails = boxes((-0.02, 0.02, -length / 2, length / 2, height, height + 0.04), "metal", "other_static")
    return merge([wire, rails, _posts(length, rng.uniform(2.2, 3.2), 0.03, height + 0.05, "metal")])


def _picket_fence(rng: np.random.Generator, length: float) -> Mesh:
    height, half = rng.uniform(0.7, 1.3), rng.uniform(0.03, 0.05)
    y = evenly(length - 2 * half, max(0.13, length / 150))
    pickets = panels(
        np.column_stack([y - half, y + half, y * 0 + 0.06, y * 0 + height]), 0.03, "planks_painted", "other_static"
    )
    rails = [(-0.02, 0.02, -length / 2, length / 2, z, z + 0.08) for z in (0.25, height - 0.3)]
    parts = [pickets, boxes(rails, "planks_painted", "other_static")]
    return merge([*parts, _posts(length, 2.0, 0.05, height, "planks_painted")])


def _iron_fence(rng: np.random.Generator, length: float) -> Mesh:
    height, radius = rng.uniform(0.9, 2.4), rng.uniform(0.008, 0.014)
    y = evenly(length, max(0.11, length / 120))
    foot, head = np.column_stack([y * 0, y, y * 0 + 0.05]), np.column_stack([y * 0, y, y * 0 + height + 0.08])
    material = pick(rng, _BARS)
    bars = limbs(foot, head, radius, radius, material, "other_static", sides=3)
    rails = [(-0.02, 0.02, -length / 2, length / 2, z, z + 0.04) for z in (0.15, height - 0.1)]
    parts = [bars, boxes(rails, material, "other_static")]
    return merge([*parts, _posts(length, rng.uniform(2.0, 3.0), 0.035, height + 0.12, material)])


def _palisade(rng: np.random.Generator, length: float) -> Mesh:
    """Closely spaced flat steel bars, opaque at oblique views; often dark."""
    height, half = rng.uniform(1.7, 3.2), rng.uniform(0.015, 0.035)
    y = evenly(length - 2 * half, max(half * rng.uniform(2.6, 4.5), length / 110))
    zero = np.zeros_like(y)
    bars = np.column_stack([zero - 0.012, zero + 0.012, y - half, y + half, zero + 0.06, zero + height])
    rails = [(-0.03, 0.03, -length / 2, length / 2, z, z + 0.05) for z in (0.25, height - 0.3)]
    material = pick(rng, _BARS)
    steel = boxes(np.concatenate([bars, rails]), material, "other_static")
    return merge([steel, _posts(length, rng.uniform(2.2, 3.0), 0.04, height + 0.05, material)])


def _sheet_fence(rng: np.random.Generator, length: float) -> Mesh:
    """Corrugated sheet or tarpaulin, as around construction sites and yards."""
    height = rng.uniform(1.8, 3.2)
    material = pick(rng, ("cladding", "truck_steel", "planks_painted", "print", "tarpaulin", "iron"))
    sheet = panels([(-length / 2, length / 2, 0.05, height)], 0.0, material, "other_static")
    return merge([sheet, _posts(length, rng.uniform(2.0, 3.0), 0.04, height, "metal")])


_STYLES: tuple[tuple[Style, float, float], ...] = (
    # style, minimum and maximum width of the front
    (_row_house, 4.0, 12.0),
    (_row_house, 4.0, 9.0),
    (_apartments, 8.0, 60.0),
    (_shop, 5.0, 30.0),
    (_office, 12.0, 60.0),
    (_shed, 12.0, 60.0),
    (_house, 8.0, 20.0),
)
