import numpy as np
import pytest

from training.worldgen.sensing.products import HDL32E, HDL64E, LIDARS, MID360, PANDAR64
from training.worldgen.sensing.rig import CARRIERS, IMAGE_SIZE, Carrier, Rig
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.transforms import inverse

SEEDS = range(12)


def test_same_seed_gives_same_rig():
    first, second = (Rig.sample(np.random.default_rng(5), 6) for _ in range(2))
    assert first.lidar == second.lidar and first.shutter_s == second.shutter_s
    np.testing.assert_array_equal(first.base_from_lidar, second.base_from_lidar)
    np.testing.assert_array_equal(first.cameras[3].from_lidar, second.cameras[3].from_lidar)


def test_rigs_use_every_lidar_at_realistic_height():
    names = set()
    for seed in range(100):
        rig = Rig.sample(np.random.default_rng(seed), 0)
        names.add(rig.lidar.name)
        low, high = (2.0, 2.4) if rig.lidar.name == PANDAR64.name else (1.5, 2.5)
        assert low <= rig.base_from_lidar[2, 3] <= high
        assert rig.base_from_lidar[2, 2] > np.cos(np.radians(6))
        assert rig.cameras == () and rig.shutter_s == ()
    assert names == {lidar.name for lidar in LIDARS}


def test_rig_draws_from_given_lidars():
    assert Rig.sample(np.random.default_rng(0), 1, (HDL32E,)).lidar.name == HDL32E.name


def test_other_vehicles_carry_lidars_half_a_metre_to_three_metres_high_in_any_attitude():
    rigs = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        carrier = Carrier.sample(rng)
        rigs.append((carrier, Rig.sample(rng, 0, (PANDAR64, MID360), carrier)))
        low, high = carrier.height_m
        assert low <= rigs[-1][1].height_m == rigs[-1][1].base_from_lidar[2, 3] <= high
    heights = np.array([rig.height_m for _, rig in rigs])
    assert heights.min() < 0.6 and heights.max() > 2.9
    assert all(rig.height_m <= 1.0 for carrier, rig in rigs if carrier.walks)
    assert {carrier for carrier, _ in rigs} == set(CARRIERS)
    roll, pitch = np.abs([rig.attitude_deg for _, rig in rigs]).T
    inverted = roll > 90
    assert 0.03 < inverted.mean() < 0.15 and roll[inverted].min() > 174 and roll[~inverted].max() < 6
    assert 9 < pitch.max() <= 10.01 and 0.7 < np.mean(pitch < 2) < 0.9


def test_lidars_that_look_down_are_not_mounted_upside_down():
    shuttle = next(carrier for carrier in CARRIERS if not carrier.walks)
    rigs = [Rig.sample(np.random.default_rng(seed), 0, (HDL64E,), shuttle) for seed in range(150)]
    assert all(abs(rig.attitude_deg[0]) < 90 for rig in rigs)


@pytest.mark.parametrize("seed", SEEDS)
def test_six_cameras_cover_all_directions(seed):
    rig = Rig.sample(np.random.default_rng(seed), 6)
    ahead = {"front": 0, "front_left": 57, "front_right": -57, "left": 100, "right": -100, "back": 180}
    for name, yaw in ahead.items():
        camera = next(c for c in rig.cameras if c.name == f"{name}_camera")
        assert (camera.width, camera.height) == IMAGE_SIZE
        view = 2 * np.degrees(np.arctan(IMAGE_SIZE[0] / 2 / camera.intrinsic[0, 0]))
        assert 53 < view < 87
        base_from_camera = rig.base_from_lidar @ inverse(camera.from_lidar)
        np.testing.assert_allclose(base_from_camera[:3, :3] @ base_from_camera[:3, :3].T, np.eye(3), atol=1e-12)
        assert 1.0 - 1e-9 <= base_from_camera[2, 3] < 2.6
        # A thing at the height of eyes, 15 m away to the camera's side.
        base = np.array([15 * np.cos(np.radians(yaw)), 15 * np.sin(np.radians(yaw)), 1.5, 1])
        point = (inverse(rig.base_from_lidar) @ base)[:3]
        seen = [c.name for c in rig.cameras if c.project(point[None])[1][0]]
        assert camera.name in seen


def test_single_camera_faces_forward():
    assert [c.name for c in Rig.sample(np.random.default_rng(1), 1).cameras] == ["front_camera"]


@pytest.mark.parametrize("seed", SEEDS)
def test_exposures_match_beam_azimuth(seed):
    rig = Rig.sample(np.random.default_rng(seed), 6)
    when = dict(zip([c.name for c in rig.cameras], rig.shutter_s, strict=True))
    order = ["left_camera", "front_left_camera", "front_camera", "front_right_camera", "right_camera"]
    assert sorted(order, key=when.__getitem__) == order
    assert abs(when["front_camera"] + 0.05) < 0.033
    assert all(-0.131 < t < 0.031 for t in rig.shutter_s)


def test_rejects_other_numbers_of_cameras():
    with pytest.raises(ConfigError, match="3 cameras"):
        Rig.sample(np.random.default_rng(0), 3)
