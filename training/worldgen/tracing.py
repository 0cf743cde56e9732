"""Ray casting with Embree: one BVH for all static geometry, and one for each moving actor in its own frame.

An actor is rigid for the few milliseconds of a pulse or an exposure. Rays are therefore transformed into its
frame at their own times instead of rebuilding a BVH. A sweep shows the same motion distortion as a real one,
and the texture stays fixed to the object.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numba
import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from training.worldgen.mesh import Mesh, merge

NOTHING = -1
_SHADOW_BIAS_M = 2e-3
"""Offset of shadow rays above a surface; without it, rounding makes surfaces shadow themselves."""
_CHUNK = 128
"""Rays that are culled together before they are tested one by one."""


@dataclass(frozen=True, eq=False)
class Motion:
    """Pose and velocity of an actor at an instant.

    Attributes:
        position: (3,) world, metres.
        velocity: (3,) metres per second.
        yaw: radians, about z.
        yaw_rate: radians per second.
        pitch: radians, about the actor's y axis after yaw; positive is nose down.
    """

    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    yaw: float
    yaw_rate: float = 0.0
    pitch: float = 0.0


class Actor(Protocol):
    """A moving object."""

    @property
    def meshes(self) -> Sequence[Mesh]:
        """Its shapes in its own frame: one, or the phases of a gait cycle."""

    def phase(self, time: float) -> int:
        """Index of its shape at a time, seconds since the start of the drive."""

    def motion(self, time: float) -> Motion:
        """Pose and velocity at a time, seconds since the start of the drive."""


@dataclass(frozen=True, eq=False)
class Hits:
    """First hits of N rays.

    Attributes:
        distance: (N,) float32 metres; infinite without a hit.
        triangle: (N,) int32 indices into :attr:`Tracer.table`; -1 without a hit.
        u: (N,) float32, first barycentric coordinate (weight of the triangle's second corner).
        v: (N,) float32, second barycentric coordinate (weight of the third corner).
        normal: (N, 3) float32 unit normals in the world frame, on the side of the ray's origin.
    """

    distance: NDArray[np.float32]
    triangle: NDArray[np.int32]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    normal: NDArray[np.float32]


class Tracer:
    """Traces rays against a static mesh and moving actors.

    Thread-safe; Embree and the numba kernels release the GIL.

    Attributes:
        table: all triangles, those of the static mesh first, then those of each actor's shapes; indexed by
            :attr:`Hits.triangle`.
        corners: (T, 3, 3) float32 texture coordinates of the corners of the triangles in ``table``.
    """

    def __init__(self, static: Mesh, actors: Sequence[Actor] = ()) -> None:
        self.actors = tuple(actors)
        self._static = _Tree(static)
        shapes = [mesh for actor in self.actors for mesh in actor.meshes]
        self.table = merge([static, *shapes])
        self.corners = self.table.texture[self.table.triangles]
        trees, first = [], len(static)
        for mesh in shapes:
            trees.append(_Tree(mesh, first))
            first += len(mesh)
        counts = np.cumsum([0, *(len(actor.meshes) for actor in self.actors)])
        self._shapes = [trees[a:b] for a, b in itertools.pairwise(counts)]

    def trace(
        self,
        origins: NDArray[np.floating],
        directions: NDArray[np.float32],
        times: float | NDArray[np.float64],
    ) -> Hits:
        """First hits of rays.

        Args:
            origins: (3,) or (N, 3) metres, world frame.
            directions: (N, 3) unit vectors, world frame.
            times: one instant for all rays, or (N,); seconds since the start of the drive, within 0.2 s of each other.
        """
        starts = np.ascontiguousarray(np.broadcast_to(np.asarray(origins, np.float32), directions.shape))
        rays = np.ascontiguousarray(directions, np.float32)
        hits = self._static.first_hits(starts, rays)
        moment = float(np.mean(times))
        offsets = np.broadcast_to(np.asarray(times - moment, np.float32), len(rays))
        bundle = _Rays(starts, rays, offsets)
        bounds = _Bounds(*_bounds(bundle))
        for motion, tree in self._moving(moment):
            near = _near(bundle, hits.distance, _sphere(motion, tree), bounds)
            if near.size:
                place, later = _placement(motion), offsets[near]
                actor_hits = tree.first_hits(*_to_actor_frame(*place, later, starts[near], rays[near]))
                _keep_nearer(_arrays(hits), _arrays(actor_hits), near, later, place[2])
        _face_origin(hits.normal, rays)
        return hits

    def shaded(
        self, points: NDArray[np.float32], normals: NDArray[np.float32], light: NDArray[np.float32], time: float
    ) -> NDArray[np.bool_]:
        """(N,) whether (N, 3) points are shadowed from a distant light in the (3,) unit direction ``light``."""
        starts = np.ascontiguousarray(points + normals * np.float32(_SHADOW_BIAS_M), np.float32)
        rays = np.ascontiguousarray(np.broadcast_to(light.astype(np.float32), starts.shape))
        dark = self._static.any_hit(starts, rays)
        offsets = np.zeros(len(rays), np.float32)
        limits = np.where(dark, np.float32(0), np.float32(np.inf))
        bundle = _Rays(starts, rays, offsets)
        bounds = _Bounds(*_bounds(bundle))
        for motion, tree in self._moving(time):
            near = _near(bundle, limits, _sphere(motion, tree), bounds)
            if near.size:
                local = _to_actor_frame(*_placement(motion), offsets[near], starts[near], rays[near])
                dark[near] |= tree.any_hit(*local)
        return dark

    def label(self, hits: Hits, nothing: int = 255) -> NDArray[np.uint8]:
        """(N,) class ids of hits; ``nothing`` without a hit."""
        return np.where(hits.triangle == NOTHING, np.uint8(nothing), self.table.label[hits.triangle])

    def _moving(self, time: float) -> Iterator[tuple[Motion, _Tree]]:
        """Motion and current shape of each actor."""
        for actor, shapes in zip(self.actors, self._shapes, strict=True):
            yield actor.motion(time), shapes[actor.phase(time)]


class _Tree:
    """An Embree scene of one mesh.

    Attributes:
        middle: height of its centre above its origin, metres.
        reach: largest distance of a vertex from that centre, metres.
    """

    def __init__(self, mesh: Mesh, first: int = 0) -> None:
        self._scene: Any = EmbreeScene(robust=True)
        self._mesh = TriangleMesh(self._scene, mesh.vertices, mesh.triangles)
        self._first = first
        heights = mesh.vertices[:, 2]
        self.middle = float(heights.min() + heights.max()) / 2
        self.reach = float(np.linalg.norm(mesh.vertices - (0.0, 0.0, self.middle), axis=1).max())

    def first_hits(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> Hits:
        found = self._scene.run(origins, directions, query="INTERSECT", output=True)
        missed = found["primID"] < 0
        triangle = np.where(missed, NOTHING, found["primID"] + self._first).astype(np.int32)
        distance = np.where(missed, np.float32(np.inf), found["tfar"]).astype(np.float32)
        return Hits(distance, triangle, found["u"], found["v"], found["Ng"])

    def any_hit(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray(self._scene.run(origins, directions, query="OCCLUDED") == 0)


def _placement(motion: Motion) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A motion as arguments of the kernels: position, velocity, and (yaw, yaw rate, pitch)."""
    return (
        np.asarray(motion.position, np.float64),
        np.asarray(motion.velocity, np.float64),
        np.array([motion.yaw, motion.yaw_rate, motion.pitch], np.float64),
    )


def _arrays(hits: Hits) -> tuple[NDArray[Any], ...]:
    return hits.distance, hits.triangle, hits.u, hits.v, hits.normal


@numba.njit(cache=True, nogil=True)
def _to_actor_frame(position, velocity, heading, offsets, origins, directions):  # type: ignore[no-untyped-def]
    """Origins and directions of rays in the frame of a moving actor, each at its own time."""
    local_origins, local_directions = np.empty_like(origins), np.empty_like(directions)
    cp, sp = np.cos(heading[2]), np.sin(heading[2])
    for i in range(len(offsets)):
        t = offsets[i]
        yaw = heading[0] + heading[1] * t
        cy, sy = np.cos(yaw), np.sin(yaw)
        x = origins[i, 0] - position[0] - velocity[0] * t
        y = origins[i, 1] - position[1] - velocity[1] * t
        z = origins[i, 2] - position[2] - velocity[2] * t
        ahead = cy * x + sy * y
        local_origins[i, 0], local_origins[i, 1] = ahead * cp - z * sp, cy * y - sy * x
        local_origins[i, 2] = ahead * sp + z * cp
        x, y, z = directions[i, 0], directions[i, 1], directions[i, 2]
        ahead = cy * x + sy * y
        local_directions[i, 0], local_directions[i, 1] = ahead * cp - z * sp, cy * y - sy * x
        local_directions[i, 2] = ahead * sp + z * cp
    return local_origins, local_directions


@numba.njit(cache=True, nogil=True)
def _keep_nearer(hits, actor_hits, near, offsets, heading):  # type: ignore[no-untyped-def]
    """Overwrite hits that lie behind an actor's, with its normals rotated into the world frame."""
    distance, triangle, u, v, normal = hits
    actor_distance, actor_triangle, actor_u, actor_v, actor_normal = actor_hits
    cp, sp = np.cos(heading[2]), np.sin(heading[2])
    for i in range(len(near)):
        k = near[i]
        if actor_distance[i] < distance[k]:
            distance[k], triangle[k], u[k], v[k] = actor_distance[i], actor_triangle[i], actor_u[i], actor_v[i]
            yaw = heading[0] + heading[1] * offsets[i]
            cy, sy = np.cos(yaw), np.sin(yaw)
            x, y, z = actor_normal[i]
            ahead = cp * x + sp * z
            normal[k, 0], normal[k, 1], normal[k, 2] = cy * ahead - sy * y, sy * ahead + cy * y, cp * z - sp * x


class _Rays(NamedTuple):
    """N rays: origins (N, 3), unit directions (N, 3), and their times relative to an instant (N,), seconds."""

    origins: NDArray[np.float32]
    directions: NDArray[np.float32]
    offsets: NDArray[np.float32]


class _Sphere(NamedTuple):
    """Bounding sphere of an actor: centre (3,), velocity (3,) and radius."""

    center: NDArray[np.float64]
    velocity: NDArray[np.float64]
    radius: float


class _Bounds(NamedTuple):
    """Bounds of each chunk of ``_CHUNK`` consecutive rays, for culling whole chunks against an actor.

    Attributes:
        centers: (C, 3) means of the origins.
        radii: (C,) distance of the farthest origin from its centre.
        axes: (C, 3) mean directions.
        angles: (C,) half angle of the cone about the axis that holds all directions, radians.
        latest: (C,) largest absolute time offset.
    """

    centers: NDArray[np.float64]
    radii: NDArray[np.float64]
    axes: NDArray[np.float64]
    angles: NDArray[np.float64]
    latest: NDArray[np.float64]


def _sphere(motion: Motion, tree: _Tree) -> _Sphere:
    center = motion.position + np.array((0.0, 0.0, tree.middle))
    return _Sphere(center, np.asarray(motion.velocity, np.float64), tree.reach)


@numba.njit(cache=True, nogil=True)
def _bounds(rays):  # type: ignore[no-untyped-def]
    """The fields of :class:`_Bounds` of :class:`_Rays`."""
    origins, directions, offsets = rays
    chunks = (len(directions) + _CHUNK - 1) // _CHUNK
    centers, axes = np.zeros((chunks, 3), np.float64), np.zeros((chunks, 3), np.float64)
    radii, angles, latest = np.zeros(chunks), np.zeros(chunks), np.zeros(chunks)
    for c in range(chunks):
        first, last = c * _CHUNK, min((c + 1) * _CHUNK, len(directions))
        for i in range(first, last):
            for k in range(3):
                centers[c, k] += origins[i, k] / (last - first)
                axes[c, k] += directions[i, k]
        length = np.sqrt((axes[c] ** 2).sum())
        axes[c] /= max(length, 1e-9)
        widest, farthest = 1.0, 0.0
        for i in range(first, last):
            cosine, apart = 0.0, 0.0
            for k in range(3):
                cosine += axes[c, k] * directions[i, k]
                apart += (origins[i, k] - centers[c, k]) ** 2
            widest = min(widest, cosine)
            farthest = max(farthest, apart)
            latest[c] = max(latest[c], abs(offsets[i]))
        radii[c] = np.sqrt(farthest)
        angles[c] = np.arccos(max(-1.0, min(1.0, widest))) + 1e-3
    return centers, radii, axes, angles, latest


@numba.njit(cache=True, nogil=True)
def _near(rays, limits, sphere, bounds):  # type: ignore[no-untyped-def]
    """Indices of the rays that meet a moving :class:`_Sphere` nearer than their (N,) limits."""
    origins, directions, offsets = rays
    position, velocity, reach = sphere
    centers, radii, axes, angles, latest = bounds
    count = 0
    result = np.empty(len(directions), np.int64)
    speed = np.sqrt((velocity**2).sum())
    for c in range(len(radii)):
        to = position - centers[c]
        distance = np.sqrt((to**2).sum())
        margin = reach + radii[c] + speed * latest[c]
        if distance > margin:
            cosine = (to * axes[c]).sum() / distance
            if np.arccos(max(-1.0, min(1.0, cosine))) > angles[c] + np.arcsin(margin / distance):
                continue
        for i in range(c * _CHUNK, min((c + 1) * _CHUNK, len(directions))):
            t = offsets[i]
            x = position[0] + velocity[0] * t - origins[i, 0]
            y = position[1] + velocity[1] * t - origins[i, 1]
            z = position[2] + velocity[2] * t - origins[i, 2]
            along = x * directions[i, 0] + y * directions[i, 1] + z * directions[i, 2]
            if along < -reach or along - reach > limits[i]:
                continue
            if x * x + y * y + z * z - along * along <= reach * reach:
                result[count] = i
                count += 1
    return result[:count]


@numba.njit(cache=True, nogil=True)
def _face_origin(normals, directions):  # type: ignore[no-untyped-def]
    """Normalize normals and turn them towards the ray origins, in place."""
    for i in range(len(normals)):
        x, y, z = normals[i]
        length = np.sqrt(x * x + y * y + z * z)
        if length == 0.0:
            continue
        if x * directions[i, 0] + y * directions[i, 1] + z * directions[i, 2] > 0:
            length = -length
        normals[i, 0], normals[i, 1], normals[i, 2] = x / length, y / length, z / length
