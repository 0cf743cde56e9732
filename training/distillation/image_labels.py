"""What an image network sees at the points of sweeps, as labels that each stand for a set of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.feature_bank import ImageFeatures, mean_view
from training.image_network.classes import ImageClasses
from training.losses.segmentation import MAX_CLASS_WEIGHT
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.visibility import NO_CAMERA

_UNSURE, _SURE = 0.35, 0.85
"""Probability up to which the network says nothing, and from which it counts in full."""


def image_labels(
    features: Sequence[ImageFeatures], classes: ImageClasses
) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """What the network says of each point, and how much that counts.

    Args:
        features: class probabilities at the points of each sweep.
        classes: the network's classes.

    Returns:
        (1 + M,) numbers of its groups of classes, 255 where no camera sees the point or the class says nothing of
        points, and (1 + M,) weights: by the network's certainty, and 1 / sqrt(frequency) of the group. Row 0 stands for
        a point of no sweep.
    """
    said, certainty = [np.full(1, IGNORE, np.uint8)], [np.zeros(1, np.float32)]
    silent = np.array([not meant for meant in classes.groups.sets])
    for one in features:
        masked = np.concatenate([one.features, (one.camera != NO_CAMERA)[..., None]], axis=-1, dtype=np.float32)
        mean = mean_view(masked)
        best = mean[:, :-1].argmax(axis=1)
        known = (mean[:, -1] > 0) & ~silent[best]
        said.append(np.where(known, best, IGNORE).astype(np.uint8))
        certainty.append(np.clip((mean[:, :-1].max(axis=1) - _UNSURE) / (_SURE - _UNSURE), 0, 1) * known)
    numbers, weights = np.concatenate(said), np.concatenate(certainty)
    counts = np.bincount(numbers, weights, minlength=IGNORE + 1)[: len(silent)]
    rarity = np.sqrt(counts.max(initial=1) / np.maximum(counts, 1)).clip(1, MAX_CLASS_WEIGHT)
    numbers[weights == 0] = IGNORE
    return numbers, (weights * np.append(rarity, 0)[np.minimum(numbers, len(silent))]).astype(np.float16)
