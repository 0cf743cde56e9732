"""Benches and tables with people sitting at them (other_static and person)."""

from __future__ import annotations

import numpy as np

from training.worldgen.assets.furniture import bench, chair
from training.worldgen.assets.parts import pick
from training.worldgen.assets.people import sitting
from training.worldgen.mesh import Mesh, cylinder, merge


def used_bench(rng: np.random.Generator) -> Mesh:
    """A bench with one or two people on it."""
    places = (0.3, -0.3)[: int(rng.integers(1, 3))]
    return merge([bench(rng), *(sitting(rng, 0.46).placed(0.0, y) for y in places)])


def used_table(rng: np.random.Generator) -> Mesh:
    """A round table with two to four chairs, most of them taken."""
    material, radius = pick(rng, ("wood", "metal_painted", "plastic")), rng.uniform(0.3, 0.5)
    parts = [cylinder(0.04, 0.74, "metal", "other_static", sides=6)]
    parts.append(cylinder(radius, 0.03, material, "other_static", base=(0, 0, 0.74)))
    for turn in rng.uniform(0, 2 * np.pi) + np.arange(rng.integers(2, 5)) * (np.pi / 2):
        at = np.cos(turn) * (radius + 0.35), np.sin(turn) * (radius + 0.35), 0.0, turn + np.pi
        parts += [chair(material).placed(*at)] + [sitting(rng).placed(*at)] * int(rng.random() < 0.7)
    return merge(parts)
