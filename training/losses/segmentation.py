"""Segmentation losses: cross-entropy, Lovász-softmax and divergence."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodelkd_ros.core.labels import IGNORE

MAX_CLASS_WEIGHT = 8.0

_Loss = Callable[..., Tensor]


def _to_fp32(value: Tensor | float) -> Tensor | float:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def in_fp32(loss: _Loss) -> _Loss:
    """Decorator that computes a loss in fp32 under autocast: bf16 cannot resolve small differences."""

    @wraps(loss)
    def computed(first: Tensor, *others: Tensor | float) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            return loss(*(_to_fp32(value) for value in (first, *others)))

    return computed


def class_weights(counts: Tensor) -> Tensor:
    """Class weights 1 / sqrt(frequency), relative to the most frequent class and at most 8.

    Args:
        counts: (C,) points of each class in the training data. A class that does not occur has the largest weight, as
            pseudo-labels may contain it.
    """
    weights = torch.sqrt(counts.max() / counts.clamp(min=1)).clamp(max=MAX_CLASS_WEIGHT)
    return torch.where(counts > 0, weights, MAX_CLASS_WEIGHT)


@in_fp32
def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy plus Lovász-softmax, each averaged over the labelled points.

    Args:
        logits: (B, C, P).
        labels: (B, P) class ids, 255 for unlabelled points.
        weights: (C,) from :func:`class_weights`.
    """
    flat = logits.transpose(0, 1).flatten(1).T
    known = labels.flatten() != IGNORE
    flat, target = flat[known], labels.flatten()[known].long()
    if target.numel() == 0:
        return logits.sum() * 0.0
    return F.cross_entropy(flat, target, weights) + lovasz_softmax(flat.softmax(dim=1), target)


@in_fp32
def lovasz_softmax(probabilities: Tensor, target: Tensor) -> Tensor:
    """Lovász extension of the Jaccard loss, averaged over the classes that occur (Berman et al. 2018, eq. 11).

    Args:
        probabilities: (N, C), whose rows sum to 1.
        target: (N,) class ids.
    """
    classes = torch.unique(target)
    foreground = (target == classes[:, None]).float()
    errors, order = (foreground - probabilities[:, classes].T).abs().sort(dim=1, descending=True)
    return (errors * _lovasz_gradient(foreground.gather(1, order))).sum(dim=1).mean()


@in_fp32
def divergence(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the teacher's class distribution (Hinton et al. 2015, temperature 1).

    Summed over the classes; averaged over the points, weighted by the teacher's most probable class.

    Args:
        student: (M, C) logits.
        teacher: (M, C) logits.
        weights: (C,).
    """
    per_class = F.kl_div(student.log_softmax(dim=1), teacher.log_softmax(dim=1), reduction="none", log_target=True)
    weight = weights[teacher.argmax(dim=1)]
    return (weight * per_class.sum(dim=1)).sum() / weight.sum().clamp(min=1e-6)


def _lovasz_gradient(foreground: Tensor) -> Tensor:
    """Increments of the Jaccard loss of each class (row) over points sorted by error (ibid., algorithm 1)."""
    total = foreground.sum(dim=1, keepdim=True)
    intersection = total - foreground.cumsum(1)
    union = total + (1 - foreground).cumsum(1)
    jaccard = 1 - intersection / union
    return torch.diff(jaccard, dim=1, prepend=torch.zeros_like(total))
