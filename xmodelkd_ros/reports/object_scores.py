"""Precision and recall of object boxes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.object_box import ObjectBox
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.opencv import opencv

MIN_IOU = 0.3
"""Overlap seen from above from which two boxes are of one object."""


class ObjectScores:
    """Compares the boxes around predicted labels with those around true ones, found in the same way.

    In each sweep, boxes of one class are paired in the order of their overlap seen from above, each at most once.
    """

    def __init__(self) -> None:
        self._predicted: Counter[str] = Counter()
        self._true: Counter[str] = Counter()
        self._matched: Counter[str] = Counter()

    def add(self, predicted: Sequence[ObjectBox], true: Sequence[ObjectBox]) -> None:
        """Add the boxes of a sweep."""
        self._predicted.update(box.class_name for box in predicted)
        self._true.update(box.class_name for box in true)
        self._matched.update(true[k].class_name for _, k in _pairs(predicted, true))

    def metrics(self) -> dict[str, Any]:
        """For each class precision and recall (None without a box), and numbers of boxes."""
        return {
            name: {
                "precision": _share(self._matched[name], self._predicted[name]),
                "recall": _share(self._matched[name], self._true[name]),
                "predicted": self._predicted[name],
                "true": self._true[name],
            }
            for name in sorted(self._predicted | self._true)
        }


def _share(part: int, total: int) -> float | None:
    return part / total if total else None


def _pairs(predicted: Sequence[ObjectBox], true: Sequence[ObjectBox]) -> list[tuple[int, int]]:
    """Indices of the boxes that are of one object."""
    overlaps = _overlaps(predicted, true)
    pairs: list[tuple[int, int]] = []
    while overlaps.size and (best := overlaps.max()) >= MIN_IOU:
        row, column = (int(k) for k in np.argwhere(overlaps == best)[0])
        pairs.append((row, column))
        overlaps[row], overlaps[:, column] = 0, 0
    return pairs


def _overlaps(predicted: Sequence[ObjectBox], true: Sequence[ObjectBox]) -> NDArray[np.float64]:
    """(P, T) intersection over union seen from above; 0 for boxes of different classes."""
    overlaps = np.zeros((len(predicted), len(true)))
    for row, one in enumerate(predicted):
        for column, other in enumerate(true):
            reach = (math.hypot(*one.size[:2]) + math.hypot(*other.size[:2])) / 2
            if one.class_name == other.class_name and math.dist(one.center[:2], other.center[:2]) < reach:
                overlaps[row, column] = _overlap(one, other)
    return overlaps


def _overlap(one: ObjectBox, other: ObjectBox) -> float:
    _, corners = opencv().rotatedRectangleIntersection(_seen_from_above(one), _seen_from_above(other))
    if corners is None:
        return 0.0
    common = float(opencv().contourArea(opencv().convexHull(corners)))
    areas = (box.size[0] * box.size[1] for box in (one, other))
    return common / max(sum(areas) - common, 1e-6)


def _seen_from_above(box: ObjectBox) -> tuple[tuple[float, float], tuple[float, float], float]:
    """OpenCV's rotated rectangle: centre, size, and angle in degrees."""
    rotation = transform(box.center, box.orientation)
    angle = math.degrees(math.atan2(rotation[1, 0], rotation[0, 0]))
    return (box.center[0], box.center[1]), (box.size[0], box.size[1]), angle
