"""Traffic: vehicles in lanes, two-wheelers at their edge, people on pavements and crossings.

Actors are drawn near the ego vehicle's path. A draw is rejected if the actor would collide with an earlier one,
or with an obstacle, at any time of the drive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.worldgen.assets import vehicles
from training.worldgen.assets.people import STRIDE, person, standing
from training.worldgen.mesh import Mesh
from training.worldgen.motion.motions import (
    DURATION_S,
    EgoMotion,
    Follower,
    Footprint,
    Height,
    knot_count,
    plan_motion,
    planned_times,
    route,
    sample_speeds,
)
from training.worldgen.street.ribbon import Ribbon

__all__ = ["DURATION_S", "EgoMotion", "Follower", "generate_traffic"]

_VEHICLES: tuple[tuple[Callable[[np.random.Generator], Mesh], float], ...] = (
    (vehicles.car, 0.6),
    (vehicles.van, 0.13),
    (vehicles.pickup, 0.1),
    (vehicles.truck, 0.08),
    (vehicles.bus, 0.04),
    (lambda rng: vehicles.motorcycle(rng, True), 0.05),
)
_MOTORWAY_VEHICLES: tuple[tuple[Callable[[np.random.Generator], Mesh], float], ...] = (
    (vehicles.car, 0.55),
    (vehicles.van, 0.13),
    (vehicles.pickup, 0.04),
    (vehicles.truck, 0.23),
    (vehicles.bus, 0.03),
    (lambda rng: vehicles.motorcycle(rng, True), 0.02),
)
_TWO_WHEELERS = (vehicles.bicycle, vehicles.scooter)
_ATTEMPTS = 12
"""Draws per requested actor; streets may be full."""
_LIGHT_TRAFFIC, _DENSE_TRAFFIC = (4, 13), (13, 29)
_MOTORWAY_TRAFFIC = (8, 22), (22, 55)
"""Ranges of the number of vehicles near the ego path."""
_NEAR_M = 40.0
_PERSON_RADIUS_M = 0.3
"""Radius of the disc that a person occupies."""


class Lane(Protocol):
    """A lane; vehicles follow its path in point order."""

    @property
    def path(self) -> NDArray[np.float64]:
        """(K, 2) metres."""

    @property
    def width(self) -> float:
        """Metres."""

    @property
    def speed(self) -> float:
        """Usual speed, metres per second."""


class Ways(Protocol):
    """The part of the streets that traffic depends on."""

    @property
    def lanes(self) -> Sequence[Lane]:
        """Vehicle lanes."""

    @property
    def walks(self) -> Sequence[NDArray[np.float64]]:
        """(K, 2) pedestrian paths along pavements and over roads."""

    def height(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Height of the ground at x and y, metres."""


def generate_traffic(
    rng: np.random.Generator,
    ways: Ways,
    ego: EgoMotion,
    numbers: Iterator[int],
    obstacles: ArrayLike = (),
    motorway: bool = False,
) -> list[Follower]:
    """Draw the traffic of a drive.

    Args:
        rng: randomness.
        ways: lanes, walks and the ground's height.
        ego: the ego vehicle's motion; no actor collides with it.
        numbers: iterator of unique instance ids.
        obstacles: (N, 3) x, y and radius of static obstacles, metres; radii are limited to 1 m, so that the large
            discs of parked vehicles do not block the lane beside them.
        motorway: more vehicles and trucks, no bicycles and scooters.
    """
    builder = _TrafficBuilder(rng, ways.height, ego, numbers, np.asarray(obstacles, np.float64).reshape(-1, 3))
    if motorway:
        _add_vehicles(builder, ways.lanes, _MOTORWAY_VEHICLES, _MOTORWAY_TRAFFIC)
    else:
        _add_vehicles(builder, ways.lanes, _VEHICLES, (_LIGHT_TRAFFIC, _DENSE_TRAFFIC))
        _add_two_wheelers(builder, ways.lanes)
    _add_pedestrians(builder, ways.walks)
    return builder.actors


class _TrafficBuilder:
    """Adds actors that do not collide with earlier ones.

    Args:
        rng: randomness.
        height: of the ground.
        ego: the ego vehicle.
        numbers: iterator of instance ids.
        obstacles: (N, 3) x, y and radius.

    Attributes:
        rng: randomness.
        ego: the ego vehicle.
        times: (T,) times at which collisions are tested.
        actors: the accepted actors.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        height: Height,
        ego: EgoMotion,
        numbers: Iterator[int],
        obstacles: NDArray[np.float64],
    ) -> None:
        self.rng, self.ego, self.times = rng, ego, planned_times()
        self.actors: list[Follower] = []
        self._height, self._numbers = height, numbers
        radius = _disc_radius(ego.WIDTH_M)
        discs = ego.footprint.discs(ego.LENGTH_M + 1.0, radius)
        self._discs, self._radii = discs, np.full(discs.shape[1], radius)
        self._fixed, self._fixed_radii = obstacles[:, :2], np.minimum(obstacles[:, 2], 1.0)

    def reserve(self, plan: Footprint, length: float, radius: float) -> bool:
        """Reserve the space of a motion over time; returns whether it was free."""
        discs = plan.discs(length, radius)
        if self._collides(discs, radius):
            return False
        self._discs = np.concatenate([self._discs, discs], axis=1)
        self._radii = np.concatenate([self._radii, np.full(discs.shape[1], radius)])
        return True

    def add_vehicle(self, mesh: Mesh, plan: Footprint) -> None:
        """Add a vehicle unless it would collide."""
        length, width, _ = np.ptp(mesh.vertices, axis=0)
        if self.reserve(plan, length, _disc_radius(width)):
            self.add_actor((mesh,), plan)

    def add_actor(self, meshes: tuple[Mesh, ...], plan: Footprint, stride: float = 1.0) -> None:
        """Add an actor with reserved space."""
        number = next(self._numbers)
        shapes = tuple(mesh.of_instance(number) for mesh in meshes)
        self.actors.append(Follower.on_ground(shapes, plan, self._height, stride))

    def _collides(self, discs: NDArray[np.float64], radius: float) -> bool:
        low, high = discs.min(axis=(0, 1)) - radius, discs.max(axis=(0, 1)) + radius
        still = _overlapping(self._fixed, self._fixed, self._fixed_radii, low, high)
        moving = _overlapping(self._discs.min(axis=0), self._discs.max(axis=0), self._radii, low, high)
        return _any_overlap(discs, radius, self._fixed[None, still], self._fixed_radii[still]) or _any_overlap(
            discs, radius, self._discs[:, moving], self._radii[moving]
        )


def _overlapping(
    lows: NDArray[np.float64],
    highs: NDArray[np.float64],
    radii: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """(M,) whether discs with centres within (M, 2) ``lows`` to ``highs`` can overlap a box."""
    return np.asarray(((lows - radii[:, None] < high) & (highs + radii[:, None] > low)).all(axis=1))


def _any_overlap(
    discs: NDArray[np.float64], radius: float, others: NDArray[np.float64], radii: NDArray[np.float64]
) -> bool:
    """Whether any of (T, K, 2) discs overlaps any of (T or 1, M, 2) others at the same time."""
    apart = discs[:, :, None] - others[:, None]
    return bool((np.einsum("tkmd,tkmd->tkm", apart, apart) < (radius + radii) ** 2).any())


def _disc_radius(width: float) -> float:
    """Radius of the discs that cover a vehicle, with a margin of about a quarter of a metre."""
    return float(0.55 * width + 0.2)


@dataclass(frozen=True, eq=False)
class _StationSampler:
    """Samples stations on routes, preferring those near the ego vehicle's path.

    Attributes:
        number: (P,) route index of each candidate point.
        station: (P,) of the point.
        share: (P,) probability of the point.
    """

    number: NDArray[np.int64]
    station: NDArray[np.float64]
    share: NDArray[np.float64]

    @classmethod
    def of(cls, routes: list[Ribbon], ego: EgoMotion) -> _StationSampler:
        """Probabilities that fall with the distance from the ego vehicle's path."""
        counts = [len(path.points) for path in routes]
        points = np.concatenate([path.points for path in routes])
        station = np.concatenate([np.linspace(0, path.length, n) for path, n in zip(routes, counts, strict=True)])
        past = ego.footprint.middle[::10]
        away = np.linalg.norm(points[:, None] - past, axis=-1).min(axis=1)
        share = np.exp(-((away / _NEAR_M) ** 2)) + 1e-12
        return cls(np.repeat(np.arange(len(routes)), counts), station, share / share.sum())

    def draw(self, rng: np.random.Generator) -> tuple[int, float]:
        """Draw the index of a route and a station on it."""
        point = int(rng.choice(len(self.share), p=self.share))
        return int(self.number[point]), float(self.station[point])


def _add_vehicles(
    builder: _TrafficBuilder,
    lanes: Sequence[Lane],
    makers: Sequence[tuple[Callable[[np.random.Generator], Mesh], float]],
    counts: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    """Add vehicles; those in one lane share a speed profile, in the ego lane that of the ego vehicle."""
    rng = builder.rng
    routes = [route(lane.path) for lane in lanes]
    if not routes:
        return
    distances = [_lane_distances(builder, lane, path) for lane, path in zip(lanes, routes, strict=True)]
    choice, target_count = (
        _StationSampler.of(routes, builder.ego),
        int(rng.integers(*counts[int(rng.random() < 0.5)])),
    )
    odds = np.array([share for _, share in makers])
    for _ in range(_ATTEMPTS * target_count):
        number, station = choice.draw(rng)
        moment = int(rng.integers(len(builder.times)))
        stations = station + distances[number] - distances[number][moment]
        if len(builder.actors) >= target_count:
            return
        if not _on_route(stations, routes[number], 3.0):
            continue
        mesh = makers[int(rng.choice(len(odds), p=odds / odds.sum()))][0](rng)
        half_base = 0.3 * float(np.ptp(mesh.vertices[:, 0]))
        if _on_route(stations, routes[number], half_base + 0.5):
            builder.add_vehicle(mesh, Footprint.along(routes[number], stations, builder.times, half_base))


def _lane_distances(builder: _TrafficBuilder, lane: Lane, path: Ribbon) -> NDArray[np.float64]:
    """(T,) distance travelled by a lane's vehicles."""
    rng = builder.rng
    kind = str(rng.choice(("stand", "start", "cruise", "slow"), p=(0.12, 0.12, 0.6, 0.16)))
    target_speeds = sample_speeds(kind, lane.speed * float(rng.uniform(0.6, 1.1)), knot_count(), rng)
    if _is_ego_lane(path, builder.ego):
        return builder.ego.distance(builder.times)
    return plan_motion(target_speeds, path, 0.0, path.length)[1](builder.times)


def _is_ego_lane(path: Ribbon, ego: EgoMotion) -> bool:
    """Whether a lane is the ego vehicle's."""
    middle, yaw = ego.footprint.middle[0], ego.footprint.yaw[0]
    apart = np.linalg.norm(path.points - middle, axis=1)
    same_way = np.cos(path.yaw(path.nearest(middle)) - yaw) > 0.9
    return bool(apart.min() < 1.0 and same_way)


def _on_route(stations: NDArray[np.float64], path: Ribbon, margin: float) -> bool:
    return bool(stations.min() > margin and stations.max() < path.length - margin)


def _add_two_wheelers(builder: _TrafficBuilder, lanes: Sequence[Lane]) -> None:
    """Add bicycles and scooters at the right edge of lanes."""
    rng, before = builder.rng, len(builder.actors)
    routes = [route(lane.path) for lane in lanes]
    if not routes:
        return
    choice, target_count = _StationSampler.of(routes, builder.ego), int(rng.integers(0, 6))
    for _ in range(_ATTEMPTS * target_count):
        number, station = choice.draw(rng)
        speed, moment = float(rng.uniform(2.5, 6.5)), float(rng.uniform(0, DURATION_S))
        stations = station + speed * (builder.times - moment)
        if len(builder.actors) - before >= target_count:
            return
        if not _on_route(stations, routes[number], 1.0):
            continue
        mesh = _TWO_WHEELERS[int(rng.random() < 0.3)](rng, True)
        left = -(lanes[number].width / 2 - float(rng.uniform(0.35, 0.8)))
        builder.add_vehicle(mesh, Footprint.along(routes[number], stations, builder.times, 0.5, left))


def _add_pedestrians(builder: _TrafficBuilder, walks: Sequence[NDArray[np.float64]]) -> None:
    """Add people, alone and in groups, in both directions; at the end of a path they wait."""
    rng, before = builder.rng, len(builder.actors)
    routes = [route(line[::step]) for line in walks for step in (1, -1)]
    if not routes:
        return
    choice, target_count = _StationSampler.of(routes, builder.ego), int(rng.integers(8, 26))
    for _ in range(_ATTEMPTS * target_count):
        if len(builder.actors) - before >= target_count:
            return
        number, station = choice.draw(rng)
        speed = 0.0 if rng.random() < 0.15 else float(rng.normal(1.3, 0.2))
        left, moment = float(rng.uniform(-0.6, 0.6)), float(rng.uniform(0, DURATION_S))
        group_size = 1 if rng.random() < 0.6 else int(rng.integers(2, 5))
        for k in range(group_size):
            ahead = float(rng.uniform(-0.15, 0.15)) - 0.9 * (k // 2)  # two abreast
            stations = station + speed * (builder.times - moment) + ahead
            _add_pedestrian(builder, routes[number], stations, left + 0.65 * (k % 2), speed)


def _add_pedestrian(
    builder: _TrafficBuilder, path: Ribbon, stations: NDArray[np.float64], left: float, speed: float
) -> None:
    """Add one person at (T,) stations of a path, clipped to its ends."""
    rng = builder.rng
    turn = 0.0 if speed else float(rng.uniform(-np.pi, np.pi))
    stations = _smoothed(np.clip(stations, 0.4, max(path.length - 0.4, 0.4)))
    plan = Footprint.along(path, stations, builder.times, 0.25, left, False, turn)
    if builder.reserve(plan, 0.0, _PERSON_RADIUS_M):
        meshes = person(rng) if speed else (standing(rng),)
        builder.add_actor(meshes, plan, STRIDE * min(float(meshes[0].vertices[:, 2].max()), 1.9))


def _smoothed(stations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stations smoothed over time, without abrupt stops."""
    window = np.array((1, 3, 5, 6, 5, 3, 1)) / 24
    padded = np.concatenate([2 * stations[0] - stations[3:0:-1], stations, 2 * stations[-1] - stations[-2:-5:-1]])
    return np.convolve(padded, window, "valid")
