"""Device and numerical settings of inference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

_Network = TypeVar("_Network", bound=nn.Module)


def on_fastest_device(network: _Network) -> _Network:
    """A copy of the network on the GPU; the network itself where there is no GPU."""
    return deepcopy(network).cuda() if torch.cuda.is_available() else network


@contextmanager
def inference() -> Iterator[None]:
    """Context without gradients and in full fp32: with TF32, a GPU would round convolution inputs to 10 bits."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
