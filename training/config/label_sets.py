"""The label sets that training learns and is scored in."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.resources import label_map, translation

if TYPE_CHECKING:
    from training.data.sequence import DriveSequence

LABELS = "drive13"
SCORED_LABELS = "pandaset9"
"""Classes that PandaSet has enough points of; confusion is counted after mapping both sides to them."""
BENCHMARK_LABELS = {"semantickitti19": "semantickitti", "nuscenes16": "nuscenes"}
"""Label sets that only the dataset of a benchmark has: what drive13 has merged cannot be told apart again."""
LABEL_SETS = (LABELS, *BENCHMARK_LABELS)
"""What a student can learn: the project's classes, or those of a benchmark, to be scored as it scores."""


def scored_labels(labels: str) -> str:
    """The set that a network is scored in while it is trained, by the set that it learns."""
    return SCORED_LABELS if labels == LABELS else labels


def labels_of(drive: DriveSequence, index: int, labels: str = LABELS) -> NDArray[np.uint8]:
    """(N,) labels of a sweep's points in another label set than the drive's own."""
    return _lookup(drive.label_map, labels)[drive.labels(index)]


@lru_cache(maxsize=16)
def _lookup(source: LabelMap, target: str) -> NDArray[np.uint8]:
    return translation(source, label_map(target)).lookup
