"""Calibration: the temperature of a network's probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmodelkd_ros.core.labels import IGNORE

_TEMPERATURES = (0.1, 10.0)
"""Range of the fitted temperature: after a few training steps, uniform probabilities would fit best."""


def fit_temperature(logits: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.uint8]]) -> float:
    """The temperature that minimises the negative log-likelihood of the labels (Guo et al. 2017)."""
    flat = torch.from_numpy(np.concatenate(logits, axis=1)).T
    target = torch.from_numpy(np.concatenate(labels)).long()
    labelled = target != IGNORE
    flat, target = flat[labelled], target[labelled]
    log_temperature = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=30, line_search_fn="strong_wolfe")

    def negative_log_likelihood() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(flat / log_temperature.exp(), target)
        loss.backward()
        return loss

    optimizer.step(negative_log_likelihood)
    return round(float(np.clip(log_temperature.exp().item(), *_TEMPERATURES)), 4)
