"""Segmentation metrics: confusion matrix, IoU, calibration error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.labels import IGNORE, LabelMap


class ConfusionMatrix:
    """Confusion matrix, accumulated over sweeps.

    ``counts`` is (C, C + 1): row = truth, column = prediction. The last column counts predictions without a label or
    with one outside the set. Points without ground truth are not counted.
    """

    def __init__(self, label_map: LabelMap) -> None:
        self.label_map = label_map
        self._row_of_id = np.full(256, len(label_map), np.int64)
        for row, c in enumerate(label_map.classes):
            self._row_of_id[c.id] = row
        self.counts = np.zeros((len(label_map), len(label_map) + 1), np.int64)

    def update(self, truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> None:
        """Add (N,) true and predicted ids."""
        rows, columns = self._row_of_id[truth], self._row_of_id[predicted]
        size = len(self.label_map)
        known = rows < size
        pairs = rows[known] * (size + 1) + columns[known]
        self.counts += np.bincount(pairs, minlength=size * (size + 1)).reshape(self.counts.shape)

    @property
    def points(self) -> dict[str, int]:
        """Number of ground-truth points of each class."""
        return dict(zip(self.label_map.names, self.counts.sum(axis=1).tolist(), strict=True))

    def iou(self) -> dict[str, float | None]:
        """IoU of each class, TP / (TP + FP + FN); None for classes absent from the ground truth."""
        hits = np.diagonal(self.counts)
        truth = self.counts.sum(axis=1)
        union = truth + self.counts[:, :-1].sum(axis=0) - hits
        return {name: float(hits[i] / union[i]) if truth[i] else None for i, name in enumerate(self.label_map.names)}

    def miou(self, exclude: Sequence[str] = (), *, occurring_only: bool = False) -> float | None:
        """Mean IoU over the classes that occur in the ground truth; None if none occurs.

        In a label set with ``mean_over_all``, classes that do not occur count as 0. In one with ``min_points``, classes
        with fewer points of ground truth do not count.

        Args:
            exclude: names of classes to leave out.
            occurring_only: ignore ``mean_over_all``.
        """
        ious, points = {name: v for name, v in self.iou().items() if name not in exclude}, self.points
        values = [v for name, v in ious.items() if v is not None and points[name] >= self.label_map.min_points]
        count = len(ious) if self.label_map.mean_over_all and not occurring_only else len(values)
        return float(np.sum(values) / count) if values else None


class CalibrationError:
    """Expected calibration error with equal-width bins, accumulated over sweeps (Guo et al. 2017)."""

    def __init__(self, bins: int = 10) -> None:
        self._count = np.zeros(bins, np.int64)
        self._confidence = np.zeros(bins, np.float64)
        self._correct = np.zeros(bins, np.int64)

    def update(
        self, truth: NDArray[np.integer], predicted: NDArray[np.integer], probability: NDArray[np.floating]
    ) -> None:
        """Add (N,) true ids, predicted ids and their probabilities; points without truth or label are not counted."""
        counted = (truth != IGNORE) & (predicted != IGNORE) & (probability >= 0)
        bins = len(self._count)
        index = np.minimum((probability[counted] * bins).astype(np.int64), bins - 1)
        self._count += np.bincount(index, minlength=bins)
        self._confidence += np.bincount(index, probability[counted], bins)
        self._correct += np.bincount(index[truth[counted] == predicted[counted]], minlength=bins)

    @property
    def bins(self) -> NDArray[np.float64]:
        """(3, bins) per probability bin: number of points, sum of probabilities, number of correct points.

        The data of a reliability diagram (DeGroot and Fienberg 1983); bins of several sweeps add up.
        """
        return np.stack([self._count, self._confidence, self._correct]).astype(np.float64)

    def value(self) -> float | None:
        """Mean gap between confidence and accuracy, weighted by points; None without points."""
        if not self._count.any():
            return None
        return float(np.abs(self._confidence - self._correct).sum() / self._count.sum())
