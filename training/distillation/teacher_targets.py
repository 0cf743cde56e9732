"""Soft targets: what a teacher says of the points of sweeps.

The teacher sees a sweep as it was recorded, and mirrored; the student will see it changed (weak and strong view). What
the teacher says is kept for each point, so that it stays true however the sweep is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.feature_bank import PointFeatureBank, is_known
from training.data.label_propagation import VoxelVotes, drive_votes, in_world, movable_ids, place_of
from training.data.sweeps import Sweep
from training.datasets.sequence import DriveSequence
from training.modules.point_modules import Prediction
from training.predict.predictor import Predictor
from xmodelkd_ros.console import progress

_LEAST_SHARE = 1e-4
"""What no sweep said has still this probability, so that its logarithm is finite."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What a teacher says of the N points of a sweep; all zero where it says nothing.

    Attributes:
        logits: (N, C) float16.
        teacher_uncertainty: (N,) float16, 1 less the probability that the mean of the teacher's heads gives to the class it says, the
            one with the largest logit; of fused ones, 1 less the share of its votes.
        features: (N, D) float16.
    """

    logits: NDArray[np.float16]
    teacher_uncertainty: NDArray[np.float16]
    features: NDArray[np.float16]


def teacher_targets(
    teacher: Predictor, sweeps: Sequence[Sweep], feature_bank: PointFeatureBank, what: str
) -> list[Targets]:
    """Let a teacher label sweeps as they are and as a mirror shows them; its mean is what it says.

    Args:
        teacher: the teacher.
        sweeps: the sweeps, with their rows in ``feature_bank``.
        feature_bank: what cameras see at the points.
        what: title of the progress bar.
    """
    answers = zip(
        teacher.predictions(sweeps, feature_bank),
        teacher.predictions([_mirrored(sweep) for sweep in sweeps], feature_bank),
        strict=True,
    )
    return [_targets(one, other, valid) for (one, valid), (other, _) in progress(answers, len(sweeps), what)]


def _mirrored(sweep: Sweep) -> Sweep:
    return sweep.with_cloud(sweep.cloud.xyz * np.array([1, -1, 1], np.float32), sweep.cloud.intensity)


def _targets(one: Prediction, other: Prediction, valid: NDArray[np.bool_]) -> Targets:
    logits, head_mean_probs = (
        (one.logits[0] + other.logits[0]) / 2,
        (one.head_mean_probs[0] + other.head_mean_probs[0]) / 2,
    )
    teacher_uncertainty = 1 - head_mean_probs.gather(0, logits.argmax(dim=0, keepdim=True))[0]
    features = (one.at_points()[0] + other.at_points()[0]) / 2
    return Targets(*(_spread(values, valid) for values in (logits.T, teacher_uncertainty, features)))


def _spread(values: Tensor, valid: NDArray[np.bool_]) -> NDArray[np.float16]:
    """What was said of the valid points, with zeros for all others between."""
    every = np.zeros((len(valid), *values.shape[1:]), np.float16)
    every[valid] = values.numpy()
    return every


def voxel_averaged(
    targets: Sequence[Targets], frames: Sequence[tuple[DriveSequence, int] | None], side_m: float
) -> list[Targets]:
    """Targets in which each still thing has the mean of what was said of it in all sweeps of its drive.

    Args:
        targets: of each sweep.
        frames: the drive and the number of their sweeps; None for those that stay as they are.
        side_m: of the voxels that are averaged over.
    """
    places = [in_world(*frame) if frame else None for frame in frames]
    votes: dict[str, VoxelVotes] = {}
    for one, frame, xyz in zip(targets, frames, places, strict=True):
        if frame and xyz is not None:
            drive = votes.setdefault(place_of(frame[0]), drive_votes(side_m))
            drive.add(xyz, _probabilities(one.logits), frame[0].stamp_ns(frame[1]) * 1e-9)
    result = []
    for one, frame, xyz in zip(targets, frames, places, strict=True):
        if frame and xyz is not None:
            result.append(_averaged(one, votes[place_of(frame[0])].at(xyz)))
        else:
            result.append(one)
    return result


def _averaged(targets: Targets, votes: NDArray[np.float32]) -> Targets:
    """The votes' share as logits for points that have votes and are not of a movable class by themselves."""
    movable = np.isin(targets.logits.argmax(axis=1), movable_ids())
    known = votes.any(axis=1) & is_known(targets.logits) & ~movable
    share = votes[known] / votes[known].sum(axis=1, keepdims=True)
    logits, teacher_uncertainty = targets.logits.copy(), targets.teacher_uncertainty.copy()
    logits[known], teacher_uncertainty[known] = np.log(np.maximum(share, _LEAST_SHARE)), 1 - share.max(axis=1)
    return replace(targets, logits=logits, teacher_uncertainty=teacher_uncertainty)


def _probabilities(logits: NDArray[np.float16]) -> NDArray[np.float32]:
    """Softmax of (N, C) logits; zeros where nothing was said."""
    said = is_known(logits)[:, None]
    return np.asarray(torch.from_numpy(logits).float().softmax(dim=1).numpy() * said)
