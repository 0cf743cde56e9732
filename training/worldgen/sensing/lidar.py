"""LiDAR simulation: range, intensity, label and instance of each pulse of a sweep.

The central ray of each pulse is traced from the sensor pose at its firing time. Some pulses pass through glass to
the surface behind. Where neighbouring pulses do not lie on one surface, four more rays of the beam's cone are
traced (for at most a tenth of the pulses); the strongest return wins, or two near surfaces blend. Units that report
two returns of a pulse also have the strongest one of the surfaces that lie farther from the first than a pulse is long.
Detection, range noise and reported intensity follow from the strength of the return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.worldgen.sensing.lidar_model import LidarModel
from training.worldgen.sensing.returns import (
    RANGE_STEP_M,
    apparent_reflectance,
    correlate_by_pane,
    detect_returns,
    mark_edges,
    other_return,
    strongest_return,
)
from training.worldgen.sensing.surfaces import Appearance, reflectance
from training.worldgen.tracing import NOTHING, Hits, Tracer
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.transforms import inverse

NO_INSTANCE = -1

PosesAt = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""(M,) seconds to (M, 4, 4) poses of the LiDAR in the world."""

_SEE_THROUGH_SHARE = 0.65
"""Share of the pulses not returned by glass that reach the surface behind it; the others are lost."""
_GLASS_LOSS = 0.6
_GLASS_STEP_M = 0.01
_FOLIAGE_LAYERS = 3
"""Largest number of pieces of foliage that a pulse passes through."""
_FOLIAGE_STEP_M = 0.02
_FOLIAGE_LOSS = 0.75
_FOLIAGE_GAPS, _SPARSE = np.float32(0.65), np.float32(0.4)
"""Largest share of a footprint that misses the leaves of one return, in foliage of at least this permeability."""
_DEEPEST = np.float32(4.0)
"""Largest distance behind the surface of a return from foliage, as a multiple of the mean."""
_SPLIT_SHARE = 1 / 10
"""Maximum share of pulses traced with more than one ray; in trees all pulses would qualify."""
_SPLIT_REACH = 0.25
"""Horizontal and vertical offset of the four extra rays, as a share of the cone's full angle."""
_RAY_SHARES = np.array([1 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6], np.float32)
_BLEND_PROBABILITY = 0.5


@dataclass(frozen=True, eq=False)
class Scan:
    """An organised sweep: C columns of S slots, in firing order.

    The slots are the B pulses of a column; of a unit that reports two returns, the first ones of all, then the second.

    Attributes:
        range_steps: (C, S) uint16 in steps of :data:`RANGE_STEP_M`; 0 without a return.
        intensity: (C, S) uint8 in the sensor's scale.
        label: (C, S) uint8 drive13 ids; 255 without a return.
        instance: (C, S) int32 id of the object that was hit; -1 without a return.
    """

    range_steps: NDArray[np.uint16]
    intensity: NDArray[np.uint8]
    label: NDArray[np.uint8]
    instance: NDArray[np.int32]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(C, B) pulses with a return; the N points below are these, in firing order."""
        return np.asarray(self.range_steps > 0)

    def ring(self, lidar: LidarModel) -> NDArray[np.uint16] | None:
        """(N,) index of the beam of each point, 0 is the top one; None if the LiDAR has no beams."""
        if not lidar.has_rings:
            return None
        return np.asarray((np.nonzero(self.range_steps)[1] % lidar.beams).astype(np.uint16))

    def time_s(self, lidar: LidarModel) -> NDArray[np.float32]:
        """(N,) firing time of each point relative to the end of the sweep (at most 0), seconds."""
        return np.asarray(lidar.column_times_s()[np.nonzero(self.range_steps)[0]].astype(np.float32))

    def points(self, lidar: LidarModel) -> NDArray[np.float32]:
        """(N, 3) points without motion compensation: in the sensor frame at the time of each firing, metres."""
        mask = self.mask
        ranges = self.range_steps[mask].astype(np.float32) * np.float32(RANGE_STEP_M)
        directions = np.concatenate([lidar.directions()] * lidar.returns, axis=1)
        return np.asarray(directions[mask] * ranges[:, None])

    def compensated(self, lidar: LidarModel, world_from_lidar: PosesAt, end: float) -> NDArray[np.float32]:
        """(N, 3) motion-compensated points: in the sensor frame at ``end``, metres.

        Args:
            lidar: the sensor of the scan.
            world_from_lidar: poses of the sensor at given times.
            end: time of the sweep's last firing, seconds.
        """
        poses = inverse(world_from_lidar(np.array([end]))[0]) @ world_from_lidar(end + lidar.column_times_s())
        own = poses[np.nonzero(self.range_steps)[0]]
        moved = np.einsum("nij,nj->ni", own[:, :3, :3], self.points(lidar)) + own[:, :3, 3]
        return np.asarray(moved.astype(np.float32))


@dataclass(frozen=True, eq=False)
class _Rays:
    """N rays in the world frame, in firing order: origins (N, 3), directions (N, 3), times (N,)."""

    origins: NDArray[np.float32]
    directions: NDArray[np.float32]
    times: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> _Rays:
        return _Rays(self.origins[index], self.directions[index], self.times[index])

    def moved(self, by: NDArray[np.float32]) -> _Rays:
        """The rays with their origins advanced by (N,) metres."""
        return _Rays(self.origins + by[:, None] * self.directions, self.directions, self.times)


@dataclass(frozen=True, eq=False)
class _Returns:
    """Optical returns along N rays.

    Attributes:
        distance: (N,) metres, infinite without a return.
        strength: (N,) apparent reflectance: that of a face-on diffuser with the same return.
        triangle: (N,) triangle that was hit.
    """

    distance: NDArray[np.float32]
    strength: NDArray[np.float32]
    triangle: NDArray[np.int32]

    def take(self, other: _Returns, index: NDArray[np.int64]) -> None:
        """Overwrite the returns at ``index`` with others."""
        for name in ("distance", "strength", "triangle"):
            getattr(self, name)[index] = getattr(other, name)


def scan(
    lidar: LidarModel,
    tracer: Tracer,
    appearance: Appearance,
    world_from_lidar: PosesAt,
    end: float,
    rng: np.random.Generator,
) -> Scan:
    """Simulate one sweep.

    Args:
        lidar: the sensor.
        tracer: the scene.
        appearance: colours and reflectances of its materials.
        world_from_lidar: poses of the sensor at given times.
        end: time of the last firing, seconds since the start of the drive; the sweep starts one period earlier.
        rng: source of randomness.
    """
    pulses = _pulses(lidar, world_from_lidar, end)
    hits = _trace(tracer, pulses)
    split = _edge_pulses(lidar, pulses, hits)
    cones = _cone_rays(pulses[split], _SPLIT_REACH * lidar.divergence_mrad * 1e-3)
    rays = _Rays(*_concatenated(pulses, cones))
    returns = _returns(tracer, appearance, rays, Hits(*_concatenated(hits, _trace(tracer, cones))), rng)
    return _detect(lidar, tracer, _merge_cones(lidar, returns, split, rng), rng)


def _pulses(lidar: LidarModel, world_from_lidar: PosesAt, end: float) -> _Rays:
    """Central rays of all pulses."""
    times = end + lidar.column_times_s()
    poses = world_from_lidar(times)
    rotations = np.swapaxes(poses[:, :3, :3], 1, 2).astype(np.float32)
    directions = np.matmul(lidar.directions(), rotations).reshape(-1, 3)
    origins = np.repeat(poses[:, :3, 3].astype(np.float32), lidar.beams, axis=0)
    return _Rays(origins, directions, np.repeat(times, lidar.beams))


def _returns(tracer: Tracer, appearance: Appearance, rays: _Rays, hits: Hits, rng: np.random.Generator) -> _Returns:
    """Returns along rays with the given first hits (changed in place), also from behind glass and within foliage."""
    share = _pass_foliage(tracer, appearance, rays, hits, rng)
    returns, transparent = _first_returns(tracer, appearance, rays, hits)
    returns.strength[:] *= share
    _scatter_in_foliage(tracer, appearance, returns, rng)
    glass = np.flatnonzero(transparent > 0)
    # Both triangles of a pane have the same first corner.
    chance = correlate_by_pane(rng.random(len(glass)), tracer.table.triangles[hits.triangle[glass], 0])
    odds = transparent[glass]
    passed, sees = glass[chance < odds], (chance < _SEE_THROUGH_SHARE * odds)[chance < odds]
    if passed.size == 0:
        return returns
    step = returns.distance[passed] + np.float32(_GLASS_STEP_M)
    onwards = rays[passed].moved(step)
    behind, again_transparent = _first_returns(tracer, appearance, onwards, _trace(tracer, onwards))
    seen = sees & (again_transparent == 0)
    behind.distance[:] = np.where(seen, behind.distance + step, np.float32(np.inf))
    behind.strength[:] *= np.float32(_GLASS_LOSS)
    returns.take(behind, passed)
    return returns


def _pass_foliage(
    tracer: Tracer, appearance: Appearance, rays: _Rays, hits: Hits, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Move hits on foliage to what is behind it for the pulses that pass, in place; returns (N,) shares of the signal.

    Leaves are smaller than a beam: neighbouring pulses return from different depths of a crown, and some pass it.
    """
    share = np.ones(len(rays), np.float32)
    leafy = np.flatnonzero(_on_foliage(tracer, appearance, hits.triangle))
    open_share = np.minimum(appearance.permeable[tracer.table.material[hits.triangle[leafy]]] / _SPARSE, 1.0)
    share[leafy] = 1.0 - _FOLIAGE_GAPS * open_share * rng.random(len(leafy), np.float32)
    for _ in range(_FOLIAGE_LAYERS):
        odds = appearance.permeable[tracer.table.material[hits.triangle[leafy]]]
        passed = leafy[rng.random(len(leafy), np.float32) < odds]
        if passed.size == 0:
            break
        step = hits.distance[passed] + np.float32(_FOLIAGE_STEP_M)
        behind = _trace(tracer, rays[passed].moved(step))
        behind.distance[:] += step
        for field in fields(Hits):
            getattr(hits, field.name)[passed] = getattr(behind, field.name)
        share[passed] *= np.float32(_FOLIAGE_LOSS)
        leafy = passed[_on_foliage(tracer, appearance, behind.triangle)]
    return share


def _scatter_in_foliage(tracer: Tracer, appearance: Appearance, returns: _Returns, rng: np.random.Generator) -> None:
    """Move returns from foliage to random depths behind its surface, in place."""
    leafy = np.flatnonzero(_on_foliage(tracer, appearance, returns.triangle))
    depth = appearance.depth[tracer.table.material[returns.triangle[leafy]]]
    returns.distance[leafy] += depth * np.minimum(rng.standard_exponential(len(leafy), np.float32), _DEEPEST)


def _on_foliage(tracer: Tracer, appearance: Appearance, triangle: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(N,) whether triangles are foliage."""
    return np.asarray((triangle != NOTHING) & (appearance.depth[tracer.table.material[triangle]] > 0))


def _first_returns(
    tracer: Tracer, appearance: Appearance, rays: _Rays, hits: Hits
) -> tuple[_Returns, NDArray[np.float32]]:
    """Returns of first hits, and the (N,) probabilities that a pulse passes through them."""
    missed = hits.triangle == NOTHING
    material = tracer.table.material[hits.triangle]
    gloss, retro = appearance.gloss[material], appearance.retro[material]
    diffuse = reflectance(appearance, tracer, hits)
    strength = apparent_reflectance(diffuse, hits.normal, rays.directions, gloss, retro, missed)
    transparent = np.where(missed, np.float32(0), appearance.transparent[material])
    return _Returns(hits.distance, strength, hits.triangle), transparent


def _trace(tracer: Tracer, rays: _Rays) -> Hits:
    return tracer.trace(rays.origins, rays.directions, rays.times if len(rays) else 0.0)


def _concatenated(first: _Rays | Hits, second: _Rays | Hits) -> Iterator[NDArray[Any]]:
    """Fields of two instances of one dataclass, concatenated."""
    for field in fields(first):
        yield np.concatenate([getattr(first, field.name), getattr(second, field.name)])


def _edge_pulses(lidar: LidarModel, pulses: _Rays, hits: Hits) -> NDArray[np.int64]:
    """Indices of the pulses whose cone may meet several surfaces, evenly subsampled to ``_SPLIT_SHARE`` of all."""
    shifts = np.zeros(0, np.int64)  # without beams, only successive pulses are neighbours
    if lidar.has_rings:
        offsets = np.asarray(lidar.azimuth_offsets_deg or np.zeros(lidar.beams))
        # The next beam points to this beam's azimuth this many columns later.
        shifts = np.rint(np.diff(offsets) * (lidar.columns / lidar.azimuth_span_deg)).astype(np.int64)
    marks = mark_edges(hits.distance, hits.normal, pulses.directions, (lidar.columns, lidar.beams), shifts)
    edges = np.flatnonzero(marks)
    limit = int(len(marks) * _SPLIT_SHARE)
    if len(edges) <= limit:
        return edges
    return edges[np.linspace(0, len(edges) - 1, limit).astype(np.int64)]


def _merge_cones(
    lidar: LidarModel, returns: _Returns, split: NDArray[np.int64], rng: np.random.Generator
) -> list[_Returns]:
    """First and, if the LiDAR reports two, second returns of N pulses, K of which have four extra rays each.

    Args:
        lidar: the sensor.
        returns: (N + 4 K) of the central rays, followed by the extra rays.
        split: (K,) indices of the pulses with extra rays.
        rng: source of randomness.
    """
    pulses = lidar.columns * lidar.beams
    rays = np.column_stack([split, pulses + np.arange(4 * len(split)).reshape(-1, 4)])
    cones = returns.distance[rays], returns.strength[rays], _RAY_SHARES
    distance, *others = strongest_return(*cones, rng.random(len(split)) < _BLEND_PROBABILITY)
    found = [_of_rays(returns, rays, distance, *others)]
    merged = [_Returns(returns.distance[:pulses], returns.strength[:pulses], returns.triangle[:pulses])]
    if lidar.returns == 2:
        found.append(_of_rays(returns, rays, *other_return(*cones, distance)))
        nothing = np.full(pulses, np.inf, np.float32), np.zeros(pulses, np.float32)
        merged.append(_Returns(*nothing, np.full(pulses, NOTHING, np.int32)))
    for result, own in zip(merged, found, strict=True):  # last, for the first ones are a view of ``returns``
        result.take(own, split)
    return merged


def _of_rays(
    returns: _Returns,
    rays: NDArray[np.int64],
    distance: NDArray[np.float32],
    strength: NDArray[np.float32],
    top: NDArray[np.int64],
) -> _Returns:
    """Returns of K pulses, each with the triangle of one of its (K, 5) rays, number ``top`` (K,)."""
    return _Returns(distance, strength, returns.triangle[np.take_along_axis(rays, top[:, None], axis=1)[:, 0]])


def _cone_rays(pulses: _Rays, angle: float) -> _Rays:
    """Four rays around each of K pulses, offset by ``angle`` (radians) sideways and vertically, in pulse order."""
    forward = pulses.directions
    side = np.column_stack([-forward[:, 1], forward[:, 0], np.zeros(len(forward), np.float32)])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(forward, side)
    corners = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)], np.float32) * np.float32(angle)
    rays = forward[:, None] + corners[:, :1] * side[:, None] + corners[:, 1:] * up[:, None]
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    return _Rays(np.repeat(pulses.origins, 4, axis=0), rays.reshape(-1, 3), np.repeat(pulses.times, 4))


def _detect(lidar: LidarModel, tracer: Tracer, returns: list[_Returns], rng: np.random.Generator) -> Scan:
    """Apply detection, range noise and intensity response to the first (and second) returns."""
    distance, strength, triangle = (
        np.concatenate([getattr(each, name).reshape(lidar.columns, lidar.beams) for each in returns], axis=1)
        for name in ("distance", "strength", "triangle")
    )
    chance = rng.random(distance.size, np.float32)
    noise = rng.standard_normal((2, distance.size), np.float32)
    gains = np.asarray(lidar.beam_gains or np.ones(lidar.beams), np.float32)
    steps, intensity = detect_returns(
        distance.ravel(),
        strength.ravel(),
        chance,
        noise,
        np.float32(lidar.gain) * gains,
        (lidar.min_range_m, lidar.max_range_m, lidar.reach_m, lidar.range_noise_m),
        (lidar.gamma, lidar.range_exponent, lidar.offset),
    )
    steps, intensity = steps.reshape(distance.shape), intensity.reshape(distance.shape)
    label = np.where(steps > 0, tracer.table.label[triangle], np.uint8(IGNORE))
    instance = np.where(steps > 0, tracer.table.instance[triangle], np.int32(NO_INSTANCE))
    return Scan(steps, intensity, label, instance)
