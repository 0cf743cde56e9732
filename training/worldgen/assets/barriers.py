"""Cones and debris (hazard), barriers and railings (other_static).

Objects with a length extend along y, centred on y = 0.
"""

from __future__ import annotations

import numpy as np

from training.worldgen.assets.parts import boxes, evenly, limbs, panels, pick
from training.worldgen.mesh import Mesh, box, cylinder, ellipsoid, extrude, merge, pose

STATIC, HAZARD = "other_static", "hazard"


def cone(rng: np.random.Generator) -> Mesh:
    """A traffic cone, 0.35 to 1.1 m high; one in five is a post or a drum instead."""
    if rng.random() < 0.2:
        return pylon(rng)
    height, foot = rng.uniform(0.35, 1.1), rng.uniform(0.14, 0.2)
    half = height * foot + 0.07
    base = box((2 * half, 2 * half, 0.04), pick(rng, ("tyre", "cone")), HAZARD)
    body = cylinder(height * foot + 0.02, height - 0.04, "cone", HAZARD, top_radius=0.025, base=(0, 0, 0.04))
    standing = merge([base, body])
    if rng.random() < 0.06:  # knocked over
        return standing.transformed(pose(0, 0, half, 0, np.pi / 2 - 0.1))
    return standing


def pylon(rng: np.random.Generator) -> Mesh:
    """A slim marker post or a drum (hazard)."""
    slim = rng.random() < 0.5
    radius, height = (rng.uniform(0.04, 0.07), rng.uniform(0.8, 1.2)) if slim else (rng.uniform(0.2, 0.3), 1.0)
    foot = cylinder(radius * 1.5 + 0.08, 0.07, "tyre", HAZARD)
    return merge([foot, cylinder(radius, height - 0.07, "cone", HAZARD, top_radius=radius * 0.85, base=(0, 0, 0.07))])


def barrier(rng: np.random.Generator) -> Mesh:
    """A roadwork barrier, 1 to 2.4 m wide: striped boards on feet, a crowd barrier, or a plastic block."""
    return pick(rng, (_striped, _striped, _crowd_barrier, _plastic_block))(rng)


def _striped(rng: np.random.Generator) -> Mesh:
    wide, height, count = rng.uniform(1.0, 2.4), rng.uniform(0.9, 1.5), int(rng.integers(1, 4))
    tops = height - np.arange(count) * 0.38
    boards = [(0.0, 0.03, -wide / 2, wide / 2, top - 0.22, top) for top in tops if top > 0.3]
    y = wide / 2 - 0.15
    feet = np.array([(x, s * y, 0.0) for s in (-1, 1) for x in (-0.3, 0.3)])
    heads = np.array([(0.0, s * y, height) for s in (-1, 1) for _ in range(2)])
    return merge([boxes(boards, "barrier_stripes", STATIC), limbs(feet, heads, 0.025, 0.025, "metal", STATIC)])


def _crowd_barrier(rng: np.random.Generator) -> Mesh:
    wide, height = rng.uniform(1.8, 2.4), rng.uniform(1.0, 1.15)
    y = np.linspace(-wide / 2, wide / 2, 16)
    uprights = [((0, a, 0.2), (0, a, height)) for a in y]
    rails = [((0, -wide / 2, z), (0, wide / 2, z)) for z in (0.2, height)]
    feet = [((-0.3, s * wide * 0.4, 0.03), (0.3, s * wide * 0.4, 0.03)) for s in (-1, 1)]
    legs = [((0, s * wide * 0.4, 0.03), (0, s * wide * 0.4, 0.2)) for s in (-1, 1)]
    starts, ends = np.array([*uprights, *rails, *feet, *legs]).swapaxes(0, 1)
    return limbs(starts, ends, 0.016, 0.016, "metal", STATIC)


def _plastic_block(rng: np.random.Generator) -> Mesh:
    material = pick(rng, ("cone", "plastic", "metal_bright"))
    return jersey_barrier(rng, rng.uniform(1.0, 2.0), material)


def jersey_barrier(rng: np.random.Generator, length: float, material: str = "concrete") -> Mesh:
    """A Jersey barrier along y."""
    height = rng.uniform(0.75, 1.1)
    side = np.array([(0.3, 0.0), (0.3, 0.08), (0.14, 0.33), (0.08, 1.0)]) * (1.0, height)
    return extrude(np.concatenate([side, side[::-1] * (-1, 1)]), length, material, STATIC)


def guard_rail(rng: np.random.Generator, length: float) -> Mesh:
    """A steel beam on posts along y; it faces +x."""
    low, height = rng.uniform(0.4, 0.5), 0.31
    depth = (0.0, 0.08, 0.0, 0.08, 0.0)
    z = low + height * np.linspace(0, 1, 5)
    strips = np.array([((depth[k], z[k]), (depth[k + 1], z[k + 1])) for k in range(4)])
    rail = extrude(
        np.concatenate([strips[:, 0], strips[-1:, 1], [(-0.02, z[-1]), (-0.02, z[0])]]), length, "metal", STATIC
    )
    y = evenly(length - 0.3, 2.0)
    zero = np.zeros_like(y)
    posts = np.column_stack([zero - 0.14, zero - 0.02, y - 0.05, y + 0.05, zero, zero + low + height])
    return merge([rail, boxes(posts, "metal", STATIC)])


def railing(rng: np.random.Generator, length: float) -> Mesh:
    """Pipes along y, about 1 m high, with bars, more pipes, glass or nothing between."""
    height, radius = rng.uniform(0.85, 1.2), rng.uniform(0.02, 0.035)
    material = pick(rng, ("metal", "metal_painted", "metal_painted", "metal_bright"))
    y = evenly(length, rng.uniform(1.2, 2.2))
    lines = [((0, a, 0), (0, a, height)) for a in y]
    lines += [((0, -length / 2, z), (0, length / 2, z)) for z in np.linspace(height, 0.2, rng.integers(2, 5))]
    starts, ends = np.array(lines).swapaxes(0, 1)
    parts = [limbs(starts, ends, radius, radius, material, STATIC, sides=5)]
    if rng.random() < 0.4:
        a = evenly(length, max(0.12, length / 100))
        foot, head = np.column_stack([a * 0, a, a * 0 + 0.2]), np.column_stack([a * 0, a, a * 0 + height])
        parts.append(limbs(foot, head, 0.008, 0.008, material, STATIC, sides=3))
    elif rng.random() < 0.2:
        parts.append(panels([(-length / 2, length / 2, 0.15, height - 0.05)], 0.0, "window", STATIC))
    return merge(parts)


def debris(rng: np.random.Generator) -> Mesh:
    """Debris on the road (hazard): boxes, a tyre, planks, sacks, rubble."""
    return pick(rng, (_boxes_lost, _tyre_lost, _planks_lost, _sacks, _rubble))(rng)


def _tumbled(rng: np.random.Generator, mesh: Mesh, spread: float, tilt: float) -> Mesh:
    """The mesh with a random rotation and offset, set on the ground."""
    (x, y), (pitch, roll) = rng.normal(scale=spread, size=2), rng.normal(scale=tilt, size=2)
    moved = mesh.transformed(pose(x, y, 0.0, rng.uniform(0, np.pi), pitch, roll))
    return moved.placed(0, 0, -float(moved.vertices[:, 2].min()))


def _boxes_lost(rng: np.random.Generator) -> Mesh:
    parts = []
    for _ in range(rng.integers(1, 4)):
        crate = box(
            rng.uniform(0.25, 0.7, 3).tolist(), pick(rng, ("cardboard", "cardboard", "wood", "plastic")), HAZARD
        )
        parts.append(_tumbled(rng, crate, 0.3, 0.15))
    return merge(parts)


def _tyre_lost(rng: np.random.Generator) -> Mesh:
    """Tyres, lying or upright; a dark disc represents the hole."""
    radius, wide = rng.uniform(0.28, 0.5), rng.uniform(0.17, 0.3)
    ring = cylinder(radius, wide, "tyre", HAZARD, sides=14)
    hole = cylinder(radius * 0.55, wide + 0.01, "trim", HAZARD, sides=10)
    one = merge([ring, hole])
    flat = [one.placed(rng.normal(scale=0.05), rng.normal(scale=0.05), k * wide) for k in range(rng.integers(1, 4))]
    return merge(flat) if rng.random() < 0.7 else _tumbled(rng, one.transformed(pose(0, 0, 0, 0, np.pi / 2)), 0.1, 0.1)


def _planks_lost(rng: np.random.Generator) -> Mesh:
    parts = []
    for k in range(rng.integers(2, 6)):
        plank = box((rng.uniform(0.8, 2.4), rng.uniform(0.1, 0.22), 0.05), "wood", HAZARD)
        parts.append(_tumbled(rng, plank, 0.15, 0.02).placed(0, 0, 0.05 * k))
    return merge(parts)


def _sacks(rng: np.random.Generator) -> Mesh:
    parts = []
    for _ in range(rng.integers(1, 4)):
        size = rng.uniform((0.22, 0.2, 0.14), (0.45, 0.35, 0.3)).tolist()
        material = pick(rng, ("tarpaulin", "trim", "plastic", "cardboard"))
        parts.append(_tumbled(rng, ellipsoid(size, material, HAZARD, rings=5, sides=8), 0.25, 0.1))
    return merge(parts)


def _rubble(rng: np.random.Generator) -> Mesh:
    parts = []
    for _ in range(rng.integers(4, 10)):
        stone = box(rng.uniform(0.1, 0.35, 3).tolist(), pick(rng, ("concrete", "brick", "gravel")), HAZARD)
        parts.append(_tumbled(rng, stone, 0.3, 0.4))
    return merge(parts)
