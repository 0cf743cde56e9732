"""Batched primitives for buildings, plants and street furniture: hundreds of shapes in one array operation.

Building railings or windows one by one would take longer than tracing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.worldgen.mesh import Mesh, perpendicular, plate, quads

_Option = TypeVar("_Option")
_POSTER_M = 1.8
"""Plate height for which the pattern ``POSTER`` is designed."""
_CORNER = np.array([(k & 1, k >> 1 & 1, k >> 2 & 1) for k in range(8)])
_BOX_FACES = np.array([(0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6)])


def boxes(bounds: ArrayLike, material: str, label: str) -> Mesh:
    """(N, 6) axis-aligned boxes: x from and to, y from and to, z from and to, metres."""
    spans = np.asarray(bounds, np.float64).reshape(-1, 3, 2)
    corners = np.stack([spans[:, axis][:, _CORNER[:, axis]] for axis in range(3)], axis=-1)
    return quads(corners[:, _BOX_FACES].reshape(-1, 4, 3), material, label)


def panels(rectangles: ArrayLike, x: ArrayLike, material: str, label: str) -> Mesh:
    """(N, 4) vertical rectangles facing +x at ``x`` (a scalar or (N,)): y from and to, z from and to."""
    y0, y1, z0, z1 = np.asarray(rectangles, np.float64).reshape(-1, 4).T
    at = np.broadcast_to(np.asarray(x, np.float64), y0.shape)
    return quads(corners((at, at, at, at), (y0, y1, y1, y0), (z0, z0, z1, z1)), material, label)


def corners(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> NDArray[np.float64]:
    """(N, 4, 3) quadrilaterals from (4, N) coordinates of their corners."""
    return np.asarray(np.stack([np.asarray(x), np.asarray(y), np.asarray(z)], axis=-1).swapaxes(0, 1))


def limbs(
    starts: ArrayLike,
    ends: ArrayLike,
    radius: ArrayLike,
    end_radius: ArrayLike,
    material: str,
    label: str,
    sides: int = 4,
) -> Mesh:
    """N open rods from (N, 3) to (N, 3) points, tapering to ``end_radius``: branches, bars, poles, wires."""
    low, high = np.atleast_2d(np.asarray(starts, np.float64)), np.atleast_2d(np.asarray(ends, np.float64))
    side, up = perpendicular(high - low)
    angle = (np.arange(sides) + 0.5) * (-2 * np.pi / sides)
    circle = np.cos(angle)[:, None, None] * side + np.sin(angle)[:, None, None] * up
    first = low + circle * np.broadcast_to(radius, len(low))[:, None]
    last = high + circle * np.broadcast_to(end_radius, len(low))[:, None]
    following = np.roll(np.arange(sides), -1)
    walls = np.stack([first, first[following], last[following], last], axis=2)
    return quads(walls.reshape(-1, 4, 3), material, label)


def evenly(length: float, spacing: float) -> NDArray[np.float64]:
    """Coordinates centred on 0 over a length, about ``spacing`` apart, including both ends."""
    count = max(2, round(length / spacing) + 1)
    return np.linspace(-length / 2, length / 2, count)


def picture(width: float, height: float, material: str, label: str) -> Mesh:
    """A vertical plate facing +x, centred on the origin, with the pattern scaled to its size: posters."""
    flat = plate(width, height, material, label)
    return replace(flat, texture=flat.texture * np.float32(_POSTER_M / height))


def pick(rng: np.random.Generator, options: Sequence[_Option]) -> _Option:
    """Draw one of several options; repeat an option to give it more weight."""
    return options[int(rng.integers(len(options)))]
