from dataclasses import replace

import numpy as np
import pytest

from training.config.training import AugmentConfig
from training.data.augment import (
    Projected,
    augment,
    change_intensity,
    drop,
    mix_sectors,
    move,
    narrow,
    paste_objects,
    resample_beams,
)
from training.data.sweeps import Sweep, projector_of
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.ground import usual_brightness
from xmodelkd_ros.core.projection import NO_POINT, ProjectionSpec, RangeProjector
from xmodelkd_ros.core.sensor import SensorSpec

PERSON, BUILDING = 3, 9
BEAMS = tuple(np.linspace(10, -20, 16).tolist())


@pytest.fixture
def rng():
    return np.random.default_rng(3)


SPEC = ProjectionSpec(BEAMS, 128)
BEAM_SPEC = ProjectionSpec(BEAMS, 128, rows="beams")


@pytest.fixture
def projector():
    return RangeProjector(SPEC)


def project(sweep, spec=SPEC):
    return Projected(sweep, projector_of(spec, sweep.sensor).project(sweep.cloud))


def make_sweep(radius=20.0, label=BUILDING, intensity=100.0):
    """A cylinder around the sensor, scanned by 16 beams at 256 azimuths."""
    azimuth = np.linspace(-np.pi, np.pi, 256, endpoint=False) + 1e-3
    elevation, azimuth = (a.ravel() for a in np.meshgrid(np.radians(BEAMS), azimuth, indexing="ij"))
    flat = radius * np.cos(elevation)
    xyz = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), radius * np.sin(elevation)], axis=1)
    cloud = PointCloud(xyz.astype(np.float32), np.full(len(xyz), intensity, np.float32))
    return Sweep(cloud, np.full(len(xyz), label, np.uint8))


def test_disabled_augmentation_only_rotates_and_mirrors(rng):
    sweep = make_sweep()
    result = augment(sweep, sweep, sweep, SPEC, AugmentConfig(), rng).sweep
    np.testing.assert_allclose(np.linalg.norm(result.cloud.xyz, axis=1), 20, rtol=1e-5)
    np.testing.assert_allclose(elevations_deg(result.cloud.xyz), elevations_deg(sweep.cloud.xyz), atol=1e-3)
    np.testing.assert_allclose(result.cloud.intensity, sweep.cloud.intensity, rtol=1e-5)
    assert np.array_equal(result.labels, sweep.labels)


def test_mirrors_about_half_of_the_sweeps(rng):
    """The order of three neighbouring azimuths shows the mirroring."""
    sweep, turns = make_sweep(), []
    for _ in range(60):
        x, y, _ = move(sweep, AugmentConfig(), rng).cloud.xyz[:2].T
        turns.append(np.sign(x[0] * y[1] - x[1] * y[0]))
    assert 15 < np.count_nonzero(np.array(turns) > 0) < 45


def test_scale_and_displacement(rng):
    sweep = make_sweep()
    ranges = [np.linalg.norm(move(sweep, AugmentConfig(scale=0.1), rng).cloud.xyz, axis=1) for _ in range(40)]
    assert 18 <= np.min(ranges) < 18.8 and 21.2 < np.max(ranges) <= 22.001
    centre = [move(sweep, AugmentConfig(translate_m=2.0), rng).cloud.xyz.mean(axis=0) for _ in range(60)]
    middle = sweep.cloud.xyz.mean(axis=0)
    shift = np.array(centre) - middle
    stayed = np.abs(shift).max(axis=1) < 1e-3
    assert 15 < np.count_nonzero(stayed) < 45
    assert shift[~stayed, :2].std(axis=0) == pytest.approx(2.0, rel=0.4)
    assert np.abs(shift[:, 2]).max() < 1e-3


def test_range_noise_moves_points_along_their_rays(rng):
    sweep = make_sweep()
    noisy = move(sweep, AugmentConfig(jitter_m=0.05), rng)
    ranges = np.linalg.norm(noisy.cloud.xyz, axis=1)
    assert ranges.std() == pytest.approx(0.05, rel=0.1)
    np.testing.assert_allclose(elevations_deg(noisy.cloud.xyz), elevations_deg(sweep.cloud.xyz), atol=1e-3)


def test_intensity_augmentation_is_monotonic_and_bounded(rng):
    sweep = make_sweep()
    ramp = np.linspace(0, 255, len(sweep.cloud)).astype(np.float32)
    config = AugmentConfig(intensity_gain=0.5, intensity_gamma=0.5)
    ramped = project(Sweep(PointCloud(sweep.cloud.xyz, ramp), sweep.labels))
    changed = change_intensity(ramped, 128, config, rng).cloud.intensity
    assert changed.min() >= 0 and changed.max() <= 255.001
    assert np.all(np.diff(changed) >= 0)
    assert np.abs(changed - ramp).max() > 1


def test_drops_points_and_whole_beams(rng, projector):
    sweep = make_sweep()
    for _ in range(5):
        result = drop(sweep, SPEC, AugmentConfig(drop_rows=0.5), rng).sweep
        rows, counts = np.unique(projector.project(result.cloud).pixel // 128, return_counts=True)
        assert 0 < len(rows) < 17 and set(counts) == {256}
    shares = [len(drop(sweep, SPEC, AugmentConfig(drop_points=0.4), rng).sweep.cloud) / 4096 for _ in range(30)]
    assert 0.59 < min(shares) < 0.7 < max(shares) <= 1


def test_mixing_replaces_one_sector(rng):
    for _ in range(5):
        result = mix_sectors(project(make_sweep(20, 1)), project(make_sweep(10, 2)), 128, rng).sweep
        assert len(result.cloud) == pytest.approx(4096, abs=64)
        ranges = np.linalg.norm(result.cloud.xyz, axis=1)
        np.testing.assert_allclose(ranges, np.where(result.labels == 1, 20, 10), rtol=1e-5)
        share = np.mean(result.labels == 2)
        assert 1 / 8 - 0.02 < share < 1 / 2 + 0.02
        azimuth = np.degrees(np.arctan2(*result.cloud.xyz[:, 1::-1].T))
        bins = [set(result.labels[(azimuth >= a) & (azimuth < a + 10)]) for a in range(-180, 180, 10)]
        assert sum(len(b) == 2 for b in bins) <= 2, "one sector has two borders"


def test_pasted_objects_occlude_points_behind_them(rng, projector):
    other = make_sweep(8, PERSON)
    near = np.abs(np.arctan2(*other.cloud.xyz[:, 1::-1].T)) < 0.15
    other = Sweep(other.cloud, np.where(near, PERSON, BUILDING).astype(np.uint8))
    counts = []
    for _ in range(10):
        result = paste_objects(make_sweep(20), other, SPEC, rng)
        pasted = result.labels == PERSON
        counts.append(pasted.sum())
        ranges = np.linalg.norm(result.cloud.xyz[pasted], axis=1)
        assert ranges.size == 0 or (ranges.min() >= 8 * 0.8 and ranges.max() <= 8 * 1.2 and np.ptp(ranges) < 1e-3)
        pixel = projector.project(result.cloud).pixel
        assert not set(pixel[pasted]) & set(pixel[~pasted])
    assert max(counts) == np.count_nonzero(near)


def test_objects_pasted_behind_a_surface_are_occluded(rng):
    other = make_sweep(30, PERSON)
    result = paste_objects(make_sweep(20), other, SPEC, rng)
    assert not np.any(result.labels == PERSON)


def test_augmentation_is_deterministic_for_a_seed():
    strengths = {"scale": 0.1, "translate_m": 1.0, "height_m": 0.1, "tilt_deg": 1.0, "jitter_m": 0.02}
    config = AugmentConfig(**strengths, intensity_gain=0.2, drop_points=0.2, drop_rows=0.2, mix=1.0, paste=1.0)
    results = [
        augment(make_sweep(), make_sweep(15), make_sweep(12, PERSON), SPEC, config, np.random.default_rng(5)).sweep
        for _ in range(2)
    ]
    assert np.array_equal(results[0].cloud.xyz, results[1].cloud.xyz)
    assert np.array_equal(results[0].labels, results[1].labels)


def test_sectors_and_objects_come_from_their_donors(rng):
    givers = make_sweep(12, 1), make_sweep(8, PERSON)
    mixed = augment(make_sweep(), *givers, SPEC, AugmentConfig(mix=1.0), rng).sweep
    assert set(np.unique(mixed.labels)) == {1, BUILDING}
    pasted = [augment(make_sweep(), *givers, SPEC, AugmentConfig(paste=1.0), rng).sweep for _ in range(12)]
    assert set(np.unique(np.concatenate([sweep.labels for sweep in pasted]))) == {PERSON, BUILDING}


SENSOR = SensorSpec("sixteen", BEAMS, ground_intensity=50.0, height_m=2.0)


def sensed(**arguments):
    return replace(make_sweep(**arguments), sensor=SENSOR)


def test_removed_beams_leave_the_table_too(rng):
    counts = set()
    for _ in range(30):
        result = resample_beams(sensed(), AugmentConfig(resample=1.0), rng)
        table = np.asarray(result.sensor.beam_elevations_deg)
        found = np.unique(elevations_deg(result.cloud.xyz).round(3))
        np.testing.assert_allclose(found, np.sort(table), atol=1e-2)
        counts.add(len(table))
        projection = projector_of(BEAM_SPEC, result.sensor).project(result.cloud)
        assert (projection.point != NO_POINT).all(), "rows of removed beams show their neighbours"
    assert len(counts) > 2 and min(counts) >= 12


def test_fewer_firings_leave_no_empty_columns_and_a_sector_leaves_the_rest_empty(rng):
    firings = AugmentConfig(fewer_columns=1.0)
    for _ in range(5):
        result = narrow(project(sensed(), BEAM_SPEC), 128, firings, rng)
        assert len(result.sweep.labels) < 4096
        assert np.mean(result.projection.point != NO_POINT) > 0.99
    result = narrow(project(sensed(), BEAM_SPEC), 128, AugmentConfig(sector=1.0), rng)
    columns = (result.projection.point.reshape(16, 128) != NO_POINT).all(axis=0)
    assert 1 / 6 - 0.02 < columns.mean() < 1 / 2 + 0.02 and np.count_nonzero(np.diff(np.r_[columns, columns[0]])) <= 2


def test_mixed_sweeps_keep_the_rows_heights_and_scale_of_their_own_lidars(rng):
    dense = sensed(radius=20.0, label=1)
    every_fourth = SensorSpec("four", BEAMS[::4], ground_intensity=5.0, height_m=1.0)
    on_kept = np.isin(elevations_deg(dense.cloud.xyz).round(2), np.asarray(BEAMS[::4]).round(2))
    sparse = replace(sensed(radius=10.0, label=2, intensity=10.0).selected(on_kept), sensor=every_fourth)
    mixed = mix_sectors(project(dense, BEAM_SPEC), project(sparse, BEAM_SPEC), 128, rng)
    point = mixed.projection.point
    assert (point != NO_POINT).all(), "the sparse LiDAR's beams fill all rows of its sector"
    shown = mixed.sweep.labels[point].reshape(16, 128)
    assert (shown == shown[0]).all() and set(shown[0]) == {1, 2}
    np.testing.assert_allclose(mixed.sweep.cloud.intensity, 100.0)
    heights = mixed.sweep.heights_m() - mixed.sweep.cloud.xyz[:, 2]
    np.testing.assert_allclose(heights, np.where(mixed.sweep.labels == 1, 2.0, 1.0), atol=1e-5)
    own = mixed.sweep.labels[mixed.projection.point[mixed.projection.pixel]]
    assert np.array_equal(own, mixed.sweep.labels)


def test_intensity_is_dropped_by_forgetting_that_of_the_ground(rng):
    dropped = change_intensity(project(sensed()), 128, AugmentConfig(drop_intensity=1.0), rng)
    assert dropped.sensor.ground_intensity == 0


def test_intensity_is_relative_to_the_ground_whatever_the_response(rng):
    """Half of the ground around the sensor is as bright as a marking, ten times brighter than the rest."""
    azimuth, distance = (a.ravel() for a in np.meshgrid(np.linspace(-3, 3, 100), np.linspace(4, 14, 40)))
    flat = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), np.full(4000, -2.0)], 1).astype("f4")
    bright = np.arange(4000) % 100 < 8
    cloud = PointCloud(flat, np.where(bright, 500, 50).astype(np.float32))
    sweep = Sweep(cloud, np.zeros(4000, np.uint8), sensor=SENSOR)
    config = AugmentConfig(intensity_gamma=0.7, digitise=1.0, beam_gain=0.1)
    for _ in range(30):
        changed = change_intensity(project(sweep, BEAM_SPEC), 128, config, rng)
        assert usual_brightness(changed.cloud.intensity) == pytest.approx(50, rel=0.05)
        assert changed.cloud.intensity[bright].mean() >= changed.cloud.intensity[~bright].mean()


def test_sweep_without_points_is_augmented_too(rng):
    nothing = sensed().selected(np.zeros(4096, np.bool_))
    config = AugmentConfig(resample=1.0, fewer_columns=1.0, sector=1.0, mix=1.0, paste=1.0, digitise=1.0, drop_rows=0.5)
    for _ in range(5):
        result = augment(nothing, nothing, nothing, BEAM_SPEC, config, rng)
        assert not len(result.sweep.labels) and (result.projection.point == NO_POINT).all()
