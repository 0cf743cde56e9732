"""Pseudo-labels: the teacher's most certain classes as labels of unlabelled points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.data.feature_bank import PointFeatureBank, has_target
from training.data.sweeps import Sweep
from xmodelkd_ros.core.labels import IGNORE


def pseudo_labelled(
    sources: Sequence[Sequence[Sweep]], enabled: Sequence[bool], feature_bank: PointFeatureBank, share: float
) -> list[list[Sweep]]:
    """Label the unlabelled points of sweeps where the teacher is most certain.

    Args:
        sources: the sweeps of each source, with rows.
        enabled: whether the points of a source may get pseudo-labels; elsewhere unlabelled points stay unlabelled.
        feature_bank: logits and uncertainty of the teacher.
        share: of the points of each class that get its label, those with the lowest uncertainty.
    """
    candidates = [
        [_candidates(sweep, feature_bank) if allowed and sweep.point_ids is not None else None for sweep in source]
        for source, allowed in zip(sources, enabled, strict=True)
    ]
    available = [one for source in candidates for one in source if one is not None]
    if not available:
        return [list(source) for source in sources]
    label, uncertainty = (np.concatenate(column) for column in zip(*available, strict=True))
    max_uncertainty = np.zeros(IGNORE + 1, np.float32)
    for class_id in np.unique(label[label != IGNORE]):
        # float64, because quantiles of more than 65,504 values overflow to NaN in float16.
        max_uncertainty[class_id] = np.quantile(uncertainty[label == class_id].astype(np.float64), share)
    return [
        [_with_certain(sweep, one, max_uncertainty) for sweep, one in zip(source, of_source, strict=True)]
        for source, of_source in zip(sources, candidates, strict=True)
    ]


_Candidates = tuple[NDArray[np.uint8], NDArray[np.float16]]
"""The most probable class of each unlabelled point, 255 for other points, and its uncertainty."""


def _candidates(sweep: Sweep, feature_bank: PointFeatureBank) -> _Candidates:
    assert feature_bank.teacher_logits is not None and feature_bank.teacher_uncertainty is not None
    logits = feature_bank.teacher_logits[sweep.point_ids]
    unlabelled = has_target(logits) & (sweep.labels == IGNORE)
    label = np.where(unlabelled, logits.argmax(axis=1), IGNORE).astype(np.uint8)
    return label, feature_bank.teacher_uncertainty[sweep.point_ids]


def _with_certain(sweep: Sweep, candidates: _Candidates | None, max_uncertainty: NDArray[np.float32]) -> Sweep:
    if candidates is None:
        return sweep
    label, uncertainty = candidates
    certain = (label != IGNORE) & (uncertainty <= max_uncertainty[label])
    return replace(sweep, labels=np.where(certain, label, sweep.labels).astype(np.uint8))
