import numpy as np
import pytest

from training.config.training import AugmentConfig
from training.data.augment import augment, change_intensity, drop, mix_sectors, move, paste_objects
from training.data.sweeps import Sweep
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.projection import ProjectionSpec, RangeProjector

PERSON, BUILDING = 3, 9
BEAMS = tuple(np.linspace(10, -20, 16).tolist())


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def projector():
    return RangeProjector(ProjectionSpec(BEAMS, 128))


def make_sweep(radius=20.0, label=BUILDING, intensity=100.0):
    """A cylinder around the sensor, scanned by 16 beams at 256 azimuths."""
    azimuth = np.linspace(-np.pi, np.pi, 256, endpoint=False) + 1e-3
    elevation, azimuth = (a.ravel() for a in np.meshgrid(np.radians(BEAMS), azimuth, indexing="ij"))
    flat = radius * np.cos(elevation)
    xyz = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), radius * np.sin(elevation)], axis=1)
    cloud = PointCloud(xyz.astype(np.float32), np.full(len(xyz), intensity, np.float32))
    return Sweep(cloud, np.full(len(xyz), label, np.uint8))


def test_disabled_augmentation_only_rotates_and_mirrors(rng, projector):
    sweep = make_sweep()
    result = augment(sweep, sweep, sweep, projector, AugmentConfig(), rng)
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
    changed = change_intensity(Sweep(PointCloud(sweep.cloud.xyz, ramp), sweep.labels), config, rng).cloud.intensity
    assert changed.min() >= 0 and changed.max() <= 255.001
    assert np.all(np.diff(changed) >= 0)
    assert np.abs(changed - ramp).max() > 1


def test_drops_points_and_whole_beams(rng, projector):
    sweep = make_sweep()
    for _ in range(5):
        result = drop(sweep, projector, AugmentConfig(drop_rows=0.5), rng)
        rows, counts = np.unique(projector.project(result.cloud).pixel // 128, return_counts=True)
        assert 0 < len(rows) < 17 and set(counts) == {256}
    shares = [len(drop(sweep, projector, AugmentConfig(drop_points=0.4), rng).cloud) / 4096 for _ in range(30)]
    assert 0.59 < min(shares) < 0.7 < max(shares) <= 1


def test_mixing_replaces_one_sector(rng):
    for _ in range(5):
        result = mix_sectors(make_sweep(20, 1), make_sweep(10, 2), rng)
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
        result = paste_objects(make_sweep(20), other, projector, rng)
        pasted = result.labels == PERSON
        counts.append(pasted.sum())
        ranges = np.linalg.norm(result.cloud.xyz[pasted], axis=1)
        assert ranges.size == 0 or (ranges.min() >= 8 * 0.8 and ranges.max() <= 8 * 1.2 and np.ptp(ranges) < 1e-3)
        pixel = projector.project(result.cloud).pixel
        assert not set(pixel[pasted]) & set(pixel[~pasted])
    assert max(counts) == np.count_nonzero(near)


def test_objects_pasted_behind_a_surface_are_occluded(rng, projector):
    other = make_sweep(30, PERSON)
    result = paste_objects(make_sweep(20), other, projector, rng)
    assert not np.any(result.labels == PERSON)


def test_augmentation_is_deterministic_for_a_seed(projector):
    strengths = {"scale": 0.1, "translate_m": 1.0, "height_m": 0.1, "tilt_deg": 1.0, "jitter_m": 0.02}
    config = AugmentConfig(**strengths, intensity_gain=0.2, drop_points=0.2, drop_rows=0.2, mix=1.0, paste=1.0)
    results = [
        augment(make_sweep(), make_sweep(15), make_sweep(12, PERSON), projector, config, np.random.default_rng(5))
        for _ in range(2)
    ]
    assert np.array_equal(results[0].cloud.xyz, results[1].cloud.xyz)
    assert np.array_equal(results[0].labels, results[1].labels)


def test_sectors_and_objects_come_from_their_donors(rng, projector):
    givers = make_sweep(12, 1), make_sweep(8, PERSON)
    mixed = augment(make_sweep(), *givers, projector, AugmentConfig(mix=1.0), rng)
    assert set(np.unique(mixed.labels)) == {1, BUILDING}
    pasted = [augment(make_sweep(), *givers, projector, AugmentConfig(paste=1.0), rng) for _ in range(12)]
    assert set(np.unique(np.concatenate([sweep.labels for sweep in pasted]))) == {PERSON, BUILDING}
