"""Pseudo-labels: the classes of which a teacher has the least doubt, given to points that have no label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.data.knowledge import Knowledge
from training.data.sweeps import Sweep
from xmodelkd_ros.core.labels import IGNORE


def pseudo_labelled(
    sources: Sequence[Sequence[Sweep]], wanted: Sequence[bool], knowledge: Knowledge, share: float
) -> list[list[Sweep]]:
    """The sweeps, with the classes of which a teacher has the least doubt at points that have no label.

    Args:
        sources: the numbered sweeps of each source.
        wanted: whether points of a source may get such labels; in others, what has no label has none for a reason.
        knowledge: what the teacher says of their points, and how much it doubts that.
        share: of the points of each class that get it as their label.
    """
    said = [
        [_opinion(sweep, knowledge) if wants and sweep.rows is not None else None for sweep in source]
        for source, wants in zip(sources, wanted, strict=True)
    ]
    every = [opinion for source in said for opinion in source if opinion is not None]
    if not every:
        return [list(source) for source in sources]
    label, doubt = (np.concatenate(column) for column in zip(*every, strict=True))
    most = np.zeros(IGNORE + 1, np.float32)
    for class_id in np.unique(label[label != IGNORE]):
        # In 16 bits, quantiles of more than 65,504 values come out as NaN.
        most[class_id] = np.quantile(doubt[label == class_id].astype(np.float64), share)
    return [
        [_with_certain(sweep, opinion, most) for sweep, opinion in zip(source, opinions, strict=True)]
        for source, opinions in zip(sources, said, strict=True)
    ]


_Opinion = tuple[NDArray[np.uint8], NDArray[np.float16]]
"""The most probable class of each point without a label, 255 for others, and the doubt about it."""


def _opinion(sweep: Sweep, knowledge: Knowledge) -> _Opinion:
    assert knowledge.taught is not None and knowledge.doubt is not None
    logits = knowledge.taught[sweep.rows]
    open_to_it = logits.any(axis=1) & (sweep.labels == IGNORE)
    label = np.where(open_to_it, logits.argmax(axis=1), IGNORE).astype(np.uint8)
    return label, knowledge.doubt[sweep.rows]


def _with_certain(sweep: Sweep, opinion: _Opinion | None, most: NDArray[np.float32]) -> Sweep:
    if opinion is None:
        return sweep
    label, doubt = opinion
    certain = (label != IGNORE) & (doubt <= most[label])
    return replace(sweep, labels=np.where(certain, label, sweep.labels).astype(np.uint8))
