import numpy as np
import pytest

from training.data.sweeps import Sweep
from training.realism import Realism
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.projection import ProjectionSpec

ROWS, COLUMNS = 16, 256
PROJECTION = ProjectionSpec(tuple(np.linspace(5.0, -20.0, ROWS)), COLUMNS)


def sweep(seed, intensity, lost=0.0):
    """A noisy cylinder of 10 m radius around the sensor, of which some pulses did not come back."""
    rng = np.random.default_rng(seed)
    elevation, azimuth = np.meshgrid(
        np.radians(PROJECTION.beam_elevations_deg), np.radians((np.arange(COLUMNS) + 0.5) * 360 / COLUMNS - 180)
    )
    radius = rng.uniform(9.5, 10.5, elevation.shape)
    flat = radius * np.cos(elevation)
    xyz = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), radius * np.sin(elevation)], -1).reshape(-1, 3)
    kept = rng.random(len(xyz)) >= lost
    values = intensity(rng, len(xyz)).astype(np.float32)
    labels = rng.integers(0, 13, len(xyz)).astype(np.uint8)
    return Sweep(PointCloud(xyz[kept].astype(np.float32), values[kept]), labels[kept])


def dark(rng, count):
    return rng.uniform(0, 20, count)


def bright(rng, count):
    return rng.uniform(100, 255, count)


@pytest.fixture(scope="module")
def real():
    return [sweep(seed, dark, lost=0.3) for seed in range(6)]


def test_intensities_get_the_real_distribution_and_keep_their_order(real):
    generated = sweep(10, bright)
    matched = Realism(real, PROJECTION).match_intensity(generated)
    before, after = generated.cloud.intensity, matched.cloud.intensity
    np.testing.assert_allclose(np.quantile(after, [0.1, 0.5, 0.9]), [2, 10, 18], atol=0.7)
    assert np.all(np.diff(after[np.argsort(before)]) >= -1e-4)
    assert np.array_equal(matched.labels, generated.labels)


def test_as_many_pulses_are_lost_as_in_reality(real):
    generated = [sweep(seed, bright) for seed in range(10, 16)]
    changer = Realism(real, PROJECTION).fit_generated(generated)
    rng = np.random.default_rng(0)
    changed = [changer.changed(one, intensity=False, ray_drop=True, rng=rng) for one in generated]
    left = sum(len(c.labels) for c in changed) / sum(len(g.labels) for g in generated)
    assert left == pytest.approx(0.7, abs=0.05)
    assert all(c.cloud.intensity.min() >= 100 for c in changed), "intensities were not to be changed"


def test_nothing_more_is_lost_where_enough_is_missing_already(real):
    generated = [sweep(seed, dark, lost=0.3) for seed in range(10, 16)]
    changer = Realism(real, PROJECTION).fit_generated(generated)
    changed = changer.changed(generated[0], intensity=True, ray_drop=True, rng=np.random.default_rng(0))
    assert len(changed.labels) > 0.97 * len(generated[0].labels)


def test_labels_of_the_real_sweeps_are_not_read(real):
    generated = sweep(10, bright)
    hidden = [Sweep(one.cloud, np.full_like(one.labels, 255)) for one in real]
    one, other = (Realism(target, PROJECTION).match_intensity(generated) for target in (real, hidden))
    assert np.array_equal(one.cloud.intensity, other.cloud.intensity)
