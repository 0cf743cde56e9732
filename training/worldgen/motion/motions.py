"""Trajectories along a path with smooth speed on the ground, for the ego vehicle and all other actors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial.transform import Rotation

from training.worldgen.mesh import Mesh
from training.worldgen.street.ribbon import Ribbon, smoothed
from training.worldgen.tracing import Motion

Height = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Height of the ground at x and y (any shape), metres."""

DURATION_S = 11.0
"""Planning horizon; covers a drive of 100 sweeps."""
_MARGIN_S = 1.0
_STEP_S = 0.1
_SPACING_M = 0.5
_KNOT_S = 1.5
_MAX_LATERAL_MPS2 = 2.5
"""Maximum lateral acceleration in bends, metres per second squared."""
_HALF_BASE_M, _HALF_TRACK_M = 1.4, 0.8
"""Distances from the ego vehicle's centre to its wheels."""


def planned_times() -> NDArray[np.float64]:
    """Sample times of planned motions, from one second before a drive to one second after it."""
    return np.arange(-_MARGIN_S, DURATION_S + _MARGIN_S + _STEP_S / 2, _STEP_S)


def route(path: ArrayLike) -> Ribbon:
    """A (K, 2) path as a smoothed curve with points half a metre apart."""
    points = np.asarray(path, np.float64)
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    even = np.linspace(0.0, s[-1], max(3, round(s[-1] / _SPACING_M) + 1))
    return Ribbon(smoothed(np.column_stack([np.interp(even, s, points[:, k]) for k in (0, 1)]), 12))


def sample_speeds(kind: str, cruise: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count,) target speeds at knots 1.5 s apart.

    Args:
        kind: "stand", "start" (from standstill), "cruise", "slow" (slows down or stops).
        cruise: metres per second.
        count: number of knots.
        rng: randomness.
    """
    speeds = cruise * rng.uniform(0.86, 1.0, count)
    at = np.arange(count)
    turn = int(rng.integers(1, max(2, count // 2)))
    if kind == "stand":
        return np.zeros(count)
    if kind == "start":
        return np.where(at <= turn, 0.0, speeds)
    if kind == "slow":
        return np.where(at <= turn, speeds, cruise * float(rng.choice((0.0, 0.0, 0.3))))
    return speeds


def plan_motion(
    target_speeds: NDArray[np.float64], along: Ribbon, start: float, end: float
) -> tuple[PchipInterpolator, Callable[[ArrayLike], NDArray[np.float64]]]:
    """Speed over time and distance travelled since time 0, both smooth.

    Args:
        target_speeds: (K,) target speeds at knots from the first planned time on; reduced for bends and the path's end.
        along: the path.
        start: station at the first planned time, metres.
        end: station that must not be passed.
    """
    limits = _speed_limits(along)
    knots = -_MARGIN_S + _KNOT_S * np.arange(len(target_speeds))
    speeds = np.zeros(len(target_speeds))
    station, speed = start, float(target_speeds[0])
    for k, target in enumerate(target_speeds):
        left = max(end - station, 0.0) / (_KNOT_S * (len(target_speeds) - k))
        ahead = limits[int(station / _SPACING_M) : int((station + 3 * _KNOT_S * speed + 3) / _SPACING_M) + 1]
        speed = min(target, left, float(ahead.min(initial=np.inf)), speeds[k - 1] + 3.5 if k else np.inf)
        speeds[k] = max(speed, speeds[k - 1] - 5.0 if k else 0.0, 0.0)
        station += _KNOT_S * (speeds[k] + speeds[max(k - 1, 0)]) / 2
    speed_over_time = PchipInterpolator(knots, speeds)
    distance = speed_over_time.antiderivative()
    return speed_over_time, lambda times: np.asarray(distance(times) - distance(0.0))


def knot_count() -> int:
    """Number of knots that cover all planned times."""
    return int(np.ceil((DURATION_S + 2 * _MARGIN_S) / _KNOT_S)) + 1


def _speed_limits(along: Ribbon) -> NDArray[np.float64]:
    """Speed limit at each point of a path from its curvature."""
    tangent = np.gradient(along.points, axis=0)
    yaw = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    bend = np.abs(np.gradient(yaw)) / _SPACING_M
    return np.asarray(np.sqrt(_MAX_LATERAL_MPS2 / np.maximum(bend, 1e-3)))


@dataclass(frozen=True, eq=False)
class Follower:
    """An actor that follows a path.

    Attributes:
        meshes: its shapes, the phases of a stride.
        track: over time: x, y, z, yaw, pitch, distance travelled.
        stride: distance for one cycle through all shapes, metres.
    """

    meshes: tuple[Mesh, ...]
    track: CubicSpline
    stride: float = 1.0

    @classmethod
    def on_ground(
        cls,
        meshes: tuple[Mesh, ...],
        footprint: Footprint,
        height: Height,
        stride: float = 1.0,
    ) -> Follower:
        """Lift a planned motion onto the ground.

        Args:
            meshes: shapes.
            footprint: planned motion in the plane.
            height: of the ground.
            stride: distance for one cycle through all shapes, metres.
        """
        rear, front = height(footprint.ends[..., 0], footprint.ends[..., 1])
        pitch = -np.arctan2(front - rear, footprint.base) if footprint.tilts else np.zeros(len(rear))
        columns = [footprint.middle, (front + rear) / 2, footprint.yaw, pitch, footprint.distance]
        return cls(meshes, CubicSpline(footprint.times, np.column_stack(columns)), stride)

    def phase(self, time: float) -> int:
        """Index of its shape at a time, seconds since the start of the drive."""
        if len(self.meshes) == 1:
            return 0
        return int(np.floor(self._state(time)[0][5] / self.stride * len(self.meshes))) % len(self.meshes)

    def motion(self, time: float) -> Motion:
        """Pose and velocity at a time, seconds since the start of the drive."""
        now, change = self._state(time)
        return Motion(now[:3], change[:3], float(now[3]), float(change[3]), float(now[4]))

    def _state(self, time: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values of the track and their derivatives; calling the spline would take four times as long."""
        knots = self.track.x
        piece = min(max(int(np.searchsorted(knots, time, "right")) - 1, 0), len(knots) - 2)
        a, b, c, d = self.track.c[:, piece]
        t = time - knots[piece]
        return ((a * t + b) * t + c) * t + d, (3 * a * t + 2 * b) * t + c


@dataclass(frozen=True, eq=False)
class Footprint:
    """A planned motion in the plane.

    Attributes:
        times: (T,) seconds.
        ends: (2, T, 2) rear and front axle (or heel and toe), both on the path.
        distance: (T,) metres travelled.
        tilts: whether it pitches with the slope; people stay upright.
        turn: yaw relative to the path's direction, radians.
    """

    times: NDArray[np.float64]
    ends: NDArray[np.float64]
    distance: NDArray[np.float64]
    tilts: bool = True
    turn: float = 0.0

    @classmethod
    def along(
        cls,
        path: Ribbon,
        stations: NDArray[np.float64],
        times: NDArray[np.float64],
        half_base: float,
        left: float = 0.0,
        tilts: bool = True,
        turn: float = 0.0,
    ) -> Footprint:
        """Motion at (T,) stations of a path, ``left`` metres to its left, with axles ``half_base`` from the centre."""
        ends = np.stack([path.at(stations - half_base, left), path.at(stations + half_base, left)])
        return cls(times, ends, stations, tilts, turn)

    @property
    def middle(self) -> NDArray[np.float64]:
        """(T, 2) metres."""
        return np.asarray(self.ends.mean(axis=0))

    @property
    def base(self) -> NDArray[np.float64]:
        """(T,) distance between the ends, metres."""
        return np.linalg.norm(self.ends[1] - self.ends[0], axis=1)

    @property
    def yaw(self) -> NDArray[np.float64]:
        """(T,) unwrapped yaw, radians."""
        ahead = self.ends[1] - self.ends[0]
        return np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0])) + self.turn

    def discs(self, length: float, radius: float) -> NDArray[np.float64]:
        """(T, D, 2) centres of discs of a radius that cover the object over its length."""
        reach = max(length / 2 - 0.7 * radius, 0.0)
        along = (
            np.linspace(-reach, reach, max(1, int(np.ceil(2 * reach / (1.1 * radius))) + 1)) if reach else np.zeros(1)
        )
        heading = self.yaw - self.turn if not self.tilts else self.yaw
        direction = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
        return np.asarray(self.middle[:, None] + along[None, :, None] * direction[:, None])


class EgoMotion:
    """The ego vehicle's trajectory along its lane.

    Args:
        along: its path.
        start: station at time 0, metres.
        speed: over time, smooth.
        distance: travelled since time 0, over time.
        height: of the ground.
        body_motion: (3, 3) amplitude, frequency (Hz) and phase of the body's heave (metres), pitch and roll (radians).

    Attributes:
        footprint: planned motion in the plane.
        distance: travelled since time 0, over time.
    """

    LENGTH_M, WIDTH_M = 4.8, 1.9

    def __init__(
        self,
        along: Ribbon,
        start: float,
        speed: PchipInterpolator,
        distance: Callable[[ArrayLike], NDArray[np.float64]],
        height: Height,
        body_motion: NDArray[np.float64],
    ) -> None:
        self.distance = distance
        times = planned_times()
        self.footprint = Footprint.along(along, start + distance(times), times, _HALF_BASE_M)
        moving = np.minimum(speed(times) / 4.0, 1.0)
        amplitude, frequency, phase = body_motion[..., None]
        heave, rock, roll = moving * amplitude * np.sin(2 * np.pi * frequency * times + phase)
        z, slope, bank = _wheel_support(self.footprint, height)
        dive = -0.003 * speed(times, 1)  # the nose rises under acceleration
        middle, yaw = self.footprint.middle, self.footprint.yaw
        columns = [middle, z + heave, yaw, slope + rock + dive, bank + roll]
        self._track = CubicSpline(times, np.column_stack(columns))

    @classmethod
    def sample(
        cls,
        rng: np.random.Generator,
        path: ArrayLike,
        height: Height,
        speeds: tuple[float, float] = (5.0, 14.0),
    ) -> EgoMotion:
        """Draw a trajectory within a (K, 2) path: standing, starting, cruising or braking; speeds in m/s."""
        along = route(path)
        kind = str(rng.choice(("stand", "start", "cruise", "slow"), p=(0.06, 0.18, 0.52, 0.24)))
        target_speeds = sample_speeds(kind, float(rng.uniform(*speeds)), knot_count(), rng)
        first, last = _HALF_BASE_M + 3.0, along.length - _HALF_BASE_M - 3.0
        start = float(rng.uniform(first, first + 0.2 * max(last - first, 0.0)))
        speed, distance = plan_motion(target_speeds, along, start, last)
        body_motion = np.array(
            (rng.uniform((1e-3, 4e-4, 4e-4), (4e-3, 2e-3, 2e-3)), rng.uniform(0.6, 1.8, 3), rng.uniform(0, 6.3, 3))
        )
        return cls(along, start - float(distance(-_MARGIN_S)), speed, distance, height, body_motion)

    def world_from_base(self, times: ArrayLike) -> NDArray[np.float64]:
        """(M, 4, 4) poses of base_link, on the road under the vehicle's centre, at (M,) times."""
        track = self._track(np.atleast_1d(np.asarray(times, np.float64)))
        poses = np.tile(np.eye(4), (len(track), 1, 1))
        poses[:, :3, :3] = Rotation.from_euler("ZYX", track[:, 3:6]).as_matrix()
        poses[:, :3, 3] = track[:, :3]
        return poses


def _wheel_support(
    footprint: Footprint, height: Height
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(T,) height, pitch and roll of a vehicle from the ground under its wheels."""
    yaw = footprint.yaw
    aside = _HALF_TRACK_M * np.stack([-np.sin(yaw), np.cos(yaw)], axis=-1)
    wheels = np.stack([footprint.ends + aside, footprint.ends - aside])  # left and right, rear and front
    z = height(wheels[..., 0], wheels[..., 1])
    rear, front = z.mean(axis=0)
    left, right = z.mean(axis=1)
    return z.mean(axis=(0, 1)), -np.arctan2(front - rear, footprint.base), np.arctan2(left - right, 2 * _HALF_TRACK_M)
