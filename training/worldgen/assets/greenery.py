"""Plants: trees, bushes, hedges, planters. Label vegetation unless stated otherwise.

Crowns are sparse clouds of leaf cards, so that beams and light partly pass through them. Objects with a length
extend along y, centred on y = 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.worldgen.assets.foliage import (
    LABEL,
    bark_material,
    crown_points,
    hedge_material,
    leaf_material,
    leaf_sprays,
    stem_and_boughs,
)
from training.worldgen.assets.parts import boxes, limbs, pick
from training.worldgen.mesh import Mesh, box, cylinder, ellipsoid, merge, quads

_MAX_SPRAYS = 740
_Points = NDArray[np.float64]


def tree(rng: np.random.Generator) -> Mesh:
    """A tree of any shape, 3 to 14 m high, its trunk included."""
    shapes = (_broad, _broad, _broad, _clipped, _clipped, _young, _young, _columnar, _fir, _palm, _umbrella, _bare)
    return pick(rng, shapes)(rng)


def street_tree(rng: np.random.Generator) -> Mesh:
    """A tree as planted in pavements: small or clipped, its crown above people's heads."""
    return pick(rng, (_clipped, _clipped, _young, _young, _broad, _columnar))(rng)


def bush(rng: np.random.Generator) -> Mesh:
    """One to three round clumps down to the ground, 0.5 to 2 m high."""
    count = int(rng.integers(1, 4))
    height = rng.uniform(0.5, 2.0)
    radii = height / 2 * rng.uniform((0.8, 0.8, 0.8), (1.5, 1.5, 1.0), (count, 3))
    radii[0, 2] = height / 2
    middles = np.column_stack([rng.normal(scale=0.35 * height, size=(count, 2)), radii[:, 2] * 0.95])
    leaf = leaf_material(rng)
    points, away = crown_points(rng, middles, radii, int(rng.integers(220, 440)), 0.55)
    points[:, 2] = np.maximum(points[:, 2], 0.08)
    sprays = leaf_sprays(rng, points, away, height * rng.uniform(0.1, 0.15) + 0.06, leaf)
    cores = [ellipsoid(r * 0.72, leaf, LABEL, m, rings=4, sides=7) for m, r in zip(middles, radii, strict=True)]
    return merge([sprays, *cores])


def hedge(rng: np.random.Generator, length: float) -> Mesh:
    """A clipped hedge along y, 0.5 to 2.4 m high, with flat sides."""
    height, wide, leaf = rng.uniform(0.5, 2.6), rng.uniform(0.4, 1.3), hedge_material(rng)
    core = boxes((-wide / 2, wide / 2, -length / 2, length / 2, 0.0, height), leaf, LABEL)
    points, away = _on_box(rng, wide, length, height, int(np.clip(length * (2 * height + wide) * 25, 100, _MAX_SPRAYS)))
    size = np.sqrt(length * (2 * height + wide) / len(points)) * rng.uniform(0.9, 1.2, len(points))
    return merge([core, leaf_sprays(rng, points + away * 0.02, away, np.clip(size, 0.08, 0.3), leaf, spread=0.35)])


def ivy_wall(rng: np.random.Generator, length: float) -> Mesh:
    """An overgrown wall along y: flat, with label vegetation."""
    height, leaf = rng.uniform(1.5, 3.2), "ivy"
    core = boxes((-0.15, 0.15, -length / 2, length / 2, 0.0, height), leaf, LABEL)
    points, away = _on_box(rng, 0.34, length, height, _MAX_SPRAYS)
    size = np.clip(np.sqrt(2 * length * height / len(points)), 0.1, 0.35)
    return merge([core, leaf_sprays(rng, points, away, size, leaf, spread=0.4)])


def planter(rng: np.random.Generator) -> Mesh:
    """A box or tub (other_static) with plants in it (vegetation)."""
    long, wide, high = rng.uniform(0.5, 2.2), rng.uniform(0.4, 0.9), rng.uniform(0.35, 0.8)
    material = pick(rng, ("concrete", "wood", "metal_painted", "brick", "stone", "plastic"))
    if rng.random() < 0.35:
        long = wide
        tub = cylinder(wide * 0.42, high, material, "other_static", top_radius=wide * 0.52)
    else:
        tub = box((wide, long, high), material, "other_static")
    tall, leaf = rng.uniform(0.25, 1.1), leaf_material(rng)
    middle, radii = np.array([(0, 0, high + tall * 0.35)]), np.array([(wide * 0.5, long * 0.5, tall * 0.6)])
    points, away = crown_points(rng, middle, radii, int(rng.integers(140, 260)), 0.5)
    points[:, 2] = np.maximum(points[:, 2], high + 0.03)
    greens = [leaf_sprays(rng, points, away, 0.05 + 0.11 * tall, leaf)]
    if rng.random() < 0.4:
        greens.append(leaf_sprays(rng, points[::4] + away[::4] * 0.05, away[::4], 0.12, "flowers"))
    return merge([tub, *greens])


def flower_bed(rng: np.random.Generator, length: float) -> Mesh:
    """Soil in a low kerb along y (terrain and other_static) with flowers and greens (vegetation)."""
    wide = rng.uniform(0.6, 1.6)
    x, y = wide / 2, length / 2
    rim = [
        (-x, x, -y, -y + 0.1, 0, 0.14),
        (-x, x, y - 0.1, y, 0, 0.14),
        (-x, -x + 0.1, -y, y, 0, 0.14),
        (x - 0.1, x, -y, y, 0, 0.14),
    ]
    soil = quads([[(-x, -y, 0.09), (x, -y, 0.09), (x, y, 0.09), (-x, y, 0.09)]], "soil", "terrain")
    count = int(np.clip(length * wide * 70, 60, 420))
    places = np.column_stack([rng.uniform(-0.44, 0.44, count) * wide, rng.uniform(-0.47, 0.47, count) * length])
    points = np.column_stack([places, rng.uniform(0.12, rng.uniform(0.25, 0.6), count)])
    up = np.broadcast_to((0.0, 0.0, 1.0), points.shape)
    greens = leaf_sprays(rng, points, up, 0.16, leaf_material(rng))
    flowers = leaf_sprays(rng, points[::2] + np.array((0, 0, 0.1)), up[::2], 0.13, "flowers")
    return merge([boxes(rim, pick(rng, ("concrete", "stone", "wood")), "other_static"), soil, greens, flowers])


def _broad(rng: np.random.Generator) -> Mesh:
    """Boughs that end in clumps of leaves: most trees."""
    height, clear = rng.uniform(4.5, 11.5), rng.uniform(2.0, 3.2)
    spread = (height - clear) * rng.uniform(0.3, 0.45)
    count = int(rng.integers(5, 10))
    turn = np.arange(count) * 2.4 + rng.uniform(0, 2 * np.pi)
    out, rise = spread * np.sqrt(rng.uniform(0.05, 0.8, count)), rng.uniform(0.3, 0.85, count)
    middles = np.column_stack([np.cos(turn) * out, np.sin(turn) * out, clear + (height - clear) * rise])
    radii = spread * rng.uniform((0.45, 0.45, 0.35), (0.7, 0.7, 0.55), (count, 3))
    radii[:, 2] = np.minimum(radii[:, 2], np.minimum(middles[:, 2] - clear, height - middles[:, 2]) + 0.3)
    leaf, dense = leaf_material(rng), rng.random() < 0.5
    cores = [ellipsoid(r * 0.5, leaf, LABEL, m, rings=3, sides=6) for m, r in zip(middles, radii, strict=True) if dense]
    count = _MAX_SPRAYS - 36 * len(cores)
    points, away = crown_points(rng, middles, radii, count, rng.uniform(0.35, 0.6))
    crown = leaf_sprays(rng, points, away, spread * rng.uniform(0.12, 0.16) + 0.06, leaf)
    return merge([stem_and_boughs(rng, clear, height * 0.016 + 0.06, middles), crown, *cores])


def _clipped(rng: np.random.Generator) -> Mesh:
    """A dense ball or box-like crown on a clear stem, as in pavements."""
    clear, tall = rng.uniform(1.3, 2.6), rng.uniform(1.6, 4.2)
    radii = np.array([[rng.uniform(0.45, 0.7) * tall, rng.uniform(0.45, 0.7) * tall, tall / 2]])
    middle, leaf = np.array([(0.0, 0.0, clear + tall / 2)]), leaf_material(rng)
    points, away = crown_points(rng, middle, radii, _MAX_SPRAYS - 60, 0.3)
    core = ellipsoid(radii[0] * 0.75, leaf, LABEL, middle[0], rings=5, sides=8)
    trunk = stem_and_boughs(rng, clear, rng.uniform(0.07, 0.17), middle)
    return merge([trunk, core, leaf_sprays(rng, points, away, radii[0].mean() * 0.15 + 0.05, leaf)])


def _young(rng: np.random.Generator) -> Mesh:
    """A thin stem with a small loose crown, often with stakes beside it."""
    clear, tall = rng.uniform(1.6, 2.3), rng.uniform(1.2, 2.6)
    radii = np.array([[tall * 0.38, tall * 0.38, tall / 2]])
    middle = np.array([(0.0, 0.0, clear + tall / 2)])
    points, away = crown_points(rng, middle, radii, int(rng.integers(220, 400)), 0.7)
    parts = [
        stem_and_boughs(rng, clear, rng.uniform(0.03, 0.06), middle),
        leaf_sprays(rng, points, away, rng.uniform(0.13, 0.22), leaf_material(rng)),
    ]
    if rng.random() < 0.5:
        feet = np.array([(0.0, 0.35, 0.0), (0.0, -0.35, 0.0)])
        parts.append(limbs(feet, feet + np.array((0, 0, 1.6)), 0.035, 0.035, "wood", "other_static"))
    return merge(parts)


def _columnar(rng: np.random.Generator) -> Mesh:
    """Cypresses and poplars: a slim crown almost from the ground."""
    clear, height, wide = rng.uniform(0.2, 2.0), rng.uniform(4.0, 11.0), rng.uniform(0.5, 1.2)
    radii = np.array([[wide, wide, (height - clear) / 2]])
    middle, leaf = np.array([(0.0, 0.0, (height + clear) / 2)]), leaf_material(rng)
    points, away = crown_points(rng, middle, radii, _MAX_SPRAYS - 60, 0.35)
    core = ellipsoid(radii[0] * 0.7, leaf, LABEL, middle[0], rings=6, sides=7)
    return merge(
        [
            stem_and_boughs(rng, clear + 0.5, 0.14, middle),
            core,
            leaf_sprays(rng, points, away, 0.14 + 0.16 * wide, leaf),
        ]
    )


def _fir(rng: np.random.Generator) -> Mesh:
    """A cone of whorls that hang outwards."""
    clear, height = rng.uniform(0.3, 2.2), rng.uniform(5.0, 13.0)
    share = 1 - np.sqrt(rng.uniform(0.0, 1.0, _MAX_SPRAYS))
    reach = (height - clear) * rng.uniform(0.16, 0.26) * (1 - share) * (0.8 + 0.2 * np.cos(share * 40))
    turn, out = rng.uniform(0, 2 * np.pi, _MAX_SPRAYS), reach * np.sqrt(rng.uniform(0.25, 1.0, _MAX_SPRAYS))
    points = np.column_stack([np.cos(turn) * out, np.sin(turn) * out, clear + (height - clear) * share - 0.2 * out])
    away = np.column_stack([np.cos(turn), np.sin(turn), np.full_like(turn, 0.8)])
    crown = leaf_sprays(rng, points, away, 0.15 + 0.035 * height, "needles")
    radius = 0.06 + 0.013 * height
    return merge([crown, limbs([(0, 0, 0)], [(0, 0, height * 0.95)], radius, 0.03, bark_material(rng), LABEL, sides=7)])


def _palm(rng: np.random.Generator) -> Mesh:
    """A bare stem under a head of long fronds."""
    height, count, reach = rng.uniform(4.0, 12.0), int(rng.integers(16, 28)), rng.uniform(1.5, 2.6)
    lean = rng.normal(scale=0.04 * height, size=2)
    bend = np.array([(*(lean * s * s), height * s) for s in np.linspace(0, 1, 5)])
    stem = limbs(
        bend[:-1], bend[1:], np.linspace(0.24, 0.17, 4), np.linspace(0.22, 0.15, 4), bark_material(rng), LABEL, sides=7
    )
    turn, lift = rng.uniform(0, 2 * np.pi, count), rng.uniform(-0.5, 1.1, count)
    along = np.column_stack([np.cos(turn) * np.cos(lift), np.sin(turn) * np.cos(lift), np.sin(lift)])
    side = np.column_stack([-np.sin(turn), np.cos(turn), np.zeros(count)])
    steps = [bend[-1] + along * reach * s - (0, 0, 0.75 * reach * s**2) for s in (0.05, 0.35, 0.7, 1.0)]
    half = [side * w for w in (0.05, 0.28, 0.24, 0.03)]
    strips = [
        np.stack(
            [steps[k] - half[k], steps[k] + half[k], steps[k + 1] + half[k + 1], steps[k + 1] - half[k + 1]], axis=1
        )
        for k in range(3)
    ]
    return merge([stem, quads(np.concatenate(strips), "leaves", LABEL)])


def _umbrella(rng: np.random.Generator) -> Mesh:
    """A wide flat crown high on bare boughs: pines, acacias."""
    height, spread = rng.uniform(6.0, 11.0), rng.uniform(2.2, 4.5)
    count = int(rng.integers(5, 9))
    turn, out = np.arange(count) * 2.4, spread * np.sqrt(rng.uniform(0.1, 0.8, count))
    middles = np.column_stack([np.cos(turn) * out, np.sin(turn) * out, height - rng.uniform(0.4, 1.3, count)])
    radii = np.column_stack([np.full((count, 2), spread * 0.42), rng.uniform(0.35, 0.6, count)])
    points, away = crown_points(rng, middles, radii, _MAX_SPRAYS, 0.5)
    trunk = stem_and_boughs(rng, height * rng.uniform(0.45, 0.65), 0.2, middles)
    return merge([trunk, leaf_sprays(rng, points, away, 0.1 + 0.07 * spread, leaf_material(rng))])


def _bare(rng: np.random.Generator) -> Mesh:
    """Boughs, branches and twigs without leaves."""
    clear, height = rng.uniform(1.8, 3.0), rng.uniform(5.0, 10.0)
    starts, ends, size = [np.zeros((1, 3))], [np.array([(0, 0, clear)])], [np.array([height * 0.018 + 0.05])]
    for children in (5, 4, 4):
        parent, span = np.repeat(ends[-1], children, axis=0), (height - clear) * 0.62 ** (len(ends))
        grown = np.repeat(ends[-1] - starts[-1], children, axis=0)
        grown /= np.linalg.norm(grown, axis=1, keepdims=True)
        grown = grown + rng.normal(scale=0.55, size=parent.shape) + (0, 0, 0.25)
        grown *= span * rng.uniform(0.7, 1.2, (len(parent), 1)) / np.linalg.norm(grown, axis=1, keepdims=True)
        starts.append(parent)
        ends.append(parent + grown)
        size.append(np.full(len(parent), size[-1][0] * 0.5))
    tips = np.concatenate(ends)
    tips[:, 2] = np.maximum(tips[:, 2], 1.2)
    first = np.concatenate(size)
    return limbs(np.concatenate(starts), tips, first, first * 0.55, bark_material(rng), LABEL, sides=3)


def _on_box(rng: np.random.Generator, wide: float, length: float, height: float, count: int) -> tuple[_Points, _Points]:
    """Points on the sides, top and ends of a box, and outward directions."""
    areas = np.array([length * height, length * height, length * wide, wide * height, wide * height])
    face = rng.choice(5, count, p=areas / areas.sum())
    x, y = rng.uniform(-0.5, 0.5, (2, count)) * np.array([[wide], [length]])
    z = rng.uniform(0.02, 1.0, count) * height
    normals = np.array([(1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 1, 0), (0, -1, 0)], np.float64)[face]
    x = np.where(face < 2, normals[:, 0] * wide / 2, x)
    y = np.where(face > 2, normals[:, 1] * length / 2, y)
    return np.column_stack([x, y, np.where(face == 2, height, z)]), normals
