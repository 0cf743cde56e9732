"""Features and targets follow their points through augmentation and cropping."""

from dataclasses import replace

import numpy as np
import pytest

from training.config.training import AugmentConfig
from training.data.crops import CropDataset, CropFeatures, CropSize, CropSource
from training.data.feature_bank import ImageFeatures, PointFeatureBank, mean_view
from training.data.sweeps import InputSpec, Sweep, with_point_ids
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
    """Two sources with image features and teacher logits (the range) at every second point, and one without."""
    return with_point_ids([[sweep(0), sweep(1)], [sweep(2)], [sweep(3)]], [True, True, False])


@pytest.fixture(scope="module")
def feature_bank(sources):
    seen, teacher_logits = [], [np.zeros((1, 13))]
    for one in (*sources[0], *sources[1]):
        ranges = np.linalg.norm(one.cloud.xyz, axis=1)
        camera = np.full((4000, 2), -1, np.int8)
        camera[::2, 0] = np.arange(2000) % 6
        seen.append(ImageFeatures(np.tile(ranges[:, None, None], (1, 2, 1)).astype(np.float16), camera))
        teacher_logits.append(np.tile((ranges * (np.arange(4000) % 2 == 0))[:, None], (1, 13)))
    return PointFeatureBank(ImageFeatures.join(seen, 1), np.concatenate(teacher_logits).astype(np.float16))


def crops(sources, feature_bank, dropout=0.0, **augment):
    return CropDataset(
        [CropSource(sweeps, dataset) for sweeps, dataset in zip(sources, "abc", strict=True)],
        SPEC,
        AugmentConfig(**augment),
        CropSize(columns=128, margin=32, points=1500),
        length=12,
        seed=0,
        features=CropFeatures(feature_bank, camera_dropout=dropout),
    )


@pytest.mark.parametrize("augment", [{}, {"mix": 1.0}, {"drop_points": 0.3, "drop_rows": 0.3}])
def test_features_and_targets_follow_their_points(sources, feature_bank, augment):
    known = 0
    for batch in (crops(sources, feature_bank, **augment)[k] for k in range(12)):
        ranges, teacher_logits = batch["points"][..., 0], batch["teacher_logits"][..., 0]
        views = mean_view(batch["views"].reshape(-1, 2, 2)).reshape(*ranges.shape, 2)
        seen = views[..., 1] > 0
        np.testing.assert_allclose(views[..., 0][seen], ranges[seen], rtol=2e-3)
        assert not views[~seen].any()
        has_logits = teacher_logits > 0
        np.testing.assert_allclose(teacher_logits[has_logits], ranges[has_logits], rtol=2e-3)
        np.testing.assert_array_equal(has_logits, seen)
        image, pixels = batch["image"], batch["seen"]
        filled = pixels[:, 1] > 0
        np.testing.assert_allclose(pixels[:, 0][filled], image[:, 0][filled], rtol=2e-3)
        assert not (filled & (image[:, -1] == 0)).any(), "empty pixels have no features"
        known += int(seen.sum())
    assert known > 3000


def test_points_with_image_features_only_fill_the_slots_left_by_labelled_points(sources, feature_bank):
    def batches(labelled):
        labels = np.where(np.arange(4000) < labelled, 3, IGNORE).astype(np.uint8)
        given = [[sweep.with_labels(labels) for sweep in source] for source in sources]
        found = crops(given, replace(feature_bank, teacher_logits=None))
        return [(found[k]["labels"] != IGNORE, (found[k]["views"][..., -1] > 0).any(axis=-1)) for k in range(12)]

    assert any(seen.any() for _, seen in batches(0)), "a student may be trained against image features alone"
    for known, seen in batches(100):
        assert not (known[:, 1:] & ~known[:, :-1]).any(), "labelled points come first"
        assert known.any() and (seen & ~known).any() == seen.any()
    assert all(known.all() for known, _ in batches(4000)), "no labelled point is displaced"


def test_camera_dropout_hides_cameras(sources, feature_bank):
    def share_seen(dropout):
        return np.mean([(crops(sources, feature_bank, dropout)[k]["seen"][:, 1] > 0).mean() for k in range(12)])

    assert 0.1 < share_seen(0.6) / share_seen(0.0) < 0.6, "two of five cameras, and no camera in three of ten sweeps"
