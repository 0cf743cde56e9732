"""What a student loses where it does not say what its teacher says, by hand."""

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
    made = Distillation(config, width=2, teacher_feature_dim=2)
    if made.feature_proj is not None:
        torch.nn.init.eye_(made.feature_proj.weight)
        torch.nn.init.zeros_(made.feature_proj.bias)
    return made(
        torch.tensor(logits).T[None], torch.tensor(at_points or [[0.0, 0.0]] * len(logits))[None], crops, WEIGHTS
    )


def crops(teacher_logits, labels, teacher_features=None):
    given = {"teacher_logits": torch.tensor([teacher_logits]), "labels": torch.tensor([labels], dtype=torch.uint8)}
    return given if teacher_features is None else {**given, "teacher_features": torch.tensor([teacher_features])}


def test_divergence_counts_points_of_which_the_teacher_says_something():
    """The student is undecided: 3/4 log(3/4 : 1/2) + 1/4 log(1/4 : 1/2) of each; the silent point does not count."""
    teacher_logits = [[ONE, TWO], [0.0, 0.0], [TWO, ONE]]
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = losses(crops(teacher_logits, [0, 0, IGNORE]), [[0.0, 0.0], [9.0, 0.0], [0.0, 0.0]], logits_weight=2.0)
    assert found["logits"].item() == pytest.approx(2 * expected, rel=1e-5)
    same = losses(crops(teacher_logits, [0, 0, IGNORE]), [[ONE, TWO], [9.0, 0.0], [TWO, ONE]], logits_weight=2.0)
    assert same["logits"].item() == pytest.approx(0, abs=1e-6)


def test_rare_classes_weigh_more():
    """Right about the first class, weight 1; undecided about the second, weight 2."""
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = losses(crops([[ONE, TWO], [TWO, ONE]], [IGNORE] * 2), [[ONE, TWO], [0.0, 0.0]], logits_weight=1.0)
    assert found["logits"].item() == pytest.approx(2 / 3 * divergence, rel=1e-5)


def test_lovasz_takes_the_teachers_class_where_there_is_no_label():
    """The point that has a label does not count. Of the others, one is 1/4 wrong, and one is right."""
    teacher_logits, said = [[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]], [[ONE, TWO], [-30.0, 30.0], [-30.0, 30.0]]
    found = losses(crops(teacher_logits, [IGNORE, IGNORE, 0]), said, lovasz_weight=1.0)
    # First class: one point is foreground, its error 0.25 costs all of it. Second: the other's 0.25 costs a half.
    assert found["lovasz"].item() == pytest.approx((0.25 * 1 + 0.25 * 0.5) / 2, rel=1e-4)
    assert "lovasz" not in losses(crops(teacher_logits, [0, 1, 0]), said, lovasz_weight=1.0), "all points have labels"


def test_features_are_compared_by_their_angle():
    """Alike, and at a right angle; how long they are does not matter."""
    given = crops(
        [[ONE, TWO], [ONE, TWO], [0.0, 0.0]], [IGNORE] * 3, teacher_features=[[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]
    )
    found = losses(given, [[0.0, 0.0]] * 3, [[1.0, 0.0], [5.0, 0.0], [0.0, 1.0]], features_weight=0.5)
    assert found["features"].item() == pytest.approx(0.5 * (0 + 1) / 2, abs=1e-6)


def test_a_teacher_that_says_nothing_adds_nothing():
    assert losses(crops([[0.0, 0.0]], [IGNORE]), [[1.0, 0.0]], logits_weight=1.0, lovasz_weight=1.0) == {}
