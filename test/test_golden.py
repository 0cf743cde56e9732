"""Labels of the shipped models and a generated drive, compared with those stored in ``test/golden``.

Refactoring must change neither. Processors round differently, so 0.01 % of the values may differ. The files were
last written with the models of world 4; a new model or a new WORLD_VERSION needs new ones.
"""

from pathlib import Path

import numpy as np
import pytest

from xmodelkd_ros.resources import find_model
from xmodelkd_ros.segmentation.parity_sweep import read_parity_sweep
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

GOLDEN = Path(__file__).parent / "golden"
MAX_DIFFERENT = 1e-4
COLUMN_STEP = 8
"""Of the generated sweep every eighth column is stored."""


def share_different(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    return float((actual != expected).mean())


@pytest.mark.parametrize(
    ("stored", "model", "cameras"),
    [
        ("student", "student", 0),
        ("student_undistilled", "student_undistilled", 0),
        ("student_world", "student_world", 0),
        ("teacher", "teacher", 6),
        ("teacher_without_images", "teacher", 0),
    ],
)
def test_labels_of_shipped_models_are_unchanged(stored, model, cameras):
    cloud, camera_frames = read_parity_sweep(cameras)
    pipeline = SegmentationPipeline.load(find_model(model), "onnxruntime", "fp32")
    labels = pipeline.segment(cloud, images=camera_frames).segmentation.label
    with np.load(GOLDEN / "labels.npz") as golden:
        assert share_different(labels, golden[stored]) <= MAX_DIFFERENT


def test_generated_drive_is_unchanged(tmp_path):
    image = pytest.importorskip("PIL.Image")
    world = pytest.importorskip("training.world.__main__")
    arguments = ["--seed", "9", "--sweeps", "1", "--cameras", "1", "--out", str(tmp_path / "drive")]
    assert world.main(arguments) == 0
    with np.load(tmp_path / "drive/lidar/000.npz") as scan, np.load(GOLDEN / "world.npz") as golden:
        for name in golden:
            assert share_different(scan[name][::COLUMN_STEP], golden[name]) <= MAX_DIFFERENT, name
    actual, expected = (
        np.asarray(image.open(path)) for path in (tmp_path / "drive/camera/front_camera/000.jpg", GOLDEN / "world.jpg")
    )
    assert share_different(actual, expected) <= MAX_DIFFERENT
