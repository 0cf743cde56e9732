"""Losses on the labels of points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodelkd_ros.core.labels import IGNORE

MAX_CLASS_WEIGHT = 8.0


def class_weights(counts: Tensor) -> Tensor:
    """Weights that rise with the rarity of a class, 1 / sqrt(frequency) relative to the most frequent, at most 8.

    Args:
        counts: (C,) points of each class in the training data. A class that does not occur weighs 0.
    """
    weights = torch.sqrt(counts.max() / counts.clamp(min=1)).clamp(max=MAX_CLASS_WEIGHT)
    return weights * (counts > 0)


def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy plus Lovász-softmax, each averaged over the labelled points.

    Args:
        logits: (B, C, P).
        labels: (B, P) class ids, 255 where there is none.
        weights: (C,) of :func:`class_weights`.
    """
    flat = logits.float().transpose(0, 1).flatten(1).T
    known = labels.flatten() != IGNORE
    flat, target = flat[known], labels.flatten()[known].long()
    if target.numel() == 0:
        return logits.sum() * 0.0
    return F.cross_entropy(flat, target, weights) + lovasz_softmax(flat.softmax(dim=1), target)


def lovasz_softmax(probabilities: Tensor, target: Tensor) -> Tensor:
    """Lovász extension of the Jaccard loss, averaged over the classes that occur (Berman et al. 2018, eq. 11).

    Args:
        probabilities: (N, C), rows sum to 1.
        target: (N,) class ids.
    """
    losses = []
    for c in torch.unique(target).tolist():
        foreground = (target == c).float()
        errors, order = (foreground - probabilities[:, c]).abs().sort(descending=True)
        losses.append(errors @ _lovasz_gradient(foreground[order]))
    return torch.stack(losses).mean()


def _lovasz_gradient(foreground: Tensor) -> Tensor:
    """Steps of the Jaccard loss as points are given up in order (Berman et al. 2018, algorithm 1)."""
    total = foreground.sum()
    intersection = total - foreground.cumsum(0)
    union = total + (1 - foreground).cumsum(0)
    jaccard = 1 - intersection / union
    return torch.diff(jaccard, prepend=jaccard.new_zeros(1))
