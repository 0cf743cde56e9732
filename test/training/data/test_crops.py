"""What is known of points stays with them, however sweeps are turned, mixed and cut."""

from dataclasses import replace

import numpy as np
import pytest

from training.config.training import AugmentConfig
from training.data.crops import CropDataset
from training.data.feature_bank import ImageFeatures, PointFeatureBank, join_seen, mean_view
from training.data.sweeps import InputSpec, Sweep, with_rows
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.normalization import ChannelSpec
from xmodelkd_ros.core.projection import ProjectionSpec

SPEC = InputSpec(ProjectionSpec(tuple(np.linspace(5, -25, 16)), 256), (ChannelSpec("range", 0.0, 1.0),), (0.0, 255.0))


def sweep(seed):
    rng = np.random.default_rng(seed)
    azimuth, elevation = rng.uniform(-np.pi, np.pi, 4000), np.radians(rng.uniform(-25, 5, 4000))
    rays = np.stack([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], 1)
    xyz = (rays * rng.uniform(3, 30, (4000, 1))).astype(np.float32)
    return Sweep(PointCloud(xyz, np.ones(4000, np.float32)), rng.integers(0, 13, 4000).astype(np.uint8))


@pytest.fixture(scope="module")
def sources():
    """Two sources of which cameras and a teacher know the range of every second point, and one of which none knows."""
    return with_rows([[sweep(0), sweep(1)], [sweep(2)], [sweep(3)]], [True, True, False])


@pytest.fixture(scope="module")
def feature_bank(sources):
    seen, teacher_logits = [], [np.zeros((1, 13))]
    for one in (*sources[0], *sources[1]):
        ranges = np.linalg.norm(one.cloud.xyz, axis=1)
        camera = np.full((4000, 2), -1, np.int8)
        camera[::2, 0] = np.arange(2000) % 6
        seen.append(ImageFeatures(np.tile(ranges[:, None, None], (1, 2, 1)).astype(np.float16), camera))
        teacher_logits.append(np.tile((ranges * (np.arange(4000) % 2 == 0))[:, None], (1, 13)))
    return PointFeatureBank(join_seen(seen, 1), np.concatenate(teacher_logits).astype(np.float16))


def crops(sources, feature_bank, dark=0.0, **augment):
    return CropDataset(
        sources, ["a", "b", "c"], [1, 1, 1], SPEC, AugmentConfig(**augment),
        columns=128, margin=32, points=1500, length=12, seed=0, feature_bank=feature_bank, camera_dropout=dark,
    )  # fmt: skip


@pytest.mark.parametrize("augment", [{}, {"mix": 1.0}, {"drop_points": 0.3, "drop_rows": 0.3}])
def test_points_keep_what_is_known_of_them(sources, feature_bank, augment):
    known = 0
    for batch in (crops(sources, feature_bank, **augment)[k] for k in range(12)):
        ranges, teacher_logits = batch["points"][..., 0], batch["teacher_logits"][..., 0]
        views = mean_view(batch["views"].reshape(-1, 2, 2)).reshape(*ranges.shape, 2)
        seen = views[..., 1] > 0
        np.testing.assert_allclose(views[..., 0][seen], ranges[seen], rtol=2e-3)
        assert not views[~seen].any()
        said = teacher_logits > 0
        np.testing.assert_allclose(teacher_logits[said], ranges[said], rtol=2e-3)
        np.testing.assert_array_equal(said, seen)
        image, pixels = batch["image"], batch["seen"]
        there = pixels[:, 1] > 0
        np.testing.assert_allclose(pixels[:, 0][there], image[:, 0][there], rtol=2e-3)
        assert not (there & (image[:, -1] == 0)).any(), "empty pixels show nothing"
        known += int(seen.sum())
    assert known > 3000


def test_points_of_which_only_cameras_know_fill_the_places_that_labels_leave(sources, feature_bank):
    def batches(labelled):
        labels = np.where(np.arange(4000) < labelled, 3, IGNORE).astype(np.uint8)
        given = [[sweep.with_labels(labels) for sweep in source] for source in sources]
        found = crops(given, replace(feature_bank, teacher_logits=None))
        return [(found[k]["labels"] != IGNORE, (found[k]["views"][..., -1] > 0).any(axis=-1)) for k in range(12)]

    assert any(seen.any() for _, seen in batches(0)), "a student may be compared with images alone"
    for known, seen in batches(100):
        assert not (known[:, 1:] & ~known[:, :-1]).any(), "those with labels come first"
        assert known.any() and (seen & ~known).any() == seen.any()
    assert all(known.all() for known, _ in batches(4000)), "no label gives way to them"


def test_camera_dropout_hides_cameras(sources, feature_bank):
    def share_seen(dark):
        return np.mean([(crops(sources, feature_bank, dark)[k]["seen"][:, 1] > 0).mean() for k in range(12)])

    assert 0.1 < share_seen(0.6) / share_seen(0.0) < 0.6, "two in five, and none at all in three of ten sweeps"
