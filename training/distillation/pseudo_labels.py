"""Pseudo-labels: the classes of which a teacher has the least doubt, given to points that have no label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.data.feature_bank import PointFeatureBank, is_known
from training.data.sweeps import Sweep
from xmodelkd_ros.core.labels import IGNORE


def pseudo_labelled(
    sources: Sequence[Sequence[Sweep]], wanted: Sequence[bool], feature_bank: PointFeatureBank, share: float
) -> list[list[Sweep]]:
    """The sweeps, with the classes of which a teacher has the least doubt at points that have no label.

    Args:
        sources: the numbered sweeps of each source.
        wanted: whether points of a source may get such labels; in others, what has no label has none for a reason.
        feature_bank: what the teacher says of their points, and how much it doubts that.
        share: of the points of each class that get it as their label.
    """
    found = [
        [_candidates(sweep, feature_bank) if wants and sweep.rows is not None else None for sweep in source]
        for source, wants in zip(sources, wanted, strict=True)
    ]
    every = [one for source in found for one in source if one is not None]
    if not every:
        return [list(source) for source in sources]
    label, teacher_uncertainty = (np.concatenate(column) for column in zip(*every, strict=True))
    most = np.zeros(IGNORE + 1, np.float32)
    for class_id in np.unique(label[label != IGNORE]):
        # In 16 bits, quantiles of more than 65,504 values come out as NaN.
        most[class_id] = np.quantile(teacher_uncertainty[label == class_id].astype(np.float64), share)
    return [
        [_with_certain(sweep, one, most) for sweep, one in zip(source, candidates, strict=True)]
        for source, candidates in zip(sources, found, strict=True)
    ]


_Candidates = tuple[NDArray[np.uint8], NDArray[np.float16]]
"""The most probable class of each point without a label, 255 for others, and the doubt about it."""


def _candidates(sweep: Sweep, feature_bank: PointFeatureBank) -> _Candidates:
    assert feature_bank.teacher_logits is not None and feature_bank.teacher_uncertainty is not None
    logits = feature_bank.teacher_logits[sweep.rows]
    open_to_it = is_known(logits) & (sweep.labels == IGNORE)
    label = np.where(open_to_it, logits.argmax(axis=1), IGNORE).astype(np.uint8)
    return label, feature_bank.teacher_uncertainty[sweep.rows]


def _with_certain(sweep: Sweep, candidates: _Candidates | None, most: NDArray[np.float32]) -> Sweep:
    if candidates is None:
        return sweep
    label, teacher_uncertainty = candidates
    certain = (label != IGNORE) & (teacher_uncertainty <= most[label])
    return replace(sweep, labels=np.where(certain, label, sweep.labels).astype(np.uint8))
