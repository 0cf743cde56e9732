"""What an image network sees at the points of sweeps, as labels that each stand for a set of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.feature_bank import ImageFeatures, mean_view
from training.data.label_propagation import MOVABLE, fused_votes
from training.datasets.sequence import DriveSequence
from training.image_network.classes import ImageClasses
from training.losses.segmentation import MAX_CLASS_WEIGHT
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.visibility import NO_CAMERA

_UNSURE, _SURE = 0.35, 0.85
"""Probability up to which the network says nothing, and from which it counts in full."""


def image_labels(
    features: Sequence[ImageFeatures],
    classes: ImageClasses,
    frames: Sequence[tuple[DriveSequence, int] | None] = (),
    fuse_m: float = 0.0,
) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """What the network says of each point, and how much that counts.

    Args:
        features: class probabilities at the points of each sweep.
        classes: the network's classes.
        frames: drive and frame number of each sweep, see :func:`fused_votes`.
        fuse_m: side of the voxels in which what it says of standing things in all sweeps is averaged; 0: not.

    Returns:
        (1 + M,) numbers of its groups of classes, 255 where no camera sees the point or the class says nothing of
        points, and (1 + M,) weights: by the network's certainty, and 1 / sqrt(frequency) of the group. Row 0 stands for
        a point of no sweep.
    """
    groups = classes.groups
    probabilities = [_seen_probabilities(one) for one in features]
    if fuse_m:
        movable = [k for k, meant in enumerate(groups.sets) if not {*MOVABLE}.isdisjoint(meant)]
        votes = fused_votes(probabilities, frames, fuse_m, movable)
        probabilities = [_fused(own, v, movable) for own, v in zip(probabilities, votes, strict=True)]
    silent = np.array([not meant for meant in groups.sets])
    said, certainty = [np.full(1, IGNORE, np.uint8)], [np.zeros(1, np.float32)]
    for own in probabilities:
        best = own.argmax(axis=1)
        known = own.any(axis=1) & ~silent[best]
        said.append(np.where(known, best, IGNORE).astype(np.uint8))
        certainty.append(np.clip((own.max(axis=1) - _UNSURE) / (_SURE - _UNSURE), 0, 1) * known)
    numbers, weights = np.concatenate(said), np.concatenate(certainty)
    counts = np.bincount(numbers, weights, minlength=IGNORE + 1)[: len(silent)]
    rarity = np.sqrt(counts.max(initial=1) / np.maximum(counts, 1)).clip(1, MAX_CLASS_WEIGHT)
    numbers[weights == 0] = IGNORE
    return numbers, (weights * np.append(rarity, 0)[np.minimum(numbers, len(silent))]).astype(np.float16)


def _seen_probabilities(features: ImageFeatures) -> NDArray[np.float32]:
    """(N, G) mean over the cameras; zeros for points that none sees."""
    masked = np.concatenate([features.features, (features.camera != NO_CAMERA)[..., None]], axis=-1, dtype=np.float32)
    return mean_view(masked)[:, :-1]


def _fused(own: NDArray[np.float32], votes: NDArray[np.float32] | None, movable: Sequence[int]) -> NDArray[np.float32]:
    """Shares of the votes where there are any; the sweep's own probabilities elsewhere, and of what may move."""
    if votes is None:
        return own
    total = votes.sum(axis=1, keepdims=True)
    moves = np.isin(own.argmax(axis=1), movable) & own.any(axis=1)
    replaced = (total[:, 0] > 0) & ~moves
    return np.where(replaced[:, None], votes / np.maximum(total, 1e-6), own)
