"""Losses on the labels of points."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodelkd_ros.core.labels import IGNORE

MAX_CLASS_WEIGHT = 8.0

_Loss = Callable[..., Tensor]


def _wide(value: Tensor | float) -> Tensor | float:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _in_fp32(loss: _Loss) -> _Loss:
    """Computed in fp32 whatever the network is computed in: bf16 cannot tell small differences."""

    @wraps(loss)
    def computed(first: Tensor, *others: Tensor | float) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            return loss(*(_wide(value) for value in (first, *others)))

    return computed


def class_weights(counts: Tensor) -> Tensor:
    """Weights that rise with the rarity of a class, 1 / sqrt(frequency) relative to the most frequent, at most 8.

    Args:
        counts: (C,) points of each class in the training data. A class that does not occur weighs as much as the
            rarest: a teacher may know it.
    """
    weights = torch.sqrt(counts.max() / counts.clamp(min=1)).clamp(max=MAX_CLASS_WEIGHT)
    return torch.where(counts > 0, weights, MAX_CLASS_WEIGHT)


@_in_fp32
def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy plus Lovász-softmax, each averaged over the labelled points.

    Args:
        logits: (B, C, P).
        labels: (B, P) class ids, 255 where there is none.
        weights: (C,) of :func:`class_weights`.
    """
    flat = logits.transpose(0, 1).flatten(1).T
    known = labels.flatten() != IGNORE
    flat, target = flat[known], labels.flatten()[known].long()
    if target.numel() == 0:
        return logits.sum() * 0.0
    return F.cross_entropy(flat, target, weights) + lovasz_softmax(flat.softmax(dim=1), target)


@_in_fp32
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


@_in_fp32
def divergence(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student's classes from the teacher's (Hinton et al. 2015, temperature 1).

    Summed over the classes; averaged over the points, weighted by the class that the teacher says.

    Args:
        student: (M, C) logits.
        teacher: (M, C) logits.
        weights: (C,).
    """
    each = F.kl_div(student.log_softmax(dim=1), teacher.log_softmax(dim=1), reduction="none", log_target=True).sum(
        dim=1
    )
    weight = weights[teacher.argmax(dim=1)]
    return (weight * each).sum() / weight.sum().clamp(min=1e-6)


def _lovasz_gradient(foreground: Tensor) -> Tensor:
    """Steps of the Jaccard loss as points are given up in order (Berman et al. 2018, algorithm 1)."""
    total = foreground.sum()
    intersection = total - foreground.cumsum(0)
    union = total + (1 - foreground).cumsum(0)
    jaccard = 1 - intersection / union
    return torch.diff(jaccard, prepend=jaccard.new_zeros(1))
