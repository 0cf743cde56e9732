from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import shapely

from training.worldgen.assets.people import STRIDE, person
from training.worldgen.assets.vehicles import car
from training.worldgen.mesh import LABELS
from training.worldgen.motion.motions import Follower, Footprint, planned_times, route
from training.worldgen.motion.traffic import EgoMotion, generate_traffic
from training.worldgen.street.street_style import KINDS
from training.worldgen.street.streets import Streets

DURATION = 10.0


@dataclass(frozen=True, eq=False)
class Street:
    """A curved street over a hill with two lanes a side, pavements, a crossing and a crossing road."""

    lanes: tuple
    walks: tuple

    @staticmethod
    def height(x, y):
        return 1.5 * np.sin(np.asarray(x) / 30) + 0.01 * np.asarray(y)


@dataclass(frozen=True, eq=False)
class Lane:
    path: np.ndarray
    width: float = 3.3
    speed: float = 10.0


def _bent(offset, forward=True):
    x = np.linspace(-120.0, 120.0, 241)
    line = np.column_stack([x, 12 * np.sin(x / 60) + offset])
    return line if forward else line[::-1]


def _street():
    lanes = [Lane(_bent(d, d < 0)) for d in (-5.0, -1.7, 1.7, 5.0)]
    lanes.append(Lane(np.column_stack([np.full(121, 20.0), np.linspace(-60, 60, 121)])))
    walks = (_bent(-9.5), _bent(9.5), np.array([(0.0, -10.0), (0.0, 10.0)]))
    return Street(tuple(lanes), walks)


def _drive(seed, street=None):
    rng = np.random.default_rng(seed)
    street = street or _street()
    ego = EgoMotion.sample(rng, street.lanes[1].path, street.height)
    return ego, generate_traffic(rng, street, ego, itertools.count(1))


@pytest.fixture(scope="module")
def drives():
    return [_drive(seed) for seed in range(20)]


def _pose(actor, time):
    motion = actor.motion(time)
    return np.array([*motion.position, motion.yaw, motion.pitch])


def test_motion_agrees_with_finite_differences(drives):
    for _, actors in drives[:6]:
        for actor in actors:
            for time in (0.5, 3.3, 7.77):
                motion = actor.motion(time)
                change = (_pose(actor, time + 0.05) - _pose(actor, time - 0.05)) / 0.1
                assert motion.velocity == pytest.approx(change[:3], abs=0.06)
                assert motion.yaw_rate == pytest.approx(change[3], abs=0.04)
                on = motion.position + 0.05 * motion.velocity
                assert np.linalg.norm(on - actor.motion(time + 0.05).position) < 0.02


def test_velocity_and_yaw_rate_are_continuous(drives):
    for _, actors in drives[:6]:
        for actor in actors:
            times = np.arange(0.0, DURATION, 0.02)
            rates = np.array([(*m.velocity, m.yaw_rate) for m in map(actor.motion, times)])
            assert np.abs(np.diff(rates, axis=0)).max() < 0.25


def test_heading_matches_direction_of_travel(drives):
    seen = 0
    for _, actors in drives[:6]:
        for actor in actors:
            motion = actor.motion(4.0)
            speed = np.linalg.norm(motion.velocity[:2])
            if speed > 1.0:
                ahead = np.array((np.cos(motion.yaw), np.sin(motion.yaw)))
                assert motion.velocity[:2] @ ahead > 0.98 * speed
                seen += 1
    assert seen > 40


def test_vehicles_stay_in_lanes_and_people_on_walks(drives):
    street = _street()
    lanes = shapely.MultiLineString([lane.path for lane in street.lanes])
    walks = shapely.MultiLineString(list(street.walks))
    for _, actors in drives:
        for actor in actors:
            label = LABELS.names[actor.meshes[0].label[0]]
            places = shapely.points([actor.motion(t).position[:2] for t in np.arange(0, DURATION, 1.0)])
            far = shapely.distance(walks if label == "person" else lanes, places).max()
            assert far < (2.3 if label == "person" else 1.5 if label == "two_wheeler" else 0.3)


def test_actors_stand_on_ground(drives):
    street = _street()
    for _, actors in drives[:6]:
        for actor in actors:
            x, y, z = actor.motion(2.5).position
            assert z == pytest.approx(float(street.height(x, y)), abs=0.1)


def test_vehicles_pitch_with_slope():
    line = route(np.column_stack([np.linspace(0, 100, 101), np.zeros(101)]))
    times = planned_times()
    plan = Footprint.along(line, 10 + 4 * (times + 1), times, 1.4)
    up = Follower.on_ground((car(np.random.default_rng(0)),), plan, lambda x, y: 0.1 * x)
    motion = up.motion(3.0)
    assert motion.pitch == pytest.approx(-np.arctan(0.1))  # positive looks down
    assert motion.velocity == pytest.approx((4.0, 0.0, 0.4), abs=1e-3)


def test_gait_phase_follows_distance():
    line = route(np.column_stack([np.linspace(0, 30, 31), np.zeros(31)]))
    times = planned_times()
    stride = STRIDE * 1.7
    plan = Footprint.along(line, 5 + 1.36 * times, times, 0.25, tilts=False)
    walker = Follower.on_ground(person(np.random.default_rng(0)), plan, lambda x, y: 0 * x, stride)
    seen = [walker.phase(t) for t in np.arange(0.0, 4.0, stride / 1.36 / 8)]
    assert set(np.diff(seen) % 8) <= {0, 1, 2} and set(seen) == set(range(8))
    assert all(walker.phase(t) == walker.phase(t + stride / 1.36) for t in np.arange(0.02, 2.0, 0.31))


def _outline(length, width, x, y, yaw):
    ahead, left = np.array((np.cos(yaw), np.sin(yaw))) * length / 2, np.array((-np.sin(yaw), np.cos(yaw))) * width / 2
    at = np.array((x, y))
    return shapely.Polygon([at + ahead + left, at - ahead + left, at - ahead - left, at + ahead - left])


def _outlines(ego, actors, time):
    pose = ego.world_from_base([time])[0]
    shapes = [_outline(ego.LENGTH_M, ego.WIDTH_M, *pose[:2, 3], np.arctan2(pose[1, 0], pose[0, 0]))]
    for actor in actors:
        motion = actor.motion(time)
        walks = LABELS.names[actor.meshes[0].label[0]] == "person"
        length, width = (0.4, 0.45) if walks else np.ptp(actor.meshes[0].vertices, axis=0)[:2]
        shapes.append(_outline(length, width, *motion.position[:2], motion.yaw))
    return shapes


def _collisions(ego, actors):
    for time in np.arange(0.0, DURATION + 0.01, 0.25):
        shapes = _outlines(ego, actors, time)
        first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
        yield from ((time, a, b) for a, b in zip(first, second, strict=True) if a < b)


def test_no_collisions_for_ten_seconds(drives):
    for ego, actors in drives:
        assert not list(_collisions(ego, actors))


@pytest.mark.parametrize("kind", KINDS)
def test_no_collisions_in_generated_streets(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    streets = Streets.generate(rng, kind=kind)
    ego = EgoMotion.sample(rng, streets.ego_lane.path, streets.height, streets.style.district.ego_speed)
    actors = generate_traffic(rng, streets, ego, itertools.count(1), motorway=kind == "motorway")
    assert len(actors) >= 4
    assert not list(_collisions(ego, actors))


def test_motorway_has_fast_vehicles_and_trucks_only():
    speeds, labels = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        streets = Streets.generate(rng, kind="motorway")
        ego = EgoMotion.sample(rng, streets.ego_lane.path, streets.height, streets.style.district.ego_speed)
        actors = generate_traffic(rng, streets, ego, itertools.count(1), motorway=True)
        labels += [LABELS.names[actor.meshes[0].label[0]] for actor in actors]
        speeds += [float(np.linalg.norm(actor.motion(5.0).velocity)) for actor in actors]
        assert not list(_collisions(ego, actors))
    assert set(labels) <= {"car", "truck", "two_wheeler"}
    assert 0.1 < labels.count("truck") / len(labels) < 0.5
    assert 20 < np.percentile(speeds, 90) < 36


def test_people_avoid_obstacles():
    street = _street()
    x = np.arange(-100, 100, 4.0)
    posts = np.column_stack([x, 12 * np.sin(x / 60) - 9.5, np.full_like(x, 0.15)])
    rng = np.random.default_rng(2)
    ego = EgoMotion.sample(rng, street.lanes[1].path, street.height)
    actors = generate_traffic(rng, street, ego, itertools.count(1), posts)
    people = [a for a in actors if LABELS.names[a.meshes[0].label[0]] == "person"]
    assert people
    for actor in people:
        places = np.array([actor.motion(t).position[:2] for t in np.arange(0, DURATION, 0.2)])
        assert np.linalg.norm(places[:, None] - posts[:, :2], axis=-1).min() > 0.4


def test_enough_traffic_of_every_class_near_ego(drives):
    counts = np.zeros((len(drives), 4), int)
    for k, (ego, actors) in enumerate(drives):
        there = ego.world_from_base([5.0])[0, :2, 3]
        near = [a for a in actors if np.linalg.norm(a.motion(5.0).position[:2] - there) < 100]
        counts[k] = np.bincount([a.meshes[0].label[0] for a in near], minlength=4)[:4]
    car_count, truck_count, ridden, people = counts.mean(axis=0)
    assert car_count + truck_count >= 3.5 and truck_count > 0.5 and ridden > 1.0 and people >= 7


def test_instance_ids_are_unique(drives):
    _, actors = drives[0]
    numbers = [set(mesh.instance.tolist()) for actor in actors for mesh in actor.meshes[:1]]
    assert all(len(n) == 1 for n in numbers) and len(set.union(*numbers)) == len(actors)
    assert all(set(m.instance) == set(a.meshes[0].instance) for a in actors for m in a.meshes)


def test_same_seed_gives_same_traffic(drives):
    ego, actors = drives[3]
    ego_again, actors_again = _drive(3)
    times = np.linspace(0, DURATION, 7)
    assert ego.world_from_base(times).tobytes() == ego_again.world_from_base(times).tobytes()
    assert len(actors) == len(actors_again)
    for a, b in zip(actors, actors_again, strict=True):
        assert _pose(a, 4.2).tobytes() == _pose(b, 4.2).tobytes()
        assert a.meshes[-1].vertices.tobytes() == b.meshes[-1].vertices.tobytes()


def test_ego_poses_are_rigid_and_on_road(drives):
    street = _street()
    for ego, _ in drives:
        poses = ego.world_from_base(np.linspace(-0.2, DURATION + 0.4, 200))
        turn = poses[:, :3, :3]
        assert np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)).max() < 1e-9
        assert np.linalg.det(turn) == pytest.approx(1.0)
        assert (poses[:, 3] == (0, 0, 0, 1)).all()
        x, y, z = poses[:, :3, 3].T
        assert np.abs(z - street.height(x, y)).max() < 0.06
        slope = street.height(x + 0.5, y) - street.height(x - 0.5, y)
        assert np.abs(turn[:, 2, 0] - slope * turn[:, 0, 0]).max() < 0.05


def test_ego_moves_smoothly_within_lane(drives):
    speeds = []
    lane = shapely.LineString(_street().lanes[1].path)
    for ego, _ in drives:
        times = np.arange(-0.3, DURATION + 0.4, 0.02)
        place = ego.world_from_base(times)[:, :3, 3]
        velocity = np.diff(place, axis=0) / 0.02
        assert np.abs(np.diff(velocity, axis=0)).max() < 0.15
        assert shapely.distance(lane, shapely.points(place[:, :2])).max() < 0.4
        speeds.append(np.linalg.norm(velocity, axis=1))
    assert max(s.max() for s in speeds) < 14.5
    assert sum(s.max() > 6 for s in speeds) > 6 and sum(s.min() < 0.05 for s in speeds) > 2
