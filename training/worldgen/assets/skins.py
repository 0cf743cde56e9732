"""Lofted surfaces over rings of points: bodies of cars and people, limbs, tyres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.worldgen.mesh import Mesh, merge, quads, surface


def loft(sections: ArrayLike, materials: ArrayLike, label: str, *, closed: bool = False) -> Mesh:
    """A surface through S sections of P points each.

    Seen from outside, points run to the left where sections run up. For a vehicle: sections from rear to front,
    points from the left over the roof to the right.

    Args:
        sections: (S, P, 3).
        materials: names, one for all, one for each of the strips between points, or (S - 1, strips);
            an empty name leaves a hole.
        label: drive13 class.
        closed: the last point of a section is joined to its first.
    """
    points = np.asarray(sections, np.float64)
    if closed:
        points = np.concatenate([points, points[:, :1]], axis=1)
    cells = np.stack([points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]], axis=2)
    names = np.broadcast_to(np.asarray(materials), cells.shape[:2])
    return merge([quads(cells[names == name], name, label) for name in np.unique(names).tolist() if name])


def fan(ring: ArrayLike, material: str, label: str) -> Mesh:
    """A convex polygon of (P, 3) corners, counter-clockwise seen from outside."""
    corners = np.asarray(ring)
    return surface(corners, [(0, k, k + 1) for k in range(1, len(corners) - 1)], material, label)


def limb(
    path: ArrayLike, radii: Sequence[float], materials: ArrayLike, label: str, *, sides: int = 5, flat: float = 1.0
) -> Mesh:
    """An arm or a leg along a (K, 3) path with a radius at each point, closed at its end.

    Args:
        path: (K, 3) joints.
        radii: K radii, metres.
        materials: a name, or K - 1.
        label: drive13 class.
        sides: corners of its cross-section.
        flat: width of the cross-section sideways (y) over its width along x or z.
    """
    joints = np.asarray(path, np.float64)
    names = materials if isinstance(materials, str) else np.asarray(materials)[:, None]
    rings = _rings(joints, np.asarray(radii, np.float64), sides, flat)
    last = names if isinstance(names, str) else str(names[-1, 0])
    return merge([loft(rings, names, label, closed=True), fan(rings[-1], last, label)])


def _rings(joints: NDArray[np.float64], radii: NDArray[np.float64], sides: int, flat: float) -> NDArray[np.float64]:
    """(K, sides, 3) cross-sections perpendicular to a path, without twist: one axis is always close to y."""
    along = np.gradient(joints, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.array((0.0, 1.0, 0.0)) - along * along[:, 1:2]
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
    across = np.cross(side, along)
    angle = (np.arange(sides) + 0.5) * (2 * np.pi / sides)
    circle = np.cos(angle)[None, :, None] * across[:, None] + flat * np.sin(angle)[None, :, None] * side[:, None]
    return np.asarray(joints[:, None] + radii[:, None, None] * circle)


def oval(center: Sequence[float], depth: float, width: float, sides: int) -> NDArray[np.float64]:
    """(sides, 3) horizontal ellipse with semi-axes ``depth`` (x) and ``width`` (y), counter-clockwise from above."""
    angle = (np.arange(sides) + 0.5) * (2 * np.pi / sides)
    flat = np.column_stack([depth * np.cos(angle), width * np.sin(angle), np.zeros(sides)])
    return flat + np.asarray(center)


def hoop(radius: float, thickness: float, material: str, label: str) -> Mesh:
    """A bicycle tyre: a vertical ring around y, resting on the ground, with triangular cross-section."""
    turn = np.arange(13) * (2 * np.pi / 12)
    out = np.column_stack([-np.sin(turn), np.zeros_like(turn), -np.cos(turn)])
    across = np.array((0.0, thickness / 2, 0.0))
    inner = out * (radius - thickness)
    rings = np.stack([out * radius, inner + across, inner - across], axis=1)
    return loft(rings + np.array((0.0, 0.0, radius)), material, label, closed=True)


def without_slivers(mesh: Mesh) -> Mesh:
    """The mesh without zero-area triangles, which lofting leaves where points coincide."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.triangles], 1, 0)
    full = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-7
    return replace(
        mesh,
        triangles=mesh.triangles[full],
        material=mesh.material[full],
        label=mesh.label[full],
        instance=mesh.instance[full],
    )
