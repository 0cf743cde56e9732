"""Roofs: extruded side profiles, or stacked rectangles.

A roof is centred on the house with its eaves at z = 0; its ridge runs along y.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.worldgen.assets.parts import boxes, corners
from training.worldgen.mesh import Mesh, merge, pose, quads

LABEL = "building"


def gabled(depth: float, width: float, rise: float, overhang: float, material: str, wall: str) -> Mesh:
    """A gable roof with a central ridge."""
    return profiled([(depth / 2, 0.0), (0.0, rise), (-depth / 2, 0.0)], width, overhang, material, wall)


def barrel(depth: float, width: float, rise: float, material: str, wall: str) -> Mesh:
    """A barrel roof, as on halls."""
    turn = np.linspace(0.0, np.pi, 9)
    return profiled(np.column_stack([np.cos(turn) * depth / 2, np.sin(turn) * rise]), width, 0.0, material, wall)


def sawtooth(depth: float, width: float, rise: float, teeth: int, material: str, wall: str) -> Mesh:
    """A sawtooth roof: repeated slopes with vertical glass between them."""
    edge = np.linspace(depth / 2, -depth / 2, teeth + 1)
    low, high = np.column_stack([edge[:-1], np.zeros(teeth)]), np.column_stack([edge[:-1], np.full(teeth, rise)])
    slopes = np.stack([high, np.column_stack([edge[1:], np.zeros(teeth)])], axis=1).reshape(-1, 2)
    glass = np.stack([low, high], axis=1).reshape(-1, 2)
    ends = [_ends(pair, width, wall) for pair in slopes.reshape(-1, 2, 2)]
    sheets = [_sheet(pair, width, material) for pair in slopes.reshape(-1, 2, 2)]
    return merge([*ends, *sheets, *(_sheet(pair, width, "window") for pair in glass.reshape(-1, 2, 2))])


def profiled(profile: ArrayLike, width: float, overhang: float, material: str, wall: str) -> Mesh:
    """A roof extruded from a (K, 2) side profile (x decreasing, z), with its two end walls."""
    line = np.asarray(profile, np.float64)
    eaves = line.copy()
    for end, inner in ((0, 1), (-1, -2)):
        away = line[end] - line[inner]
        eaves[end] += away / np.linalg.norm(away) * overhang
    return merge([_sheet(eaves, width + 2 * overhang, material), _ends(line, width, wall)])


def hipped(depth: float, width: float, rise: float, overhang: float, material: str) -> Mesh:
    """A hip roof; its ridge runs along x if the house is deeper than wide."""
    x, y = depth / 2 + overhang, width / 2 + overhang
    drop = -overhang * rise / (min(depth, width) / 2)
    ridge = (max(0.0, x - y), max(0.0, y - x))
    return stacked([(x, y, drop), (*ridge, rise)], material)


def mansard(depth: float, width: float, rise: float, inset: float, material: str) -> Mesh:
    """A mansard roof: steep slopes all around with a flat top."""
    x, y = depth / 2, width / 2
    return stacked([(x + 0.15, y + 0.15, 0.0), (x - inset, y - inset, rise)], material)


def stacked(rings: Sequence[tuple[float, float, float]], material: str) -> Mesh:
    """A surface through stacked rectangles (half length, half width, z), closed at the top."""
    unit = np.array([(1, -1), (1, 1), (-1, 1), (-1, -1)])
    points = np.array([np.column_stack([unit * (x, y), np.full(4, z)]) for x, y, z in rings])
    following = (1, 2, 3, 0)
    sides = np.stack([points[:-1], points[:-1, following], points[1:, following], points[1:]], axis=2)
    return quads(np.concatenate([sides.reshape(-1, 4, 3), points[-1:]]), material, LABEL)


def flat(depth: float, width: float, material: str, below: float) -> Mesh:
    """A flat roof at a distance ``below`` the wall's upper edge, which forms a parapet."""
    x, y = depth / 2, width / 2
    return quads([[(x, -y, -below), (x, y, -below), (-x, y, -below), (-x, -y, -below)]], material, LABEL)


def turned(roof: Mesh) -> Mesh:
    """The roof with its ridge along x: the gable faces the street."""
    return roof.transformed(pose(0, 0, 0, np.pi / 2))


def stepped_gable(width: float, rise: float, steps: int, thickness: float, material: str) -> Mesh:
    """A stepped gable wall facing +x; its front is the plane x = 0."""
    half = width / 2 * (1 - np.arange(steps) / steps)
    top = rise * (np.arange(steps) + 1.3) / steps
    bounds = [
        (-thickness, 0.0, -y, y, z - rise / steps * 1.3 if k == 0 else top[k - 1], z)
        for k, (y, z) in enumerate(zip(half, top, strict=True))
    ]
    return boxes(bounds, material, LABEL)


def _sheet(line: NDArray[np.float64], width: float, material: str) -> Mesh:
    """Surface over a side profile, facing up."""
    (x0, z0), (x1, z1) = line[:-1].T, line[1:].T
    y = np.full_like(x0, width / 2)
    return quads(corners((x0, x0, x1, x1), (-y, y, y, -y), (z0, z0, z1, z1)), material, LABEL)


def _ends(line: NDArray[np.float64], width: float, material: str) -> Mesh:
    """End walls under a side profile, from z = 0 up."""
    (x0, z0), (x1, z1) = line[:-1].T, line[1:].T
    y, ground = np.full_like(x0, width / 2), np.zeros_like(x0)
    left = corners((x0, x1, x1, x0), (y, y, y, y), (ground, ground, z1, z0))
    right = corners((x1, x0, x0, x1), (-y, -y, -y, -y), (ground, ground, z0, z1))
    return quads(np.concatenate([left, right]), material, LABEL)
