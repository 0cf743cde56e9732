import numpy as np
import pytest

pytest.importorskip("torch")

from training.corruption import CORRUPTIONS, corrupted
from training.data.sweeps import Sweep
from training.world.sensing.sensors import BEAM_TABLES
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.projection import NO_PIXEL, ProjectionSpec, RangeProjector

PROJECTOR = RangeProjector(ProjectionSpec(BEAM_TABLES["Pandar64"], 256))


@pytest.fixture
def sweep(sweep_of):
    xyz = sweep_of("Pandar64").astype(np.float32)
    return Sweep(PointCloud(xyz, np.ones(len(xyz), np.float32)), np.full(len(xyz), 3, np.uint8))


def test_beams_are_lost_whole_about_half_of_them(sweep):
    found = corrupted(sweep, "lost_beams", 1)
    row = PROJECTOR.project(sweep.cloud).pixel // 256
    left = PROJECTOR.project(found.cloud).pixel != NO_PIXEL
    lost = set(row[~left])
    assert not lost & set(row[left])
    assert 20 <= len(lost) <= 44
    assert (found.labels[left] == 3).all() and (found.labels[~left] == IGNORE).all()


def test_noise_is_along_the_ray(sweep):
    found = corrupted(sweep, "range_noise", 1)
    before, after = (np.linalg.norm(one.cloud.xyz, axis=1) for one in (sweep, found))
    assert np.std(after - before) == pytest.approx(0.1, rel=0.05)
    np.testing.assert_allclose(found.cloud.xyz / after[:, None], sweep.cloud.xyz / before[:, None], atol=1e-5)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_same_seed_gives_the_same_sweep(sweep, kind):
    one, again, other = (corrupted(sweep, kind, seed).cloud.xyz for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other, equal_nan=True)
