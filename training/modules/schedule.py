"""The learning rate over a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch


class Steps(Protocol):
    """The part of a configuration that a schedule needs."""

    @property
    def epochs(self) -> int: ...  # noqa: D102

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def learning_rate(self) -> float: ...  # noqa: D102


def one_cycle(optimizer: torch.optim.Optimizer, steps: Steps, rates: Sequence[float]) -> dict[str, Any]:
    """A one-cycle schedule over the whole run, as Lightning takes it.

    Args:
        optimizer: the optimizer.
        steps: the run's length.
        rates: the peak of each group of parameters.
    """
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, list(rates), total_steps=steps.epochs * steps.steps, pct_start=0.1
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
