"""Distillation losses, compared with values computed by hand."""

import math

import pytest

torch = pytest.importorskip("torch")

from training.config.training import DistillConfig  # noqa: E402
from training.losses.distillation import Distillation  # noqa: E402
from xmodelkd_ros.core.labels import IGNORE  # noqa: E402

ONE, TWO = math.log(0.75), math.log(0.25)
WEIGHTS = torch.tensor([1.0, 2.0])


def losses(crops, logits, at_points=None, **settings):
    config = DistillConfig("teacher", **{"logits_weight": 0.0, "lovasz_weight": 0.0, **settings})
    distillation = Distillation(config, width=2, teacher_feature_dim=2)
    if distillation.feature_proj is not None:
        torch.nn.init.eye_(distillation.feature_proj.weight)
        torch.nn.init.zeros_(distillation.feature_proj.bias)
    return distillation(
        torch.tensor(logits).T[None], torch.tensor(at_points or [[0.0, 0.0]] * len(logits))[None], crops, WEIGHTS
    )


def crops(teacher_logits, labels, teacher_features=None):
    given = {"teacher_logits": torch.tensor([teacher_logits]), "labels": torch.tensor([labels], dtype=torch.uint8)}
    return given if teacher_features is None else {**given, "teacher_features": torch.tensor([teacher_features])}


def test_divergence_counts_points_with_a_target():
    """A uniform student: 3/4 log(3/4 : 1/2) + 1/4 log(1/4 : 1/2) each; a point without a target does not count."""
    teacher_logits = [[ONE, TWO], [0.0, 0.0], [TWO, ONE]]
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    actual = losses(crops(teacher_logits, [0, 0, IGNORE]), [[0.0, 0.0], [9.0, 0.0], [0.0, 0.0]], logits_weight=2.0)
    assert actual["logits"].item() == pytest.approx(2 * expected, rel=1e-5)
    same = losses(crops(teacher_logits, [0, 0, IGNORE]), [[ONE, TWO], [9.0, 0.0], [TWO, ONE]], logits_weight=2.0)
    assert same["logits"].item() == pytest.approx(0, abs=1e-6)


def test_divergence_is_weighted_by_class():
    """Equal for the first class, weight 1; uniform for the second, weight 2."""
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    actual = losses(crops([[ONE, TWO], [TWO, ONE]], [IGNORE] * 2), [[ONE, TWO], [0.0, 0.0]], logits_weight=1.0)
    assert actual["logits"].item() == pytest.approx(2 / 3 * divergence, rel=1e-5)


def test_lovasz_uses_the_teachers_class_at_unlabelled_points():
    """The labelled point does not count. Of the others, one has an error of 1/4, and one has none."""
    teacher_logits, student_logits = [[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]], [[ONE, TWO], [-30.0, 30.0], [-30.0, 30.0]]
    actual = losses(crops(teacher_logits, [IGNORE, IGNORE, 0]), student_logits, lovasz_weight=1.0)
    # First class: one foreground point with error 0.25, Jaccard step 1. Second: error 0.25, Jaccard step 1/2.
    assert actual["lovasz"].item() == pytest.approx((0.25 * 1 + 0.25 * 0.5) / 2, rel=1e-4)
    assert "lovasz" not in losses(crops(teacher_logits, [0, 1, 0]), student_logits, lovasz_weight=1.0), (
        "all points are labelled"
    )


def test_feature_loss_is_the_cosine_distance():
    """One parallel and one orthogonal pair; their lengths do not matter."""
    given = crops(
        [[ONE, TWO], [ONE, TWO], [0.0, 0.0]], [IGNORE] * 3, teacher_features=[[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]
    )
    actual = losses(given, [[0.0, 0.0]] * 3, [[1.0, 0.0], [5.0, 0.0], [0.0, 1.0]], features_weight=0.5)
    assert actual["features"].item() == pytest.approx(0.5 * (0 + 1) / 2, abs=1e-6)


def test_no_targets_give_no_losses():
    assert losses(crops([[0.0, 0.0]], [IGNORE]), [[1.0, 0.0]], logits_weight=1.0, lovasz_weight=1.0) == {}
