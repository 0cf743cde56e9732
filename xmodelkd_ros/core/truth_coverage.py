"""Ground truth that has no counterpart in the label set of the scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import listed
from xmodelkd_ros.core.labels import IGNORE, LabelMap


class TruthCoverage:
    """Counts points by their true id, to name the ids that are not scored.

    Args:
        label_map: the label set that defines the ids.
    """

    def __init__(self, label_map: LabelMap) -> None:
        self._names = {c.id: c.name for c in label_map.classes}
        self._set = label_map.name
        self._counts = np.zeros(256, np.int64)

    def add(self, truth: NDArray[np.uint8]) -> None:
        """Add the (N,) ids of a sweep."""
        self._counts += np.bincount(truth, minlength=256)

    def notes(self, lookup: NDArray[np.uint8], target: str) -> list[str]:
        """One line each for classes and for undefined ids without a counterpart, with their share of the points.

        Args:
            lookup: (256,) id in the target set of each id; 255 if ignored.
            target: name of the target set.
        """
        counts = self._counts.copy()
        counts[IGNORE] = 0
        if self._counts.any() and not counts.any():
            return [f"no score: the ground truth labels no point, all have {IGNORE}"]
        lost = np.flatnonzero((counts > 0) & (lookup == IGNORE))
        share = {int(i): f"{max(counts[i] / counts.sum(), 0.0001):.2%} of the labelled points" for i in lost}
        unnamed = [f"{i} ({text})" for i, text in share.items() if i not in self._names]
        named = [f"{self._names[i]} (id {i}, {text})" for i, text in share.items() if i in self._names]
        notes = [f"not scored, since {target} has no counterpart: {listed(named)}"] if named else []
        if unnamed:
            notes.append(f"not scored, since the label set {self._set} does not define the ids: {listed(unnamed)}")
        return notes
