"""A small robot that drives along a pavement for the time of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.worldgen.mesh import pose
from training.worldgen.motion.motions import Height
from training.worldgen.street.ribbon import Ribbon
from training.worldgen.tracing import Tracer

_ATTEMPTS = 40
_STAND_SHARE, _MAX_SPEED_MPS = 0.2, 1.8
_NEAR_M = 45.0
"""Distance from the ego vehicle; the scene ends about 50 m farther."""
_ASIDE_M = 0.4
"""Greatest distance from the middle of the pavement."""
_HALF_BASE_M, _HALF_TRACK_M = 0.3, 0.25
_ROOM_M = 0.7
"""Distance of the robot's centre from anything that stands or moves."""
_HEIGHTS_M = (0.25, 0.7, 1.2)
"""Heights at which the space around is tested."""
_RAYS = 24


def pavement_poses(
    rng: np.random.Generator,
    walks: Sequence[NDArray[np.float64]],
    height: Height,
    tracer: Tracer,
    near: NDArray[np.float64],
    times_s: NDArray[np.float64],
) -> NDArray[np.float64] | None:
    """(M, 4, 4) poses of a robot's base_link on a free place of a pavement; None if none is found.

    Args:
        rng: randomness.
        walks: (K, 2) pedestrian paths.
        height: of the ground.
        tracer: the scene.
        near: (2,) position of the ego vehicle; the robot is near it.
        times_s: (M,) times, within half a second.
    """
    routes = [Ribbon(line) for line in walks if len(line) > 1]
    lengths, moment = np.array([route.length for route in routes]), float(times_s.mean())
    for _ in range(_ATTEMPTS if routes else 0):
        route = routes[int(rng.choice(len(routes), p=lengths / lengths.sum()))]
        station, turn = rng.uniform(0.0, route.length), np.pi * rng.integers(2)
        speed = 0.0 if rng.random() < _STAND_SHARE else rng.uniform(0.3, _MAX_SPEED_MPS)
        place = route.at(station, rng.uniform(-_ASIDE_M, _ASIDE_M))
        yaw = float(route.yaw(station)) + turn + rng.normal(0.0, 0.1)
        if np.hypot(*(place - near)) < _NEAR_M and _is_free(tracer, place, float(height(*place)), moment):
            ahead = np.outer(times_s - moment, speed * np.array((np.cos(yaw), np.sin(yaw))))
            return np.stack([_on_ground(height, x, y, yaw) for x, y in place + ahead])
    return None


def _is_free(tracer: Tracer, place: NDArray[np.float64], ground: float, time: float) -> bool:
    """Whether nothing is near a place at a time, and nothing encloses it."""
    angles = np.arange(_RAYS) * (2 * np.pi / _RAYS)
    around = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(_RAYS)]).astype(np.float32)
    origins = np.array([(*place, ground + z) for z in _HEIGHTS_M])
    hits = tracer.trace(np.repeat(origins, _RAYS, axis=0), np.tile(around, (len(origins), 1)), time)
    return bool((hits.distance > _ROOM_M).all())


def _on_ground(height: Height, x: float, y: float, yaw: float) -> NDArray[np.float64]:
    """Pose of a vehicle whose four wheels are on the ground."""
    along = np.array((1, 1, -1, -1)) * _HALF_BASE_M
    left = np.array((1, -1, 1, -1)) * _HALF_TRACK_M
    c, s = np.cos(yaw), np.sin(yaw)
    z = np.asarray(height(x + c * along - s * left, y + s * along + c * left))
    pitch = -np.arctan2(z[:2].mean() - z[2:].mean(), 2 * _HALF_BASE_M)
    roll = np.arctan2(z[::2].mean() - z[1::2].mean(), 2 * _HALF_TRACK_M)
    return pose(x, y, float(z.mean()), yaw, float(pitch), float(roll))
