"""Plants in masses: woods, thickets, big trees, wild hedges, weeds, ivy. Label vegetation.

Crowns are volumes of leaf bunches, each of which pulses partly pass (``Material.permeable``), so that few bunches
scatter returns over the depth of a crown. Objects with a length extend along y, centred on y = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.worldgen.assets.foliage import (
    LABEL,
    bark_material,
    crown_points,
    leaf_material,
    leaf_sprays,
    stem_and_boughs,
)
from training.worldgen.assets.parts import limbs, pick
from training.worldgen.mesh import Mesh, merge

_Points = NDArray[np.float64]


def big_tree(rng: np.random.Generator) -> Mesh:
    """A large tree, 9 to 19 m high: a clear trunk, and a crown wide enough to overhang a road."""
    height, clear = rng.uniform(9.0, 19.0), rng.uniform(2.4, 5.0)
    spread = (height - clear) * rng.uniform(0.32, 0.5)
    count = int(rng.integers(9, 15))
    turn, rise = np.arange(count) * 2.4 + rng.uniform(0, 2 * np.pi), rng.uniform(0.12, 0.88, count)
    out = spread * np.sqrt(rng.uniform(0.05, 0.75, count)) * np.sqrt(1.05 - rise**2)
    middles = np.column_stack([np.cos(turn) * out, np.sin(turn) * out, clear + (height - clear) * rise])
    radii = spread * rng.uniform((0.32, 0.32, 0.24), (0.55, 0.55, 0.42), (count, 3))
    radii[:, 2] = np.clip(middles[:, 2] - clear + 0.6, 0.3, radii[:, 2])
    points, away = crown_points(rng, middles, radii, int(rng.integers(700, 1300)), 0.9)
    crown = leaf_sprays(rng, points, away, spread * rng.uniform(0.09, 0.13) + 0.1, leaf_material(rng))
    return merge([stem_and_boughs(rng, clear, height * rng.uniform(0.008, 0.017) + 0.04, middles), crown])


def wood_tree(rng: np.random.Generator) -> Mesh:
    """A tree of a wood or a row, 5 to 18 m high, of few and large leaf bunches."""
    return pick(rng, (_leafy, _leafy, _leafy, _spruce, _spindly))(rng)


def _leafy(rng: np.random.Generator) -> Mesh:
    """Branches start low or high; the crown is loose and taller than wide."""
    height = rng.uniform(5.0, 16.0)
    clear = height * rng.uniform(0.08, 0.45)
    spread = (height - clear) * rng.uniform(0.2, 0.36)
    count = int(rng.integers(3, 7))
    rise = np.linspace(0.15, 0.85, count) + rng.normal(scale=0.05, size=count)
    side = rng.normal(scale=0.35 * spread, size=(count, 2))
    middles = np.column_stack([side, clear + (height - clear) * rise])
    radii = spread * rng.uniform((0.55, 0.55, 0.5), (0.95, 0.95, 0.9), (count, 3))
    radii[:, 2] = np.clip(middles[:, 2] - 0.5 * clear, 0.3, radii[:, 2])
    points, away = crown_points(rng, middles, radii, int(rng.integers(200, 380)), 0.95)
    points[:, 2] = np.maximum(points[:, 2], 0.3)
    crown = leaf_sprays(rng, points, away, spread * rng.uniform(0.16, 0.24) + 0.1, leaf_material(rng))
    return merge([stem_and_boughs(rng, clear + 0.3, 0.04 + 0.008 * height, middles), crown])


def _spruce(rng: np.random.Generator) -> Mesh:
    """A conifer: whorls down to the ground, or a bare stem below, as inside a wood."""
    height = rng.uniform(6.0, 18.0)
    clear, slim = height * rng.choice((0.03, 0.1, 0.4)), rng.uniform(0.14, 0.24)
    count = int(rng.integers(220, 360))
    share = 1 - np.sqrt(rng.uniform(0.0, 1.0, count))
    reach = (height - clear) * slim * (1 - share) + 0.15
    turn, out = rng.uniform(0, 2 * np.pi, count), reach * np.sqrt(rng.uniform(0.03, 1.0, count))
    points = np.column_stack([np.cos(turn) * out, np.sin(turn) * out, clear + (height - clear) * share - 0.25 * out])
    points[:, 2] = np.maximum(points[:, 2], 0.15)
    away = np.column_stack([np.cos(turn), np.sin(turn), np.full_like(turn, 0.7)])
    crown = leaf_sprays(rng, points, away, 0.2 + 0.035 * height, "needles")
    stem = limbs([(0, 0, 0)], [(0, 0, height * 0.95)], 0.05 + 0.008 * height, 0.03, bark_material(rng), LABEL, sides=6)
    return merge([crown, stem])


def _spindly(rng: np.random.Generator) -> Mesh:
    """Several thin stems with twigs and few leaves: coppice, birches, dead trees."""
    count, height = int(rng.integers(2, 6)), rng.uniform(4.0, 12.0)
    feet = np.column_stack([rng.normal(scale=0.3, size=(count, 2)), np.zeros(count)])
    heads = feet + np.column_stack(
        [rng.normal(scale=0.12 * height, size=(count, 2)), rng.uniform(0.6, 1, count) * height]
    )
    radius = 0.03 + 0.006 * height
    stems = limbs(feet, heads, radius, 0.012, bark_material(rng), LABEL, sides=5)
    middles = feet + (heads - feet) * rng.uniform(0.6, 0.85, (count, 1))
    radii = height * rng.uniform((0.1, 0.1, 0.18), (0.18, 0.18, 0.3), (count, 3))
    points, away = crown_points(rng, middles, radii, int(rng.integers(120, 240)), 0.95)
    points[:, 2] = np.maximum(points[:, 2], 0.3)
    return merge(
        [stems, leaf_sprays(rng, points, away, 0.12 + 0.03 * height, pick(rng, ("twigs", "twigs", leaf_material(rng))))]
    )


def shrub(rng: np.random.Generator) -> Mesh:
    """A loose shrub without a solid core, 0.4 to 4 m high."""
    height = float(np.exp(rng.uniform(np.log(0.4), np.log(4.0))))
    return _mass(rng, np.zeros(1), np.array([height]), rng.uniform(0.3, 0.6) * height, height, int(80 + 60 * height))


def thicket(rng: np.random.Generator, length: float) -> Mesh:
    """A wild hedge or the edge of a wood: shrubs of varying height grown into each other."""
    height, deep = rng.uniform(1.0, 4.5), rng.uniform(0.5, 1.6)
    y = np.arange(-length / 2, length / 2, 0.45 * height + 0.3) + rng.uniform(0, 0.3)
    heights = height * rng.uniform(0.45, 1.0, len(y))
    return _mass(rng, y, heights, deep, height, int(np.clip(length * (25 + 22 * height), 120, 620)))


def _mass(rng: np.random.Generator, y: _Points, heights: _Points, deep: float, height: float, count: int) -> Mesh:
    """Shrubs of (K,) heights at (K,) places along y, ``deep`` metres in radius."""
    middles = np.column_stack([rng.normal(scale=0.3 * deep, size=len(y)), y, 0.48 * heights])
    radii = np.column_stack([deep * rng.uniform(0.7, 1.2, (len(y), 2)), 0.52 * heights])
    points, away = crown_points(rng, middles, radii, count, 0.85)
    points[:, 2] = np.maximum(points[:, 2], 0.06)
    which = leaf_material(rng)
    feet = middles * (1, 1, 0)
    stems = limbs(feet, middles, 0.02 + 0.012 * height, 0.01, bark_material(rng), LABEL, sides=3)
    return merge([leaf_sprays(rng, points, away, 0.12 + 0.075 * height, which), stems])


def weeds(rng: np.random.Generator, length: float) -> Mesh:
    """Tall grass, nettles and reeds along a verge, fence or wall, 0.2 to 1.3 m high."""
    height, wide = float(np.exp(rng.uniform(np.log(0.2), np.log(1.3)))), rng.uniform(0.2, 1.2)
    count = int(np.clip(length * wide * 45, 40, 320))
    y = rng.uniform(-length / 2, length / 2, count)
    patchy = 0.4 + 0.6 * (0.5 + 0.5 * np.sin(y * rng.uniform(1.5, 4.0) + rng.uniform(0, 6)))
    tall = height * patchy * rng.uniform(0.4, 1.0, count)
    points = np.column_stack([rng.uniform(-wide / 2, wide / 2, count), y, 0.5 * tall])
    away = np.column_stack([rng.normal(size=(count, 2)), np.full(count, 0.2)])
    return leaf_sprays(rng, points, away, np.clip(0.9 * tall, 0.1, 0.7), pick(rng, ("weeds", "weeds", "dry_meadow")))


def ivy(rng: np.random.Generator, wide: float, tall: float) -> Mesh:
    """Climbers on a wall that faces +x, from the ground up to about ``tall``."""
    count = int(np.clip(wide * tall * 14, 60, 500))
    y = rng.normal(scale=0.3 * wide, size=count).clip(-wide / 2, wide / 2)
    top = tall * (0.5 + 0.5 * np.cos(np.pi * y / wide)) * rng.uniform(0.85, 1.0, count)
    points = np.column_stack([np.abs(rng.normal(scale=0.1, size=count)) + 0.03, y, top * rng.uniform(0.01, 1.0, count)])
    return leaf_sprays(rng, points, np.broadcast_to((1.0, 0.0, 0.0), points.shape), 0.38, "ivy", spread=0.5)


def variants(rng: np.random.Generator, maker: Callable[[np.random.Generator], Mesh], count: int) -> list[Mesh]:
    """Some individuals of a kind, to be reused with other orientations and sizes all over a scene."""
    return [maker(rng) for _ in range(count)]
