"""Parts of buildings: walls, roofs, bays, balconies, awnings, signs, fire escapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.worldgen.assets.facades import LABEL, WALLS, FacadeStyle, Rectangles, Storey, facade, window_storey
from training.worldgen.assets.parts import boxes, corners, limbs, panels, pick, picture
from training.worldgen.assets.roofs import flat
from training.worldgen.mesh import Mesh, cylinder, merge, plate, quads

MAX_WINDOWS = 80
"""Maximum windows per facade, which bounds the triangle count."""
_PLAIN_FROM = 26


def walls(
    rng: np.random.Generator, width: float, depth: float, storeys: Sequence[Storey], style: FacadeStyle
) -> list[Mesh]:
    """The front as given, and side and rear walls with few windows or none."""
    plain = style.plain()
    side, back = (_other_storeys(rng, length, storeys, plain) for length in (depth, width))
    other = _other_storeys(rng, depth, storeys, plain)
    return [
        facade(rng, width, storeys, style),
        facade(rng, depth, side, plain).placed(-depth / 2, width / 2, 0, np.pi / 2),
        facade(rng, depth, other, plain).placed(-depth / 2, -width / 2, 0, -np.pi / 2),
        facade(rng, width, back, plain).placed(-depth, 0, 0, np.pi),
    ]


def _other_storeys(
    rng: np.random.Generator, width: float, storeys: Sequence[Storey], style: FacadeStyle
) -> list[Storey]:
    """Storeys of a wall that does not face the street; often blank and then of a cheaper material."""
    count = int(min(width / rng.uniform(4.0, 7.0), 16 / len(storeys))) if rng.random() < 0.45 else 0
    wall = pick(rng, WALLS) if rng.random() < 0.3 else ""
    kinds = [replace(style, wall=wall or storey.wall) for storey in storeys]
    return [
        window_storey(width, s.low, s.high, own.wall, count if s.high - s.low > 2.2 else 0, own)
        for s, own in zip(storeys, kinds, strict=True)
    ]


def upper_storeys(
    width: float, low: float, floors: int, height: float, spacing: float, style: FacadeStyle
) -> tuple[list[Storey], FacadeStyle]:
    """Equal storeys with windows about ``spacing`` metres apart, and the style, simplified for many windows."""
    columns = max(1, min(int(width / spacing), MAX_WINDOWS // max(1, floors)))
    simple = style.plain() if columns * floors >= _PLAIN_FROM else style
    bands = [(low + k * height, low + (k + 1) * height) for k in range(floors)]
    return [window_storey(width, a, b, style.wall, columns, simple) for a, b in bands], simple


def flat_top(
    rng: np.random.Generator, width: float, depth: float, top: float, style: FacadeStyle
) -> tuple[Storey, list[Mesh]]:
    """A parapet as an additional storey, and the flat roof behind it with cornice and roof equipment."""
    parapet = rng.uniform(0.15, 1.2)
    meshes = [flat(depth, width, "roof_flat", parapet).placed(-depth / 2, 0, top + parapet)]
    if rng.random() < 0.6:
        out, tall = rng.uniform(0.08, 0.4), rng.uniform(0.15, 0.5)
        edge = top + parapet
        meshes.append(boxes((0, out, -width / 2, width / 2, edge - tall, edge + 0.05), style.trim, LABEL))
    if rng.random() < 0.3:
        meshes.append(boxes((0, 0.06, -width / 2, width / 2, top - 0.15, top + 0.1), style.trim, LABEL))
    meshes += roof_clutter(rng, width, depth, top)
    return Storey(top, top + parapet, style.wall), meshes


def roof_clutter(rng: np.random.Generator, width: float, depth: float, top: float) -> list[Mesh]:
    """Roof equipment: stair heads, air conditioners, vents, tanks."""
    meshes = []
    for _ in range(rng.integers(0, 4)):
        long, wide, tall = rng.uniform(0.8, 3.0), rng.uniform(0.8, 2.5), rng.uniform(0.6, 2.6)
        x, y = rng.uniform(-depth + long, -long), rng.uniform(-0.5, 0.5) * max(0.0, width - wide - 1)
        material = pick(rng, ("metal", "concrete", "plaster", "cladding"))
        meshes.append(boxes((x - long / 2, x + long / 2, y - wide / 2, y + wide / 2, top, top + tall), material, LABEL))
    if rng.random() < 0.15 and depth > 8:
        meshes.append(cylinder(1.2, rng.uniform(2, 3.5), "planks", LABEL, base=(-depth / 2, 0, top + 1.0)))
    return meshes


def bay(
    rng: np.random.Generator, bands: Sequence[tuple[float, float]], style: FacadeStyle, wide: float, slant: float
) -> Mesh:
    """A bay window over several storeys: a front and two sides, in front of x = 0, centred on y = 0.

    Args:
        rng: randomness for the windows.
        bands: lower and upper edge of each floor.
        style: of its windows.
        wide: width at the wall.
        slant: share of the width taken by each side; 0 for a box.
    """
    out = rng.uniform(0.55, 0.85)
    front, side = wide - 2 * slant, float(np.hypot(out, slant))
    turn = float(np.arctan2(out, slant))
    parts = []
    for length, x, y, yaw in (
        (front, out, 0.0, 0.0),
        (side, out / 2, (wide - slant) / 2, turn),
        (side, out / 2, -(wide - slant) / 2, -turn),
    ):
        slim = replace(style, size=(max(0.35, min(style.size[0] * 1.3, length - 0.4)), style.size[1]), shutters=False)
        storeys = [window_storey(length, low, high, style.wall, 1, slim) for low, high in bands]
        parts.append(facade(rng, length, storeys, slim).placed(x, y, 0, yaw))
    low, high = bands[0][0], bands[-1][1]
    edges = np.array([(-wide / 2,), (-front / 2,), (front / 2,), (wide / 2,)])
    plan = corners(np.array([(0,), (out,), (out,), (0,)]), edges, np.zeros((4, 1)))
    parts += [
        quads(plan + np.array((0, 0, high)), style.trim, LABEL),
        quads(plan[:, ::-1] + np.array((0, 0, low)), style.trim, LABEL),
    ]
    return merge(parts)


def balconies(rng: np.random.Generator, windows: Rectangles) -> Mesh:
    """Balconies with railings of glass, bars or boards at windows sampled from (N, 4) rectangles."""
    out, wider = rng.uniform(0.8, 1.5), rng.uniform(0.25, 0.7)
    chosen = windows[:: max(1, -(-len(windows) // 14))]
    y0, y1, z = chosen[:, 0] - wider, chosen[:, 1] + wider, chosen[:, 2] - 0.75
    zero, far = np.zeros_like(z), np.full_like(z, out)
    slabs = np.column_stack([zero, far, y0, y1, z - 0.18, z])
    rail = pick(rng, ("window", "metal_painted", "plaster", "planks", "concrete"))
    up = z + 1.05
    sides = (
        corners((far, far, far, far), (y0, y1, y1, y0), (z, z, up, up)),
        corners((zero, far, far, zero), (y0, y0, y0, y0), (z, z, up, up)),
        corners((far, zero, zero, far), (y1, y1, y1, y1), (z, z, up, up)),
    )
    return merge([boxes(slabs, "concrete", LABEL), quads(np.concatenate(sides), rail, LABEL)])


def fire_escape(windows: Rectangles, height: float) -> Mesh:
    """Iron landings below stacked windows, connected by ladders."""
    low = np.sort(windows[:, 2])
    y0, y1 = windows[0, 0] - 0.5, windows[0, 1] + 0.8
    decks = np.array([(0.0, 1.0, y0, y1, z - 0.65, z - 0.6) for z in low])
    rails = np.array([(0.97, 1.0, y0, y1, z + 0.3, z + 0.34) for z in low])
    posts = np.array([(0.97, 1.0, y - 0.02, y + 0.02, z - 0.6, z + 0.3) for z in low for y in np.linspace(y0, y1, 6)])
    foot, head = np.column_stack([low[:-1], low[1:]]).T
    side = np.array((0.3, 0.8))[:, None]
    starts = np.stack(np.broadcast_arrays(side, y0 + 0.3, foot - 0.6), axis=-1).reshape(-1, 3)
    ends = np.stack(np.broadcast_arrays(side, y1 - 0.3, head - 0.6), axis=-1).reshape(-1, 3)
    frame = boxes(np.concatenate([decks, rails, posts]), "metal_painted", LABEL)
    if len(starts) == 0 or height < 5:
        return frame
    return merge([frame, limbs(starts, ends, 0.04, 0.04, "metal_painted", LABEL)])


def awnings(rng: np.random.Generator, spans: Rectangles) -> Mesh:
    """Awnings over openings given as (N, 4) rectangles."""
    out = rng.uniform(0.6, 1.3)
    y0, y1, z = spans[:, 0] - 0.15, spans[:, 1] + 0.15, spans[:, 3] + 0.35
    near, far = np.full_like(z, 0.02), np.full_like(z, out)
    low = z - out * rng.uniform(0.55, 1.1)
    cloth = corners((far, far, near, near), (y0, y1, y1, y0), (low, low, z, z))
    skirt = corners((far, far, far, far), (y0, y1, y1, y0), (low - 0.22, low - 0.22, low, low))
    material = pick(rng, ("awning", "tarpaulin", "cloth_striped"))
    return quads(np.concatenate([cloth, skirt]), material, LABEL)


def sign_board(rng: np.random.Generator, width: float, z: float) -> Mesh:
    """Letters on a board along the front."""
    wide, tall = rng.uniform(0.4, 0.95) * width, rng.uniform(0.4, 0.9)
    board = plate(wide, tall, pick(rng, ("shop_sign", "print", "shop_sign")), LABEL, (0.13, 0.0, z + tall / 2))
    back = boxes((0.0, 0.12, -wide / 2, wide / 2, z, z + tall), "trim", LABEL)
    return merge([back, board])


def blade_sign(rng: np.random.Generator, y: float, z: float) -> Mesh:
    """A projecting sign, perpendicular to the wall."""
    wide, tall = rng.uniform(0.5, 1.0), rng.uniform(0.5, 2.5)
    face = plate(wide, tall, "shop_sign", LABEL)
    sides = [face.placed(0.2 + wide / 2, y + side * 0.07, z + tall / 2, side * np.pi / 2) for side in (1, -1)]
    return merge([*sides, boxes((0.0, 0.2 + wide, y - 0.06, y + 0.06, z, z + tall), "metal_painted", LABEL)])


def poster_wall(rng: np.random.Generator, width: float, depth: float, height: float) -> Mesh:
    """A mural or large letters on a side wall."""
    side = 1 if rng.random() < 0.5 else -1
    wide, tall = rng.uniform(0.3, 0.8) * depth, rng.uniform(0.3, 0.7) * height
    material = pick(rng, ("mural", "print", "poster", "shop_sign"))
    face = picture(wide, tall, material, LABEL)
    return face.placed(-depth / 2, side * (width / 2 + 0.02), height * 0.15 + tall / 2, side * np.pi / 2)


def wall_details(rng: np.random.Generator, width: float, height: float) -> list[Mesh]:
    """Downpipes, meter boxes, vents, lamps."""
    meshes = []
    if rng.random() < 0.5:
        edge = (0.5 if rng.random() < 0.5 else -0.5) * (width - 0.3)
        meshes.append(boxes((0.02, 0.12, edge - 0.05, edge + 0.05, 0.0, height), "metal_painted", LABEL))
    count = int(rng.integers(0, 4))
    y, z = rng.uniform(-0.48, 0.48, count) * width, rng.uniform(0.4, 2.4, count)
    size = rng.uniform(0.08, 0.25, (count, 2))
    bounds = np.column_stack(
        [np.zeros(count), np.full(count, 0.15), y - size[:, 0], y + size[:, 0], z, z + size[:, 1] * 2]
    )
    meshes.append(boxes(bounds, pick(rng, ("metal", "trim", "frame")), LABEL))
    return meshes


def chimney(rng: np.random.Generator, x: float, y: float, low: float, high: float) -> Mesh:
    """A brick stack."""
    half, deep = rng.uniform(0.25, 0.6), rng.uniform(0.25, 0.4)
    bounds = [
        (x - deep, x + deep, y - half, y + half, low, high),
        (x - deep * 0.6, x + deep * 0.6, y - half * 0.7, y + half * 0.7, high, high + 0.25),
    ]
    return boxes(bounds, pick(rng, ("brick", "stone", "plaster")), LABEL)


def windows_of(storeys: Sequence[Storey], kind: str = "window") -> Rectangles:
    """All openings of a kind."""
    return np.concatenate([np.empty((0, 4)), *(r for s in storeys for name, r in s.openings if name == kind)])


def pillars(places: Rectangles, low: float, high: float, half: float, material: str) -> Mesh:
    """Square columns at (N, 2) points."""
    x, y = places.T
    zero = np.zeros_like(x)
    return boxes(np.column_stack([x - half, x + half, y - half, y + half, zero + low, zero + high]), material, LABEL)


def closed_panel(width: float, low: float, high: float, x: float, material: str) -> Mesh:
    """A plain wall facing the street."""
    return panels([(-width / 2, width / 2, low, high)], x, material, LABEL)
