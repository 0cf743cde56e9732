"""Pseudo-labels: the most certain classes of a teacher for points without labels."""

import numpy as np
import pytest

from training.data.feature_bank import PointFeatureBank
from training.data.sweeps import Sweep
from training.distillation.pseudo_labels import pseudo_labelled
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import IGNORE


def points(count):
    return PointCloud(np.ones((count, 3), np.float32), np.ones(count, np.float32))


def test_pseudo_labels_are_the_most_certain_of_each_class():
    """Six points: the two most certain of three road points and one of two car points; the last is labelled already."""
    logits = np.zeros((8, 13), np.float16)
    for row, (class_id, height) in enumerate([(4, 9), (4, 8), (4, 1), (0, 2), (0, 1), (4, 9)], start=1):
        logits[row, class_id] = height
    labels = np.array([IGNORE] * 5 + [7], np.uint8)
    sweep = Sweep(points(6), labels, np.arange(1, 7, dtype=np.int32))
    own = Sweep(points(1), np.array([IGNORE], np.uint8), np.array([1], np.int32))
    feature_bank = PointFeatureBank(teacher_logits=logits, teacher_uncertainty=1 - logits.max(axis=1) / 10)
    ((labelled_sweep,), (kept,)) = pseudo_labelled([[sweep], [own]], [True, False], feature_bank, 0.5)
    assert labelled_sweep.labels.tolist() == [4, 4, IGNORE, 0, IGNORE, 7]
    assert kept is own and sweep.labels is labels


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_share_of_pseudo_labels_among_many_points(share):
    count = 200_000
    teacher_uncertainty = np.random.default_rng(0).permutation(np.linspace(0, 0.5, count)).astype(np.float16)
    logits = np.zeros((count, 13), np.float16)
    logits[:, 4] = 1
    sweep = Sweep(points(count), np.full(count, IGNORE, np.uint8), np.arange(count, dtype=np.int32))
    ((labelled,),) = pseudo_labelled(
        [[sweep]], [True], PointFeatureBank(teacher_logits=logits, teacher_uncertainty=teacher_uncertainty), share
    )
    assert (labelled.labels == 4).mean() == pytest.approx(share, abs=0.005)
