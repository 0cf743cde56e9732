"""Furniture of country roads and motorways: pasture fences, delineators, noise walls, gantries, bridges.

Label other_static, and traffic_sign for the faces of signs. Objects with a length extend along y, centred on y = 0.
"""

from __future__ import annotations

import numpy as np

from training.worldgen.assets.parts import boxes, evenly, limbs, panels, pick
from training.worldgen.assets.woodland import ivy
from training.worldgen.mesh import Mesh, box, cylinder, merge, plate

STATIC, SIGN = "other_static", "traffic_sign"


def pasture_fence(rng: np.random.Generator, length: float) -> Mesh:
    """Wooden or steel posts along y with two to four wires or boards."""
    height, radius = rng.uniform(0.9, 1.5), rng.uniform(0.03, 0.07)
    material = pick(rng, ("wood", "wood", "planks", "metal"))
    y = evenly(length - 0.2, rng.uniform(1.8, 3.5))
    foot, head = np.column_stack([y * 0, y, y * 0]), np.column_stack([y * 0, y, y * 0 + height])
    parts = [limbs(foot, head, radius, radius, material, STATIC, sides=5)]
    levels = np.linspace(height - 0.1, 0.35, int(rng.integers(2, 5)))
    if rng.random() < 0.35:
        rails = [(-0.02, 0.02, -length / 2, length / 2, z - 0.06, z + 0.06) for z in levels]
        parts.append(boxes(rails, material, STATIC))
    else:
        wires = [(-length / 2, length / 2, z - 0.004, z + 0.004) for z in levels]
        parts.append(panels(wires, 0.0, "metal", STATIC))
    return merge(parts)


def delineator(rng: np.random.Generator) -> Mesh:
    """A white marker post with a reflector, beside country roads and motorways (other_static)."""
    height, wide = rng.uniform(0.8, 1.1), rng.uniform(0.09, 0.13)
    post = box((0.08, wide, height), "marking_white", STATIC)
    reflector = box((0.1, wide * 0.5, 0.16), "licence_plate", STATIC, (0, 0, height - 0.28))
    return merge([post, reflector])


def noise_wall(rng: np.random.Generator, length: float) -> Mesh:
    """A noise barrier of panels between steel posts along y, 1.8 to 5 m high; some are overgrown or partly of glass."""
    height, spacing = rng.uniform(1.8, 5.0), rng.uniform(2.5, 5.0)
    material = pick(rng, ("concrete", "planks", "cladding", "metal_painted", "brick", "planks_painted"))
    clear = rng.uniform(0.4, 0.7) * height if rng.random() < 0.2 else height
    parts = [boxes((-0.07, 0.07, -length / 2, length / 2, 0.0, clear), material, STATIC)]
    if clear < height:
        parts.append(panels([(-length / 2, length / 2, clear, height)], 0.0, "window", STATIC))
    y = evenly(length - 0.2, spacing)
    zero = np.zeros_like(y)
    columns = np.column_stack([zero - 0.12, zero + 0.12, y - 0.09, y + 0.09, zero, zero + height + 0.05])
    parts.append(boxes(columns, pick(rng, ("metal", "concrete")), STATIC))
    if rng.random() < 0.3:
        parts.append(ivy(rng, length, height * rng.uniform(0.4, 1.0)).placed(0.08, 0.0))
    return merge(parts)


def gantry(rng: np.random.Generator, span: float) -> Mesh:
    """A post with a truss over the road to -y, ``span`` metres long, with signs that face +x."""
    level, deep = rng.uniform(5.4, 6.6), rng.uniform(0.5, 1.0)
    chords = np.array([(x, z) for x in (-deep / 2, deep / 2) for z in (level, level + deep)])
    starts = np.column_stack([chords[:, 0], np.zeros(4), chords[:, 1]])
    parts = [cylinder(0.22, level + deep, "metal", STATIC, sides=8)]
    parts.append(limbs(starts, starts - (0, span, 0), 0.06, 0.06, "metal", STATIC))
    y = -np.arange(0.0, span, 1.2)
    low = np.column_stack([y * 0 + deep / 2, y, y * 0 + level])
    high = np.column_stack([y * 0 + deep / 2, y - 1.2, y * 0 + level + deep])
    parts.append(limbs(low, high, 0.035, 0.035, "metal", STATIC))
    for at in np.arange(3.0, span - 1.5, rng.uniform(3.6, 7.0)):
        wide, tall = rng.uniform(1.2, 3.4), rng.uniform(1.0, 2.6)
        parts.append(plate(wide, tall, "sign_print", SIGN, (deep / 2 + 0.12, -at, level + deep / 2)))
        parts.append(plate(wide, tall, "sign_back", SIGN, (deep / 2 + 0.1, -at, level + deep / 2)))
    return merge(parts)


def bridge_deck(rng: np.random.Generator, span: float, wide: float) -> Mesh:
    """The deck of a bridge along y with girders and railings, 4.9 to 5.8 m above the road below it."""
    low, thick = rng.uniform(4.9, 5.8), rng.uniform(0.5, 1.1)
    half, y = wide / 2, span / 2
    deck = [(-half, half, -y, y, low + 0.6 * thick, low + thick)]
    girders = [(x - 0.25, x + 0.25, -y, y, low, low + thick) for x in np.linspace(-half + 0.5, half - 0.5, 4)]
    rails = [(x - 0.1, x + 0.1, -y, y, low + thick, low + thick + 1.0) for x in (-half + 0.1, half - 0.1)]
    return boxes(np.array([*deck, *girders, *rails]), "concrete", STATIC)


def bridge_pier(rng: np.random.Generator, wide: float) -> Mesh:
    """A row of round columns, or a wall, across y under a bridge (other_static)."""
    height = 5.5
    if rng.random() < 0.4:
        return box((wide * 0.9, 0.8, height), "concrete", STATIC)
    x = np.linspace(-wide * 0.4, wide * 0.4, 3)
    return merge([cylinder(0.45, height, "concrete", STATIC, sides=10, base=(a, 0, 0)) for a in x])
