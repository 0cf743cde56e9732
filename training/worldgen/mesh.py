"""Triangle meshes with material, class and instance per triangle, and primitives to build objects from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from training.worldgen.materials import material_id
from xmodelkd_ros.resources import label_map

LABELS = label_map("drive13")


@dataclass(frozen=True, eq=False)
class Mesh:
    """T triangles over V vertices.

    Attributes:
        vertices: (V, 3) float32, metres.
        texture: (V, 3) float32 texture coordinates: the vertices in the object's own frame. Patterns are functions
            of these, so that they stay fixed to the object when it is placed or moves.
        triangles: (T, 3) int32 vertex indices, counter-clockwise seen from outside.
        material: (T,) int16 material ids.
        label: (T,) uint8 drive13 class ids.
        instance: (T,) int32 id of the object a triangle belongs to; selects colours from palettes.
    """

    vertices: NDArray[np.float32]
    texture: NDArray[np.float32]
    triangles: NDArray[np.int32]
    material: NDArray[np.int16]
    label: NDArray[np.uint8]
    instance: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.triangles)

    def transformed(self, pose: NDArray[np.float64]) -> Mesh:
        """The mesh moved by a (4, 4) transform; texture coordinates are unchanged."""
        moved = self.vertices @ pose[:3, :3].T.astype(np.float32) + pose[:3, 3].astype(np.float32)
        return replace(self, vertices=moved.astype(np.float32))

    def placed(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Mesh:
        """The mesh rotated by ``yaw`` (radians, about z) and moved to x, y, z; texture coordinates are unchanged."""
        return self.transformed(pose(x, y, z, yaw))

    def of_instance(self, instance: int) -> Mesh:
        """The mesh with all triangles assigned to one instance."""
        return replace(self, instance=np.full(len(self), instance, np.int32))

    def anchored(self) -> Mesh:
        """The mesh with texture coordinates reset to its vertices; call it on a finished object before placing it."""
        return replace(self, texture=self.vertices)


def pose(
    x: float, y: float, z: float = 0.0, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0
) -> NDArray[np.float64]:
    """(4, 4) world from object: rotation by roll, pitch, yaw (radians, about x, y, z in this order), then translation.

    Positive pitch is nose down (right-handed about y).
    """
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    matrix = np.eye(4)
    matrix[:3, :3] = (
        (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        (-sp, cp * sr, cp * cr),
    )
    matrix[:3, 3] = x, y, z
    return matrix


def surface(vertices: ArrayLike, triangles: ArrayLike, material: str, label: str) -> Mesh:
    """A mesh of one material and class from (V, 3) vertices and (T, 3) vertex indices."""
    corners = np.asarray(vertices, np.float32).reshape(-1, 3)
    faces = np.asarray(triangles, np.int32).reshape(-1, 3)
    count = len(faces)
    return Mesh(
        corners,
        corners,
        faces,
        np.full(count, material_id(material), np.int16),
        np.full(count, LABELS.id_of(label), np.uint8),
        np.zeros(count, np.int32),
    )


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Concatenate meshes in order."""
    firsts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.texture for m in meshes]),
        np.concatenate([m.triangles + first for m, first in zip(meshes, firsts, strict=False)]).astype(np.int32),
        np.concatenate([m.material for m in meshes]),
        np.concatenate([m.label for m in meshes]),
        np.concatenate([m.instance for m in meshes]),
    )


def quads(corners: ArrayLike, material: str, label: str) -> Mesh:
    """Mesh of (Q, 4, 3) quadrilaterals, corners counter-clockwise seen from outside."""
    points = np.asarray(corners, np.float32).reshape(-1, 4, 3)
    first = np.arange(len(points), dtype=np.int32)[:, None] * 4
    faces = np.concatenate([first + np.array((0, 1, 2)), first + np.array((0, 2, 3))])
    return surface(points, faces, material, label)


def box(size: Sequence[float], material: str, label: str, base: Sequence[float] = (0.0, 0.0, 0.0)) -> Mesh:
    """A box of length (x), width (y) and height (z); ``base`` is the centre of its underside."""
    half_length, half_width = size[0] / 2, size[1] / 2
    outline = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (half_length, half_width)
    return prism(outline, size[2], material, label, base)


def prism(
    outline: ArrayLike, height: float, material: str, label: str, base: Sequence[float] = (0.0, 0.0, 0.0)
) -> Mesh:
    """A (K, 2) outline (x, y, counter-clockwise) extruded upwards by ``height``, with top and bottom."""
    ring = np.asarray(outline, np.float64)
    low = np.column_stack([ring, np.zeros(len(ring))]) + base
    high = low + np.array((0, 0, height))
    following = np.roll(np.arange(len(ring)), -1)
    walls = np.stack([low, low[following], high[following], high], axis=1)
    cap, faces = _fill(ring)
    roof = surface(np.column_stack([cap, np.full(len(cap), height)]) + base, faces, material, label)
    floor = surface(np.column_stack([cap, np.zeros(len(cap))]) + base, faces[:, ::-1], material, label)
    return merge([quads(walls, material, label), roof, floor])


def extrude(profile: ArrayLike, width: float, material: str, label: str) -> Mesh:
    """A (K, 2) side profile (x, z; counter-clockwise with x right and z up) extruded along y, centred on y = 0."""
    mesh = prism(profile, width, material, label)
    x, y, z = mesh.vertices.T  # the outline's y is height, its height is width
    return replace(mesh, vertices=np.column_stack([x, width / 2 - z, y]).astype(np.float32)).anchored()


def cylinder(
    radius: float,
    height: float,
    material: str,
    label: str,
    *,
    top_radius: float | None = None,
    sides: int = 10,
    base: Sequence[float] = (0.0, 0.0, 0.0),
) -> Mesh:
    """A vertical cylinder, or a truncated cone with ``top_radius``; ``base`` is the centre of its underside."""
    top = radius if top_radius is None else top_radius
    angle = np.arange(sides) * (2 * np.pi / sides)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    low = np.column_stack([circle * radius, np.zeros(sides)]) + base
    high = np.column_stack([circle * top, np.full(sides, height)]) + base
    following = np.roll(np.arange(sides), -1)
    walls = np.stack([low, low[following], high[following], high], axis=1)
    fan = np.array([(0, k, k + 1) for k in range(1, sides - 1)])
    caps = [surface(high, fan, material, label), surface(low, fan[:, ::-1], material, label)]
    return merge([quads(walls, material, label), *caps])


def perpendicular(directions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two (N, 3) unit vectors perpendicular to each other and to (N, 3) directions."""
    along = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    helper = np.where(np.abs(along[:, 2:]) < 0.9, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    side = np.cross(along, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    return side, np.cross(side, along)


def tube(path: ArrayLike, radius: float, material: str, label: str) -> Mesh:
    """A square tube along a (K, 3) path: bent poles, bicycle frames."""
    points = np.asarray(path, np.float64)
    side, up = perpendicular(np.gradient(points, axis=0))
    sides = 4
    angle = np.arange(sides) * (2 * np.pi / sides)
    rings = points[:, None] + radius * (
        np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    )
    following = np.roll(np.arange(sides), -1)
    walls = np.stack([rings[:-1], rings[1:], rings[1:, following], rings[:-1, following]], axis=2)
    fan = np.array([(0, k, k + 1) for k in range(1, sides - 1)])
    caps = [surface(rings[0], fan, material, label), surface(rings[-1], fan[:, ::-1], material, label)]
    return merge([quads(walls.reshape(-1, 4, 3), material, label), *caps])


def ellipsoid(
    radii: Sequence[float],
    material: str,
    label: str,
    center: Sequence[float] = (0.0, 0.0, 0.0),
    rings: int = 6,
    sides: int = 10,
) -> Mesh:
    """An ellipsoid with the given semi-axes."""
    polar = np.linspace(0, np.pi, rings + 1)
    angle = np.arange(sides) * (2 * np.pi / sides)
    unit = np.stack(
        [
            np.sin(polar)[:, None] * np.cos(angle),
            np.sin(polar)[:, None] * np.sin(angle),
            np.repeat(np.cos(polar)[:, None], sides, axis=1),
        ],
        axis=-1,
    )
    points = unit * radii + np.asarray(center)
    following = np.roll(np.arange(sides), -1)
    walls = np.stack([points[1:], points[1:, following], points[:-1, following], points[:-1]], axis=2)
    return quads(walls.reshape(-1, 4, 3), material, label)


def plate(width: float, height: float, material: str, label: str, center: Sequence[float] = (0.0, 0.0, 0.0)) -> Mesh:
    """A vertical rectangle facing +x: signs, posters, windows. Texture coordinates are relative to its centre."""
    y, z = width / 2, height / 2
    corners = np.array([(0, -y, -z), (0, y, -z), (0, y, z), (0, -y, z)])
    flat = quads(corners, material, label)
    return replace(flat, vertices=(flat.vertices + np.asarray(center, np.float32)).astype(np.float32))


def polygon_mesh(polygon: shapely.Geometry, material: str, label: str) -> Mesh:
    """A polygon or multipolygon, with holes, triangulated at z = 0 and facing up."""
    triangles = shapely.constrained_delaunay_triangles(polygon).geoms
    rings = np.array([shapely.get_coordinates(t)[:3] for t in triangles if t.area > 0]).reshape(-1, 3, 2)
    a, b, c = rings[:, 0], rings[:, 1], rings[:, 2]
    clockwise = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    rings[clockwise] = rings[clockwise, ::-1]
    corners, numbers = np.unique(rings.reshape(-1, 2), axis=0, return_inverse=True)
    return surface(np.column_stack([corners, np.zeros(len(corners))]), numbers, material, label)


def _fill(ring: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Corners (K, 2) and triangles of a counter-clockwise outline without holes."""
    mesh = polygon_mesh(shapely.Polygon(ring), "concrete", "other_static")
    return mesh.vertices[:, :2].astype(np.float64), mesh.triangles
