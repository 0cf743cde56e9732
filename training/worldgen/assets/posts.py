"""Objects on posts: lamps, wires, traffic lights, signs, billboards.

Label other_static, and traffic_sign for the faces of signs. Lamp arms extend to +x. Sign faces and traffic-light
lenses face +x, towards oncoming traffic; the arm of a traffic light extends to -y, over the road to its left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.worldgen.assets.parts import boxes, limbs, panels, pick, picture
from training.worldgen.mesh import Mesh, box, cylinder, ellipsoid, merge, plate, quads, surface

STATIC, SIGN = "other_static", "traffic_sign"
_SIGN_HALF_M = 0.3
"""Half the width of the border in the pattern ``SIGN``."""
_COLORS = ("metal", "metal", "metal_painted", "metal_painted", "concrete", "wood")


def lamp(rng: np.random.Generator) -> Mesh:
    """A street lamp: a head on an arm over the road, or a lantern on top."""
    if rng.random() < 0.2:
        return _lantern(rng)
    height, reach, material = rng.uniform(5.5, 9.5), rng.uniform(0.8, 2.8), pick(rng, _COLORS[:5])
    radius, rise = rng.uniform(0.06, 0.12), rng.uniform(0.0, 0.9)
    bend = np.array([(0.0, 0.0), (0.12, 0.6), (0.45, 0.92), (1.0, 1.0)]) * (reach, rise + 0.02)
    arm = np.column_stack([bend[:, 0], np.zeros(4), height + bend[:, 1]])
    head, tip = rng.uniform(0.45, 0.8), arm[-1, 2]
    parts = [
        _upright(height + 0.05, radius * 1.3, radius * 0.7, material),
        limbs(arm[:-1], arm[1:], 0.035, 0.035, material, STATIC),
        boxes((reach - 0.1, reach + head, -0.13, 0.13, tip - 0.04, tip + 0.1), material, STATIC),
        boxes((reach, reach + head - 0.05, -0.1, 0.1, tip - 0.08, tip - 0.04), "lamp_glass", STATIC),
    ]
    if rng.random() < 0.5:
        parts.append(cylinder(radius * 2.2, rng.uniform(0.3, 0.9), material, STATIC, sides=8))
    if rng.random() < 0.15:
        parts.append(_banner(rng, radius))
    return merge(parts)


def _banner(rng: np.random.Generator, radius: float) -> Mesh:
    """A banner on a lamp post."""
    low, tall, wide = rng.uniform(2.8, 3.6), rng.uniform(1.0, 1.8), rng.uniform(0.5, 0.8)
    material = pick(rng, ("print", "poster", "tarpaulin"))
    return picture(wide, tall, material, STATIC).placed(0.0, radius + wide / 2 + 0.05, low + tall / 2)


def _lantern(rng: np.random.Generator) -> Mesh:
    height, radius = rng.uniform(2.8, 4.6), rng.uniform(0.04, 0.08)
    globe = ellipsoid((0.2, 0.2, 0.24), "lamp_glass", STATIC, (0, 0, height + 0.2), rings=5, sides=8)
    foot = cylinder(radius * 2.5, 0.5, "metal_painted", STATIC, sides=8)
    cap = cylinder(0.25, 0.1, "metal_painted", STATIC, top_radius=0.05, sides=8, base=(0, 0, height + 0.38))
    return merge([_upright(height, radius * 1.4, radius, "metal_painted"), foot, globe, cap])


def pole(rng: np.random.Generator) -> Mesh:
    """A bare post, 2 to 8 m high; some with a box or a band."""
    height, radius, material = rng.uniform(2.0, 8.0), rng.uniform(0.03, 0.15), pick(rng, _COLORS)
    parts = [_upright(height, radius, radius * rng.uniform(0.6, 1.0), material)]
    if rng.random() < 0.3:
        parts.append(box((0.25, 0.35, 0.5), "metal", STATIC, (0.1, 0, rng.uniform(1.2, 2.5))))
    if rng.random() < 0.2:
        parts.append(cylinder(radius * 1.05, 0.5, "barrier_stripes", STATIC, sides=8, base=(0, 0, 1.0)))
    return merge(parts)


def utility_pole(rng: np.random.Generator, span: float = 0.0) -> Mesh:
    """A wooden pole with cross-arms; with ``span`` metres of wires along +y to the next one of its kind."""
    height, radius = rng.uniform(9.0, 12.5), rng.uniform(0.12, 0.18)
    levels = height - 0.4 - np.arange(rng.integers(1, 4)) * 1.1
    half = rng.uniform(0.8, 1.3)
    arms = [(-half, half, -0.06, 0.06, z, z + 0.12) for z in levels]
    parts = [_upright(height, radius, radius * 0.7, "wood"), boxes(arms, "wood", STATIC)]
    if rng.random() < 0.5:
        parts.append(cylinder(0.24, 0.9, "metal", STATIC, sides=9, base=(0.42, 0, levels[-1] - 1.6)))
    if span > 0:
        ends = [(x * half, z + 0.14) for z in levels for x in (-0.9, -0.4, 0.4, 0.9)]
        parts.append(_wires([*ends, (radius, levels[-1] - 1.0)], span, 0.02 * span))
    return merge(parts)


def _wires(ends: Sequence[tuple[float, float]], span: float, sag: float) -> Mesh:
    """Wires from (x, z) along +y with a ``sag`` in metres."""
    along = np.linspace(0, 1, 9)
    drop = 4 * sag * along * (1 - along)
    x, z = np.array(ends).T[:, :, None]
    points = np.stack(np.broadcast_arrays(x, along * span, z - drop), axis=-1)
    return limbs(points[:, :-1].reshape(-1, 3), points[:, 1:].reshape(-1, 3), 0.012, 0.012, "trim", STATIC, sides=3)


def traffic_light(rng: np.random.Generator) -> Mesh:
    """A traffic light for oncoming traffic, often with more heads on an arm over the road."""
    material, high = pick(rng, ("metal", "metal_painted", "metal_painted")), rng.uniform(2.5, 3.1)
    parts = [_head(rng.random() < 0.5).placed(0.2, 0, high)]
    if rng.random() < 0.65:
        reach, level = rng.uniform(3.0, 7.5), rng.uniform(5.3, 6.2)
        parts.append(_upright(level + 0.2, 0.13, 0.1, material))
        parts.append(limbs([(0, 0, level - 0.3)], [(0, -reach, level)], 0.08, 0.05, material, STATIC, sides=6))
        parts += [_head(True).placed(0.15, -reach * s, level - 0.55) for s in (0.96, 0.6)[: rng.integers(1, 3)]]
    else:
        parts.append(_upright(high + 0.6, 0.06, 0.05, material))
    if rng.random() < 0.6:  # pedestrian signal, facing sideways
        parts.append(_walker_head().placed(0.0, -0.2, rng.uniform(2.0, 2.4), -np.pi / 2))
    if rng.random() < 0.3:
        parts.append(_face(_rectangle(0.9, 0.2), "sign_print").placed(0.08, -0.5, high + 0.9))
    return merge(parts)


def _head(board: bool) -> Mesh:
    """A signal head with three lamps, centred on the origin, facing +x."""
    body = boxes((-0.12, 0.06, -0.17, 0.17, -0.48, 0.48), "trim", STATIC)
    visors = [(0.07, 0.22, -0.13, 0.13, z + 0.1, z + 0.13) for z in (-0.3, 0.0, 0.3)]
    parts = [body, plate(0.32, 0.92, "lamps", STATIC, (0.07, 0, 0)), boxes(visors, "trim", STATIC)]
    if board:
        parts.append(boxes((-0.02, 0.0, -0.32, 0.32, -0.63, 0.63), "trim", STATIC))
    return merge(parts)


def _walker_head() -> Mesh:
    body = boxes((-0.12, 0.06, -0.2, 0.2, -0.2, 0.2), "trim", STATIC)
    return merge([body, panels([(-0.13, 0.13, -0.13, 0.13)], 0.07, "plastic", STATIC)])


def traffic_sign(rng: np.random.Generator) -> Mesh:
    """One or two signs on a post."""
    shape, width = pick(rng, _SHAPES), rng.uniform(0.45, 0.85)
    low, radius = rng.uniform(1.9, 2.5), rng.uniform(0.025, 0.045)
    material = ("sign_print", "sign_face")[int(rng.random() < 0.8)]
    top = low + width
    parts = [_face(shape * width, material).placed(radius + 0.02, 0, low + width / 2)]
    if rng.random() < 0.35:
        tall = rng.uniform(0.2, 0.5)
        parts.append(
            _face(_rectangle(rng.uniform(0.3, 0.6), tall), "sign_print").placed(radius + 0.02, 0, low - tall / 2 - 0.04)
        )
    if rng.random() < 0.2:
        parts += _street_names(rng, top + 0.1)
        top += 0.5
    return merge([_upright(top, radius, radius, pick(rng, ("metal", "metal", "metal_painted"))), *parts])


def street_name_sign(rng: np.random.Generator) -> Mesh:
    """Two crossed street name boards on a post."""
    height = rng.uniform(2.4, 3.2)
    return merge([_upright(height + 0.5, 0.03, 0.03, "metal"), *_street_names(rng, height)])


def _street_names(rng: np.random.Generator, low: float) -> list[Mesh]:
    """Two double-sided boards, one above the other at right angles."""
    blade = _face(_rectangle(rng.uniform(0.7, 1.1), 0.2), "sign_print")
    turns = (
        (0.0, 0.02, low + 0.1),
        (np.pi, -0.02, low + 0.1),
        (np.pi / 2, 0.0, low + 0.35),
        (-np.pi / 2, 0.0, low + 0.35),
    )
    return [blade.placed(x + 0.03 * np.cos(yaw), 0.03 * np.sin(yaw), z, yaw) for yaw, x, z in turns]


def overhead_sign(rng: np.random.Generator) -> Mesh:
    """A large direction sign on a cantilever over the road; the arm extends to -y."""
    reach, level = rng.uniform(4.0, 8.0), rng.uniform(5.2, 6.0)
    wide, tall = rng.uniform(1.6, 3.6), rng.uniform(0.9, 2.0)
    arms = [((0, 0, level + z), (0, -reach, level + z)) for z in (0.3, 0.8)]
    beams = limbs([a for a, _ in arms], [b for _, b in arms], 0.07, 0.06, "metal", STATIC, sides=6)
    board = _face(_rectangle(wide, tall), "sign_print").placed(0.12, -reach + wide / 2, level + 0.55)
    return merge([_upright(level + 1.2, 0.2, 0.14, "metal"), beams, board])


def direction_sign(rng: np.random.Generator) -> Mesh:
    """A low direction sign on two posts beside the road."""
    wide, tall, low = rng.uniform(1.0, 2.6), rng.uniform(0.6, 1.6), rng.uniform(0.6, 2.0)
    posts = [_upright(low + tall, 0.04, 0.04, "metal").placed(-0.05, side * wide * 0.35) for side in (-1, 1)]
    return merge([*posts, _face(_rectangle(wide, tall), "sign_print").placed(0.02, 0, low + tall / 2)])


def billboard(rng: np.random.Generator) -> Mesh:
    """A large advertisement on posts."""
    wide, tall, low = rng.uniform(2.5, 7.0), rng.uniform(1.5, 3.5), rng.uniform(1.2, 5.0)
    posts = [_upright(low + tall * 0.9, 0.12, 0.1, "metal").placed(-0.15, side * wide * 0.3) for side in (-1, 1)]
    image = picture(wide, tall, pick(rng, ("poster", "print", "mural")), STATIC).placed(0.06, 0, low + tall / 2)
    back = boxes(
        (-0.05, 0.05, -wide / 2 - 0.05, wide / 2 + 0.05, low - 0.05, low + tall + 0.05), "metal_painted", STATIC
    )
    return merge([*posts, image, back])


def _upright(height: float, radius: float, top: float, material: str) -> Mesh:
    """A tapered post with a cap."""
    return cylinder(radius, height, material, STATIC, top_radius=top, sides=7)


def _ring(corners: int, turn: float) -> NDArray[np.float64]:
    """(K, 2) corners of a regular polygon of width 1."""
    angle = np.arange(corners) * (2 * np.pi / corners) + turn
    ring = np.column_stack([np.cos(angle), np.sin(angle)])
    return np.asarray(ring / (np.abs(ring[:, 0]).max() * 2))


def _rectangle(wide: float, tall: float) -> NDArray[np.float64]:
    return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (wide / 2, tall / 2)


_SHAPES = (
    _ring(14, 0.0),
    _ring(14, 0.0),
    _ring(3, np.pi / 2),
    _ring(3, -np.pi / 2),
    _ring(8, np.pi / 8),
    _ring(8, np.pi / 8),
    _ring(4, 0.0),
    _rectangle(1.0, 1.0),
    _rectangle(0.75, 1.0),
    _rectangle(0.6, 0.9),
)


def _face(outline: ArrayLike, material: str) -> Mesh:
    """A sign with a (K, 2) outline (y, z) around its centre: the face towards +x, bare metal behind.

    Texture coordinates are scaled so that the pattern fills the face.
    """
    ring = np.asarray(outline, np.float64)
    fan = np.array([(0, k, k + 1) for k in range(1, len(ring) - 1)])
    front = surface(np.column_stack([np.full(len(ring), 0.012), ring]), fan, material, SIGN)
    if material == "sign_face":
        size = (0.0, *(_SIGN_HALF_M / np.abs(ring).max(axis=0)))
        front = replace(front, texture=(front.vertices * size).astype(np.float32))
    back = surface(np.column_stack([np.zeros(len(ring)), ring]), fan[:, ::-1], "sign_back", SIGN)
    low, high = ring, np.roll(ring, -1, axis=0)
    edge = np.stack([np.insert(low, 0, 0.0, 1), np.insert(high, 0, 0.0, 1),
                     np.insert(high, 0, 0.012, 1), np.insert(low, 0, 0.012, 1)], axis=1)  # fmt: skip
    return merge([front, back, quads(edge, "sign_back", SIGN)])
