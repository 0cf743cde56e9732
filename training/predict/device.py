"""Where trained networks label sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

_Network = TypeVar("_Network", bound=nn.Module)


def on_fastest_device(network: _Network) -> _Network:
    """The network itself, or where there is a GPU a copy of it there: a teacher labels many sweeps."""
    return deepcopy(network).cuda() if torch.cuda.is_available() else network


@contextmanager
def inference() -> Iterator[None]:
    """Without gradients, and in full fp32: a GPU would round what convolutions multiply to 10 bits."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
