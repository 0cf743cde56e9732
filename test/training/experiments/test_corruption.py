from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("embreex", reason="the beam tables of the simulator need the extra datasets")

from training.data.sweeps import Sweep
from training.experiments.corruption import CORRUPTIONS, MODERATE, SEVERITIES, corrupted
from training.experiments.corruption.beams import on_other_sensor
from training.experiments.corruption.fog import backscatter, in_fog, visibility_m
from training.worldgen.sensing.products import BEAM_TABLES
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.projection import NO_PIXEL, ProjectionSpec, RangeProjector
from xmodelkd_ros.core.sensor import SensorSpec

PROJECTOR = RangeProjector(ProjectionSpec(BEAM_TABLES["Pandar64"], 256))
CAR, TRUCK, TWO_WHEELER, PERSON, ROAD, BUILDING = 0, 1, 2, 3, 4, 9
SENSOR_M, WALL_M = 2.0, 12.0


def sweep_with(xyz, labels, intensity=None):
    intensity = np.linspace(1, 100, len(xyz)) if intensity is None else intensity
    return Sweep(PointCloud(np.asarray(xyz, np.float32), np.asarray(intensity, np.float32)), labels.astype(np.uint8))


@pytest.fixture
def sweep(sweep_of):
    """64 beams of 64 points, each with points of a car, a truck, a two-wheeler and a person."""
    xyz = sweep_of("Pandar64")
    return sweep_with(xyz, np.arange(len(xyz)) % 4)


@pytest.fixture
def street(sweep_of):
    """A Pandar64 sweep with 900 columns of a flat road 2 m below the sensor and a round wall 12 m away."""
    rays = sweep_of("Pandar64", columns=900)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    wall = WALL_M / np.hypot(rays[:, 0], rays[:, 1])
    road = np.where(rays[:, 2] < 0, SENSOR_M / np.maximum(-rays[:, 2], 1e-9), np.inf)
    return sweep_with(rays * np.minimum(wall, road)[:, None], np.where(road < wall, ROAD, BUILDING))


def has_position(sweep):
    return np.isfinite(sweep.cloud.xyz).all(axis=1)


def by_severity(sweep, kind):
    return [corrupted(sweep, kind, 1, severity) for severity in range(len(SEVERITIES))]


def assert_unchanged(before, after, mask):
    """The points of a mask are unchanged."""
    np.testing.assert_array_equal(after.cloud.xyz[mask], before.cloud.xyz[mask])
    np.testing.assert_array_equal(after.cloud.intensity[mask], before.cloud.intensity[mask])
    np.testing.assert_array_equal(after.labels[mask], before.labels[mask])


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_are_deterministic_for_a_seed(sweep, kind):
    one, again, other = (corrupted(sweep, kind, seed).cloud for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.xyz, again.xyz)
    np.testing.assert_array_equal(one.intensity, again.intensity)
    is_random = kind not in ("other_sensor", "weak_intensity", "uncorrected_intensity", "fog")  # too near for droplets
    assert np.array_equal(one.xyz, other.xyz, equal_nan=True) != is_random


@pytest.mark.parametrize("severity", range(3))
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_array_shapes_and_types_stay_and_lost_points_have_no_label(sweep, kind, severity):
    lost = np.arange(len(sweep.labels)) % 7 == 0
    xyz = np.where(lost[:, None], np.nan, sweep.cloud.xyz)
    before = sweep_with(xyz, np.where(lost, IGNORE, sweep.labels))
    xyz, labels, intensity = before.cloud.xyz.copy(), before.labels.copy(), before.cloud.intensity.copy()
    after = corrupted(before, kind, 1, severity)
    assert after.cloud.xyz.shape == xyz.shape and after.cloud.xyz.dtype == after.cloud.intensity.dtype == np.float32
    assert after.labels.shape == labels.shape and after.labels.dtype == np.uint8
    assert (after.labels[~has_position(after)] == IGNORE).all()
    assert not has_position(after)[lost].any()
    np.testing.assert_array_equal(before.cloud.xyz, xyz, err_msg="the input sweep was modified")
    np.testing.assert_array_equal(before.labels, labels)
    np.testing.assert_array_equal(before.cloud.intensity, intensity)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_sweeps_without_intensity_or_points(sweep, kind):
    no_intensity = Sweep(PointCloud(sweep.cloud.xyz), sweep.labels)
    actual, expected = corrupted(no_intensity, kind, 1), corrupted(sweep, kind, 1)
    assert actual.cloud.intensity is None
    np.testing.assert_array_equal(actual.cloud.xyz, expected.cloud.xyz)
    empty = sweep.selected(np.zeros(len(sweep.labels), np.bool_))
    assert len(corrupted(empty, kind, 1).labels) == 0


def test_lost_beams_are_lost_completely(sweep):
    row = PROJECTOR.project(sweep.cloud).pixel // 256
    lost = []
    for actual in by_severity(sweep, "lost_beams"):
        left = PROJECTOR.project(actual.cloud).pixel != NO_PIXEL
        lost.append(set(row[~left]))
        assert not lost[-1] & set(row[left])
        assert (actual.labels[~left] == IGNORE).all()
        assert_unchanged(sweep, actual, left)
    assert 5 <= len(lost[0]) <= 27 and 20 <= len(lost[MODERATE]) <= 44 and 37 <= len(lost[2]) <= 59, "of 64"
    assert lost[0] < lost[1] < lost[2], "points lost at a lower severity are lost at a higher one"


def test_crosstalk_displaces_a_share_of_the_points_and_removes_their_labels(street):
    before, shares = np.zeros(len(street.labels), np.bool_), []
    for actual in by_severity(street, "crosstalk"):
        struck = actual.labels == IGNORE
        assert_unchanged(street, actual, ~struck)
        assert (struck | ~before).all()
        before = struck
        shares.append(struck.mean())
        off = actual.cloud.xyz[struck] - street.cloud.xyz[struck]
        assert np.std(off, axis=0) == pytest.approx([3, 3, 3], rel=0.15)
        assert np.isin(actual.cloud.intensity[struck], street.cloud.intensity).all()
        assert (actual.cloud.intensity[struck] != street.cloud.intensity[struck]).mean() > 0.9
    assert shares == pytest.approx([0.01, 0.03, 0.06], rel=0.1)


def test_motion_blur_displaces_the_sweep_and_jitters_points(sweep):
    shifts = []
    for actual, deviation in zip(by_severity(sweep, "motion_blur"), (0.2, 0.25, 0.3), strict=True):
        off = actual.cloud.xyz - sweep.cloud.xyz
        assert np.std(off, axis=0) == pytest.approx(deviation * np.array([0.1, 0.1, 0.05]), rel=0.05)
        shifts.append(off.mean(axis=0))
        np.testing.assert_array_equal(actual.labels, sweep.labels)
        np.testing.assert_array_equal(actual.cloud.intensity, sweep.cloud.intensity)
    np.testing.assert_allclose(shifts[2], 1.5 * shifts[0], rtol=1e-3)
    every = [corrupted(sweep, "motion_blur", seed, 0).cloud.xyz - sweep.cloud.xyz for seed in range(200)]
    assert np.std([off.mean(axis=0) for off in every], axis=0) == pytest.approx([0.2, 0.2, 0.2], rel=0.2)


def test_missing_echoes_affect_vehicles_only(sweep):
    vehicles = np.isin(sweep.labels, (CAR, TRUCK, TWO_WHEELER))
    for actual, share in zip(by_severity(sweep, "missing_echoes"), (0.75, 0.85, 0.95), strict=True):
        lost = ~has_position(actual)
        assert not lost[~vehicles].any() and lost[vehicles].mean() == pytest.approx(share, abs=0.02)
        for label in (CAR, TRUCK, TWO_WHEELER):
            assert 0 < (actual.labels == label).mean() < 0.3 * (1 - share) + 0.01
        assert_unchanged(sweep, actual, ~lost)


def test_points_of_another_sensor_lie_on_its_beams(street):
    shares = []
    for actual, lidar in zip(by_severity(street, "other_sensor"), ("HDL-64E", "VLP-32C", "HDL-32E"), strict=True):
        present, beams = has_position(actual), np.array(BEAM_TABLES[lidar])
        shares.append(present.mean())
        before, after = street.cloud.xyz[present], actual.cloud.xyz[present]
        before_deg, after_deg = elevations_deg(before), elevations_deg(after)
        beam = np.abs(after_deg[:, None] - beams).argmin(axis=1)
        assert after_deg == pytest.approx(beams[beam], abs=1e-3)
        assert 0.2 < np.abs(before_deg - after_deg).max() < 0.351
        # Each target beam has all points of the nearest source beam, or of two that are equally near.
        nearest = np.abs(np.array(BEAM_TABLES["Pandar64"]) - beams[beam][:, None]).min(axis=1)
        assert (np.abs(before_deg - after_deg) < nearest + 0.022).all()
        assert set(np.bincount(beam)) <= {0, 900, 1800} and (np.bincount(beam) == 1800).sum() < 5
        assert np.linalg.norm(after, axis=1) == pytest.approx(np.linalg.norm(before, axis=1), rel=1e-5)
        rotation = np.arctan2(after[:, 1], after[:, 0]) - np.arctan2(before[:, 1], before[:, 0])
        assert np.abs(rotation).max() < 1e-5
        np.testing.assert_array_equal(actual.labels[present], street.labels[present])
        np.testing.assert_array_equal(actual.cloud.intensity, street.cloud.intensity)
        assert (actual.labels[~present] == IGNORE).all()
    assert 1 > shares[0] > shares[1] > shares[2] > 0.1


def test_resampling_to_the_same_sensor_changes_nothing(street):
    actual = on_other_sensor(street, "Pandar64", np.random.default_rng(0))
    np.testing.assert_allclose(actual.cloud.xyz, street.cloud.xyz, atol=1e-4)
    np.testing.assert_array_equal(actual.labels, street.labels)


def test_next_beam_is_used_where_the_nearest_has_no_point():
    """The VLP-32C's beam at 0 degrees, and points 0.1 and 0.15 degrees above it, at similar or different azimuths."""

    def kept(azimuth_deg):
        elevation, azimuth = np.radians([0.1, 0.15]), np.radians([0.05, azimuth_deg])
        rays = np.column_stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), elevation])
        return has_position(on_other_sensor(sweep_with(10 * rays, np.array([CAR, CAR])), "VLP-32C", None)).tolist()

    assert kept(0.15) == kept(-0.1) == [True, False]
    assert kept(3.0) == [True, True]


def test_fog_attenuates_echoes_and_hides_far_points():
    distance = np.array([2.0, 30, 60, 66, 90, 160, 220])
    direction = np.array([0.6, 0.64, 0.48])
    sweep = sweep_with(distance[:, None] * direction, np.full(7, ROAD), np.full(7, 100.0))
    hidden = []
    for actual, attenuation in zip(by_severity(sweep, "fog"), (0.01, 0.02, 0.03), strict=True):
        fog = actual.labels == IGNORE
        hidden.append(fog.sum())
        np.testing.assert_array_equal(actual.cloud.xyz[~fog], sweep.cloud.xyz[~fog])
        expected = 100 * np.exp(-2 * attenuation * distance)
        np.testing.assert_allclose(actual.cloud.intensity[~fog], expected[~fog], rtol=1e-5)
        assert (actual.cloud.intensity[fog] > expected[fog]).all(), "the stronger echo is reported"
        near = np.linalg.norm(actual.cloud.xyz[fog], axis=1)
        assert (near >= 4.7 / 2).all() and (near <= 4.7 * 2).all()
        np.testing.assert_allclose(actual.cloud.xyz[fog] / near[:, None], np.tile(direction, (fog.sum(), 1)), atol=1e-5)
    assert hidden == [2, 3, 4], "beyond 151, 87 and 63 m"


def test_fog_backscatter_matches_the_integral_of_the_paper():
    """Compared with a sum over time at the range of maximum backscatter, for a visibility of 100 m."""
    attenuation, pulse_s, light = 0.03, 20e-9, 299_792_458.0
    where, response = backscatter(attenuation)
    t = np.linspace(0, 2 * pulse_s, 200_001)
    s = where - light * t / 2
    seen = np.clip((s - 0.9) / 0.1, 0, 1)
    values = np.sin(np.pi * t / (2 * pulse_s)) ** 2 * np.exp(-2 * attenuation * s) / s**2 * seen
    integral = values.mean() * 2 * pulse_s
    assert response == pytest.approx(0.046 / visibility_m(attenuation) * np.pi / 1e-6 * integral, rel=0.01)
    assert visibility_m(attenuation) == pytest.approx(99.86, abs=0.01)


def test_droplets_are_at_the_same_ranges_for_all_severities():
    far = sweep_with(np.full((500, 3), 100.0), np.full(500, ROAD))
    one, other = (in_fog(far, attenuation, np.random.default_rng(1)).cloud.xyz for attenuation in (0.02, 0.03))
    np.testing.assert_allclose(one, other, rtol=0.01)


def test_weak_intensity_changes_the_intensity_only(sweep):
    for actual, left in zip(by_severity(sweep, "weak_intensity"), (0.5, 0.1, 0), strict=True):
        np.testing.assert_allclose(actual.cloud.intensity, left * sweep.cloud.intensity, rtol=1e-6)
        np.testing.assert_array_equal(actual.cloud.xyz, sweep.cloud.xyz)
        np.testing.assert_array_equal(actual.labels, sweep.labels)


def test_uncorrected_intensity_falls_with_the_distance(sweep):
    rays = sweep.cloud.xyz[:4] / np.linalg.norm(sweep.cloud.xyz[:4], axis=1, keepdims=True)
    street = sweep_with(rays * [[0.2], [5], [10], [40]], np.full(4, ROAD), np.full(4, 8.0))
    for actual, exponent in zip(by_severity(street, "uncorrected_intensity"), (0.5, 1, 2), strict=True):
        expected = 8 * np.array([10.0, 2.0, 1.0, 0.25]) ** exponent
        np.testing.assert_allclose(actual.cloud.intensity, expected, rtol=1e-5)
        np.testing.assert_array_equal(actual.cloud.xyz, street.cloud.xyz)
        np.testing.assert_array_equal(actual.labels, street.labels)


def test_the_lidar_is_estimated_from_the_corrupted_sweep(street):
    """Else a network whose rows and intensity follow the LiDAR would be given those of the intact one."""
    lidar = SensorSpec("Pandar64", BEAM_TABLES["Pandar64"], ground_intensity=50.0, height_m=1.0)
    intensity = np.where(street.labels == ROAD, 40, np.linspace(60, 99, len(street.labels)))
    even = sweep_with(street.cloud.xyz, street.labels, intensity)
    sensors = {
        kind: corrupted(replace(even, sensor=lidar), kind, 1, 2).sensor
        for kind in ("weak_intensity", "other_sensor", "range_noise")
    }
    assert sensors["weak_intensity"].ground_intensity == 0, "unknown, as without intensity"
    assert sensors["range_noise"].ground_intensity == pytest.approx(40, rel=0.05), "not the 50 of the intact one"
    assert sensors["range_noise"].height_m == pytest.approx(SENSOR_M, abs=0.1)
    assert sensors["range_noise"].beam_elevations_deg == lidar.beam_elevations_deg
    assert sensors["other_sensor"].beam_elevations_deg == BEAM_TABLES["HDL-32E"]
    assert corrupted(even, "weak_intensity", 1).sensor is None


def test_range_noise_is_along_the_ray(sweep):
    for actual, deviation in zip(by_severity(sweep, "range_noise"), (0.05, 0.1, 0.2), strict=True):
        before, after = (np.linalg.norm(one.cloud.xyz, axis=1) for one in (sweep, actual))
        assert np.std(after - before) == pytest.approx(deviation, rel=0.05)
        np.testing.assert_allclose(actual.cloud.xyz / after[:, None], sweep.cloud.xyz / before[:, None], atol=1e-5)
        np.testing.assert_array_equal(actual.labels, sweep.labels)
        np.testing.assert_array_equal(actual.cloud.intensity, sweep.cloud.intensity)


def test_corruptions_of_published_scores_are_unchanged(sweep):
    """Published scores are for half of the beams lost, and 10 cm of noise."""
    expected = np.random.default_rng(1).random(900) < 0.5
    band = np.floor((elevations_deg(sweep.cloud.xyz) + 90) / 0.2).astype(int)
    lost = ~has_position(corrupted(sweep, "lost_beams", 1))
    assert (lost == expected[band]).mean() > 0.99
    distance = np.linalg.norm(sweep.cloud.xyz, axis=1, keepdims=True)
    noisy = sweep.cloud.xyz * (1 + np.random.default_rng(1).normal(0, 0.1, distance.shape) / distance)
    np.testing.assert_allclose(corrupted(sweep, "range_noise", 1).cloud.xyz, noisy, rtol=1e-6)
