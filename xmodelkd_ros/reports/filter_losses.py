"""What a filter that drops classes of points removes, by the probability that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.labels import IGNORE, LabelMap

MAX_RANGE_M = 20.0
"""Horizontal range up to which points count: farther ones are rarely in the map of an obstacle layer."""
PROBABILITIES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class FilterLosses:
    """Counts true points of each class that a filter removes: those with a label to drop that is probable enough.

    Args:
        labels: the label set of labels and truth.
        drop: names of the classes to drop.

    Raises:
        LabelError: the label set lacks one of them.
    """

    def __init__(self, labels: LabelMap, drop: Sequence[str]) -> None:
        self._labels, self._drop = labels, tuple(drop)
        self._dropped_ids = [labels.id_of(name) for name in drop]
        self._points = np.zeros(IGNORE + 1, np.int64)
        self._removed = np.zeros((len(PROBABILITIES), IGNORE + 1), np.int64)

    def add(self, cloud: PointCloud, segmentation: Segmentation, truth: NDArray[np.uint8]) -> None:
        """Add a sweep with its labels and (N,) true ids."""
        near = np.hypot(cloud.xyz[:, 0], cloud.xyz[:, 1]) <= MAX_RANGE_M
        self._points += np.bincount(truth[near], minlength=IGNORE + 1)
        dropped = near & np.isin(segmentation.label, self._dropped_ids)
        for row, probability in zip(self._removed, PROBABILITIES, strict=True):
            row += np.bincount(truth[dropped & (segmentation.probability >= probability)], minlength=IGNORE + 1)

    def metrics(self) -> dict[str, Any]:
        """Share of each class that is removed, in the order of ``min_probability``; classes without points left out."""
        known = [c for c in self._labels.classes if self._points[c.id]]
        return {
            "drop": list(self._drop),
            "max_range_m": MAX_RANGE_M,
            "min_probability": list(PROBABILITIES),
            "removed": {c.name: (self._removed[:, c.id] / self._points[c.id]).tolist() for c in known},
        }
