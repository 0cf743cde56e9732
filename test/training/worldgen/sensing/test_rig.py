from dataclasses import replace

import numpy as np
import pytest

from training.datasets.pandaset import PandaSetSequence
from training.worldgen.sensing.lidar_model import LidarModel
from training.worldgen.sensing.products import HDL32E, HDL64E, LIDARS, OS1_128, PANDAR64, UNSEEN_LIDARS, VLP32C
from training.worldgen.sensing.rig import IMAGE_SIZE, Rig
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.core.sensor import nearest
from xmodelkd_ros.core.transforms import inverse

SEEDS = range(12)


def azimuths_deg(directions):
    return np.degrees(np.arctan2(directions[..., 1], directions[..., 0]))


@pytest.mark.parametrize(
    ("lidar", "beams", "columns", "top", "bottom"),
    [
        (PANDAR64, 64, 1800, 14.873, -24.895),
        (HDL64E, 64, 2083, 2.021, -24.711),
        (VLP32C, 32, 1800, 15.0, -25.0),
        (OS1_128, 128, 1024, 21.2, -21.2),
        (HDL32E, 32, 2170, 10.67, -30.67),
    ],
)
def test_beam_tables_have_documented_size_and_field_of_view(lidar, beams, columns, top, bottom):
    assert (lidar.beams, lidar.columns) == (beams, columns)
    assert (lidar.elevations_deg[0], lidar.elevations_deg[-1]) == pytest.approx((top, bottom))
    ProjectionSpec(lidar.elevations_deg, 64)  # the rows of a range image


@pytest.mark.parametrize(
    ("elevation", "clockwise"), [(-25.0, 1.4), (-1.0, -4.2), (-15.639, -1.4), (-2.0, 4.2), (15.0, -1.4), (10.333, 1.4)]
)
def test_vlp32c_azimuth_offsets_match_manual(elevation, clockwise):
    beam = VLP32C.elevations_deg.index(elevation)
    assert VLP32C.azimuth_offsets_deg[beam] == -clockwise


def test_pandar64_elevations_match_pandaset(pandaset):
    cloud = PandaSetSequence(pandaset).cloud(0)
    values, beams = elevations_deg(cloud.xyz), np.asarray(PANDAR64.elevations_deg)
    beam = nearest(beams, values)
    off = [np.median(values[beam == number]) - beams[number] for number in range(64)]
    np.testing.assert_allclose(off, 0, atol=0.02)


def test_unseen_lidars_are_disjoint_from_others():
    assert not {lidar.name for lidar in LIDARS} & {lidar.name for lidar in UNSEEN_LIDARS}


def test_firings_start_behind_and_rotate_clockwise():
    lidar = replace(HDL64E, columns=360)
    directions = lidar.directions()
    assert directions.shape == (360, 64, 3) and directions.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(directions, axis=2), 1, atol=1e-6)
    np.testing.assert_allclose(azimuths_deg(directions)[:, 0], 179.5 - np.arange(360), atol=1e-4)
    elevations = np.degrees(np.arcsin(directions[7, :, 2]))
    np.testing.assert_allclose(elevations, lidar.elevations_deg, atol=1e-4)


def test_positive_azimuth_offset_points_left():
    lidar = LidarModel("two", (1.0, -1.0), 360, azimuth_offsets_deg=(0.0, 4.0))
    azimuth = azimuths_deg(lidar.directions())[180]
    np.testing.assert_allclose(azimuth, (-0.5, 3.5), atol=1e-4)


def test_last_column_is_fired_at_end_of_sweep():
    times = replace(PANDAR64, columns=1000).column_times_s()
    assert times[-1] == 0
    np.testing.assert_allclose(np.diff(times), 0.1 / 1000)
    assert times[0] == pytest.approx(-0.1 + 0.1 / 1000)


@pytest.mark.parametrize("lidar", [*LIDARS, *UNSEEN_LIDARS], ids=lambda lidar: lidar.name)
def test_units_differ_slightly_and_keep_beam_order(lidar):
    for seed in SEEDS:
        copy = lidar.sample_unit(np.random.default_rng(seed))
        change = np.abs(np.subtract(copy.elevations_deg, lidar.elevations_deg))
        assert 0 < change.max() < 0.06 + lidar.table_spread * np.abs(lidar.elevations_deg).max()
        assert np.all(np.diff(copy.elevations_deg) < 0)
        assert len(copy.beam_gains) == lidar.beams and np.ptp(copy.beam_gains) > 0
        assert copy.range_noise_m != lidar.range_noise_m and copy.gain != lidar.gain


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"elevations_deg": (1.0, 1.0)}, "elevations_deg"),
        ({"columns": 3}, "columns is 3"),
        ({"max_range_m": 300.0}, "300"),
        ({"azimuth_offsets_deg": (1.0,)}, "azimuth_offsets_deg"),
        ({"beam_gains": (1.0, 1.0)}, "beam_gains"),
    ],
)
def test_rejects_invalid_sensors(change, words):
    with pytest.raises(ConfigError, match=words):
        replace(PANDAR64, **change)


def test_same_seed_gives_same_rig():
    first, second = (Rig.sample(np.random.default_rng(5), 6) for _ in range(2))
    assert first.lidar == second.lidar and first.shutter_s == second.shutter_s
    np.testing.assert_array_equal(first.base_from_lidar, second.base_from_lidar)
    np.testing.assert_array_equal(first.cameras[3].from_lidar, second.cameras[3].from_lidar)


def test_rigs_use_every_lidar_at_realistic_height():
    names = set()
    for seed in range(40):
        rig = Rig.sample(np.random.default_rng(seed), 0)
        names.add(rig.lidar.name)
        low, high = (2.0, 2.4) if rig.lidar.name == PANDAR64.name else (1.5, 2.5)
        assert low <= rig.base_from_lidar[2, 3] <= high
        assert rig.base_from_lidar[2, 2] > np.cos(np.radians(6))
        assert rig.cameras == () and rig.shutter_s == ()
    assert names == {lidar.name for lidar in LIDARS}


def test_rig_draws_from_given_lidars():
    assert Rig.sample(np.random.default_rng(0), 1, (HDL32E,)).lidar.name == HDL32E.name


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
