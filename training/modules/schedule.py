"""Learning rate schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch


class RunLength(Protocol):
    """The settings that a schedule needs."""

    @property
    def epochs(self) -> int: ...  # noqa: D102

    @property
    def steps(self) -> int: ...  # noqa: D102


def one_cycle(optimizer: torch.optim.Optimizer, length: RunLength, rates: Sequence[float]) -> dict[str, Any]:
    """A one-cycle schedule over the whole run, with a peak rate for each parameter group, as Lightning takes it."""
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, list(rates), total_steps=length.epochs * length.steps, pct_start=0.1
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
