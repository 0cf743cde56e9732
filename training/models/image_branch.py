"""The teacher's eyes: features and classes of every place in an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.image_encoder import CHANNELS, pretrained, pyramid

IMAGE_SIZE = (384, 640)
"""Height and width to which every image is brought, whatever its camera's."""


class ImageBranch(nn.Module):
    """A pre-trained encoder and a feature pyramid on it (Lin et al. 2017), down to stride 4.

    The encoder's batch normalisation keeps its ImageNet statistics: batches here are too small for their own.

    Args:
        features: number of features of a place.
        classes: C.
        width: channels of the pyramid.
    """

    def __init__(self, features: int, classes: int, width: int = 48) -> None:
        super().__init__()
        self.features = features
        self.encoder = pretrained()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
            for channels in CHANNELS.values()
        )
        self.smooth = nn.Sequential(
            nn.Conv2d(width, features, 3, padding=1, bias=False), nn.BatchNorm2d(features), nn.ReLU(inplace=True)
        )
        self.classify = nn.Linear(features, classes)

    def train(self, mode: bool = True) -> ImageBranch:
        """Training mode for all but the encoder."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, F, H / 4, W / 4) features of RGB images (B, 3, H, W), 0 to 255; H and W multiples of 32."""
        levels = [lateral(x) for lateral, x in zip(self.lateral, pyramid(self.encoder, images, 32), strict=True)]
        x = levels.pop()
        while levels:
            x = F.relu(levels.pop() + F.interpolate(x, scale_factor=2.0, mode="nearest"))
        found: Tensor = self.smooth(x)
        return found


def sample(features: Tensor, uv: Tensor) -> Tensor:
    """(B, F, ...) features at places (B, ..., 2) of images, -1 to 1 from edge to edge, from maps (B, F, h, w).

    The encoder pads behind only, so that its cells look 1.5 pixels to the right and below; the pyramid on it learns to
    make up for that: a trained one is no better on the choosing pictures if sampled 1.5 pixels to any side.
    """
    flat = uv.flatten(1, -2)[:, None]
    found = F.grid_sample(features, flat, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0].unflatten(2, uv.shape[1:-1])


def to_tensor(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) float from (B, H, W, 3) bytes."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32)
