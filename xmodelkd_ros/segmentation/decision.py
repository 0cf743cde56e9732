"""From logits to label, probability and entropy of every point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.labels import IGNORE, LabelMap, LabelTranslation

_BLOCK = 16384
"""Points that are decided at a time: what is computed on the way then stays in the cache."""


def decide(
    logits: NDArray[np.float32],
    valid: NDArray[np.bool_],
    temperature: float,
    labels: LabelMap,
    into: LabelTranslation | None = None,
) -> Segmentation:
    """Calibrated label, probability and entropy of each point.

    Args:
        logits: (C, N), class first, so that every reduction runs along memory.
        valid: (N,) whether the point has a usable position. Without, or where its logits make no probabilities because
            they are not finite, it gets no label.
        temperature: logits are divided by it.
        labels: the classes of the logits, in order.
        into: where given, the result is in its target set.
    """
    result = Segmentation.unlabelled(logits.shape[1])
    for start in range(0, len(result), _BLOCK):
        block = slice(start, start + _BLOCK)
        with np.errstate(invalid="ignore"):  # of logits that are not finite
            best, probability, entropy = _decide_block(logits[:, block], temperature, into)
        result.label[block], result.probability[block], result.entropy[block] = best, probability, entropy
    ids = np.array([c.id for c in (labels if into is None else into.target).classes], np.uint8)
    np.take(ids, result.label, out=result.label, mode="clip")
    known = valid & ~np.isnan(result.entropy)
    if not known.all():
        result.label[~known], result.probability[~known], result.entropy[~known] = IGNORE, 0, np.nan
    return result


def _decide_block(
    logits: NDArray[np.float32], temperature: float, into: LabelTranslation | None
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Row, probability and normalised entropy of the best class of each column."""
    scaled = logits - logits.max(axis=0)
    scaled *= np.float32(1 / temperature)
    weights = np.exp(scaled)
    total = weights.sum(axis=0)
    if into is None:
        # The best class has the weight 1; H = ln(sum of weights) - mean of the scaled logits.
        best, probability = _row_where(scaled == 0), 1 / total
        entropy = np.log(total) - np.einsum("cn,cn->n", weights, scaled) * probability
        return best, probability, _of_most(entropy, len(logits))
    probabilities = into.merge(weights / total)
    probability = probabilities.max(axis=0)
    entropy = -np.einsum("cn,cn->n", probabilities, np.log(np.maximum(probabilities, np.float32(1e-12))))
    # Sums of classes that merge are rounded, up to above 1.
    best, probability = _row_where(probabilities == probability), np.minimum(probability, np.float32(1))
    return best, probability, _of_most(entropy, len(probabilities))


def _row_where(holds: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The last row of each column that holds; numpy's argmax along the first axis takes ten times as long."""
    rows = np.arange(len(holds), dtype=np.uint8)[:, None]
    row: NDArray[np.uint8] = (holds.view(np.uint8) * rows).max(axis=0)
    return row


def _of_most(entropy: NDArray[np.float32], classes: int) -> NDArray[np.float32]:
    """The share of the largest possible entropy."""
    return np.asarray(np.clip(entropy * np.float32(1 / np.log(classes)), 0, 1))
