"""Ground plane, height, attitude and ground intensity from sweeps, on scenes with a known plane."""

import numpy as np
import pytest

from test.street import street
from xmodelkd_ros.core.ground import Ground, common_ground, find_ground, leveling_rotation


def sweep(*args, **more):
    return street(*args, **more).xyz


@pytest.mark.parametrize("height", [0.5, 1.0, 1.8, 3.0])
@pytest.mark.parametrize(("roll", "pitch"), [(0, 0), (0, 10), (0, -10), (8, 3), (180, 0), (-174, 10)])
def test_height_and_attitude_of_any_mount(height, roll, pitch):
    beams = (2, -24, 32) if abs(roll) < 90 else (24, -2, 32)  # the product is mounted so that it sees the ground
    ground = find_ground(sweep(height, roll, pitch, beams=beams))
    assert abs(ground.height_m - height) < 0.05
    assert abs((ground.roll_deg - roll + 180) % 360 - 180) < 0.5
    assert abs(ground.pitch_deg - pitch) < 0.5
    assert ground.upside_down == (abs(roll) > 90)


@pytest.mark.parametrize("beams", [(15, -15, 16), (22.5, -22.5, 128), (15, -25, 40)])
def test_any_number_of_beams(beams):
    ground = find_ground(sweep(1.7, 2, -3, beams=beams))
    assert abs(ground.height_m - 1.7) < 0.05
    assert abs(ground.roll_deg - 2) < 0.5 and abs(ground.pitch_deg + 3) < 0.5


def test_a_lidar_that_looks_ahead():
    ground = find_ground(sweep(1.9, 0, 5, fov=60, beams=(12.5, -12.5, 96), columns=400))
    assert abs(ground.height_m - 1.9) < 0.1
    assert abs(ground.pitch_deg - 5) < 0.5


def test_a_levelled_cloud_whose_origin_is_on_the_ground():
    ground = find_ground(sweep(1.8) + np.float32([0, 0, 1.8]))
    assert abs(ground.height_m) < 0.05 and abs(ground.roll_deg) < 0.3 and abs(ground.pitch_deg) < 0.3


def test_ground_below_a_ceiling_is_not_taken_for_a_sensor_upside_down():
    xyz = sweep(1.8, beams=(25, -25, 64))
    rays = xyz[xyz[:, 2] > 0]
    ceiling = rays * (0.9 / np.maximum(rays[:, 2:], 0.05))
    ground = find_ground(np.vstack([xyz[xyz[:, 2] <= 0], ceiling]))
    assert not ground.upside_down and abs(ground.height_m - 1.8) < 0.05


def test_a_sensor_that_sees_no_ground_has_none():
    """Beams that end on the walls of a street lie in a plane, too."""
    assert find_ground(sweep(1.8, beams=(24, -2, 32))) is None


def test_points_below_the_ground_do_not_lower_it():
    xyz = sweep(1.8)
    mirrored = xyz[xyz[:, 2] > -1][::20] * np.float32([1, 1, -1]) - np.float32([0, 0, 3.6])
    assert abs(find_ground(np.vstack([xyz, mirrored])).height_m - 1.8) < 0.05


def wall():
    rng = np.random.default_rng(0)
    return np.column_stack([np.full(5000, 5.0), rng.uniform(-5, 5, 5000), rng.uniform(0, 3, 5000)])


@pytest.mark.parametrize(
    "xyz",
    [
        np.zeros((0, 3)),
        np.zeros((5000, 3)),
        np.full((5000, 3), np.nan),
        np.full((5000, 3), 1e30),
        sweep(1.8)[:90],
        wall(),
        np.random.default_rng(0).normal(0, 10, (20000, 3)),
        sweep(1.8) + np.float32([5e5, 4e6, 300]),
        np.tile([[5.0, 5.0, -2.0]], (5000, 1)),
    ],
    ids=["empty", "zeros", "nan", "huge", "few", "wall", "noise", "map", "one-point"],
)
def test_no_ground_where_none_is_seen(xyz):
    with np.errstate(all="raise", under="ignore"):
        assert find_ground(np.asarray(xyz, np.float32), np.ones(len(xyz), np.float32)) is None


def test_ground_intensity_leaves_markings_and_missing_values_out():
    xyz = sweep(1.8)
    on_ground = xyz[:, 2] < -1.7
    intensity = np.where(on_ground, 10.0, 200.0).astype(np.float32)
    intensity[::25] = 255.0
    intensity[1::25] = np.nan
    assert find_ground(xyz, intensity).intensity == pytest.approx(10, abs=0.5)
    assert find_ground(xyz, intensity / np.float32(255)).intensity == pytest.approx(10 / 255, rel=0.05)
    assert find_ground(xyz).intensity is None
    assert find_ground(xyz, np.full(len(xyz), np.nan, np.float32)).intensity is None


@pytest.mark.parametrize("share", [0.05, 0.4])
def test_ground_intensity_of_dark_asphalt_with_integer_intensities(share):
    xyz = sweep(1.8)
    intensity = (np.random.default_rng(0).random(len(xyz)) < share).astype(np.float32)
    assert share / 2 < find_ground(xyz, intensity).intensity < 1.2 * share


def test_several_sweeps_are_combined_by_medians():
    grounds = [find_ground(sweep(1.8, 0, 4)) for _ in range(3)]
    odd = Ground((0.0, 0.0, -1.0), 0.7, 0.3, 99.0)
    common = common_ground([*grounds, odd, None])
    assert abs(common.height_m - 1.8) < 0.05 and abs(common.pitch_deg - 4) < 0.5 and not common.upside_down
    assert common_ground([grounds[0], None, None]) is None
    assert common_ground([]) is None


def test_leveling_rotation_is_that_of_a_static_transform():
    rotation = leveling_rotation(0, 10)
    np.testing.assert_allclose(rotation @ [1, 0, 0], [np.cos(np.radians(10)), 0, -np.sin(np.radians(10))], atol=1e-12)
    np.testing.assert_allclose(leveling_rotation(90, 0) @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(leveling_rotation(180, 0), np.diag([1.0, -1.0, -1.0]), atol=1e-12)
    up = leveling_rotation(7, -4).T @ [0, 0, 1]
    ground = Ground(tuple(up), 1.0, 1.0)
    assert ground.roll_deg == pytest.approx(7) and ground.pitch_deg == pytest.approx(-4)
