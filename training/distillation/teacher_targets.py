"""Soft targets: a teacher's logits, uncertainty and features for the points of sweeps.

The teacher labels each sweep as recorded and mirrored (weak augmentation), the student trains on strongly augmented
sweeps. Targets are stored per point, so that they stay valid under any augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.feature_bank import PointFeatureBank, has_target
from training.data.label_propagation import fused_votes, movable_ids
from training.data.sweeps import Sweep
from training.datasets.sequence import DriveSequence
from training.modules.point_modules import Prediction
from training.predict.predictor import Predictor
from xmodelkd_ros.console import progress

_MIN_SHARE = 1e-4
"""Lower bound of the probability of a class without votes, so that its logarithm is finite."""


@dataclass(frozen=True, eq=False)
class TeacherTargets:
    """Targets for the N points of a sweep; all zero for a point without a target.

    Attributes:
        logits: (N, C) float16.
        uncertainty: (N,) float16, 1 minus the head-averaged probability of the class with the largest logit; after
            :func:`voxel_averaged`, 1 minus its share of the votes.
        features: (N, D) float16.
    """

    logits: NDArray[np.float16]
    uncertainty: NDArray[np.float16]
    features: NDArray[np.float16]


def teacher_targets(
    teacher: Predictor, sweeps: Sequence[Sweep], feature_bank: PointFeatureBank, title: str
) -> list[TeacherTargets]:
    """Targets from a teacher: the mean of its predictions for each sweep and its mirror image."""
    predictions = zip(
        teacher.predictions(sweeps, feature_bank),
        teacher.predictions([_mirrored(sweep) for sweep in sweeps], feature_bank),
        strict=True,
    )
    return [
        _mean_targets(plain, mirrored, valid)
        for (plain, valid), (mirrored, _) in progress(predictions, len(sweeps), title)
    ]


def _mirrored(sweep: Sweep) -> Sweep:
    return sweep.with_cloud(sweep.cloud.xyz * np.array([1, -1, 1], np.float32), sweep.cloud.intensity)


def _mean_targets(plain: Prediction, mirrored: Prediction, valid: NDArray[np.bool_]) -> TeacherTargets:
    logits = (plain.logits[0] + mirrored.logits[0]) / 2
    probabilities = (plain.head_mean_probs[0] + mirrored.head_mean_probs[0]) / 2
    uncertainty = 1 - probabilities.gather(0, logits.argmax(dim=0, keepdim=True))[0]
    features = (plain.at_points()[0] + mirrored.at_points()[0]) / 2
    return TeacherTargets(*(_scattered(values, valid) for values in (logits.T, uncertainty, features)))


def _scattered(values: Tensor, valid: NDArray[np.bool_]) -> NDArray[np.float16]:
    """Values of the valid points as values of all points, zero for the others."""
    scattered = np.zeros((len(valid), *values.shape[1:]), np.float16)
    scattered[valid] = values.numpy()
    return scattered


def voxel_averaged(
    targets: Sequence[TeacherTargets], frames: Sequence[tuple[DriveSequence, int] | None], side_m: float
) -> list[TeacherTargets]:
    """Average the logits of static points over all sweeps of a drive, in voxels of the world.

    Args:
        targets: of each sweep.
        frames: drive and frame number of each sweep; None for a sweep whose targets stay unchanged, as do those of
            drives without poses.
        side_m: side length of the voxels.
    """
    votes = fused_votes([_probabilities(one.logits) for one in targets], frames, side_m, movable_ids())
    return [one if own is None else _averaged(one, own) for one, own in zip(targets, votes, strict=True)]


def _averaged(targets: TeacherTargets, votes: NDArray[np.float32]) -> TeacherTargets:
    """Replace the logits of points with votes by those of the vote shares, except for points of movable classes."""
    movable = np.isin(targets.logits.argmax(axis=1), movable_ids())
    known = votes.any(axis=1) & has_target(targets.logits) & ~movable
    share = votes[known] / votes[known].sum(axis=1, keepdims=True)
    logits, uncertainty = targets.logits.copy(), targets.uncertainty.copy()
    logits[known], uncertainty[known] = np.log(np.maximum(share, _MIN_SHARE)), 1 - share.max(axis=1)
    return replace(targets, logits=logits, uncertainty=uncertainty)


def _probabilities(logits: NDArray[np.float16]) -> NDArray[np.float32]:
    """Softmax of (N, C) logits; zeros for points without a target."""
    known = has_target(logits)[:, None]
    return np.asarray(torch.from_numpy(logits).float().softmax(dim=1).numpy() * known)
