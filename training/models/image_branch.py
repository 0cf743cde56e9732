"""The teacher's image branch: a feature map of an image, and per-pixel class logits for its training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.image_encoder import CHANNELS, pretrained, pyramid

IMAGE_SIZE = (384, 640)
"""Height and width that every image is resized to."""
_WIDTH = 48
"""Channels of the pyramid."""


class ImageBranch(nn.Module):
    """A pre-trained encoder with a feature pyramid (Lin et al. 2017) down to stride 4.

    The encoder's batch normalisation keeps its ImageNet statistics, because batches are too small to estimate new ones.

    Args:
        features: F, channels of the feature map.
        classes: C.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.encoder = pretrained()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, _WIDTH, 1, bias=False), nn.BatchNorm2d(_WIDTH))
            for channels in CHANNELS.values()
        )
        self.smooth = nn.Sequential(
            nn.Conv2d(_WIDTH, features, 3, padding=1, bias=False), nn.BatchNorm2d(features), nn.ReLU(inplace=True)
        )
        self.classify = nn.Linear(features, classes)

    def train(self, mode: bool = True) -> ImageBranch:
        """Set the training mode of all modules except the encoder, which stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps (B, F, H / 4, W / 4) of RGB images (B, 3, H, W) in 0..255; H and W are multiples of 32."""
        levels = [lateral(x) for lateral, x in zip(self.lateral, pyramid(self.encoder, images), strict=True)]
        x = levels.pop()
        while levels:
            x = F.relu(levels.pop() + F.interpolate(x, scale_factor=2.0, mode="nearest"))
        features: Tensor = self.smooth(x)
        return features


def sample(features: Tensor, uv: Tensor) -> Tensor:
    """Sample feature maps bilinearly at image coordinates: (B, F, ...).

    The encoder pads only at the right and bottom, so its cells are centred 1.5 pixels too far right and down. The
    trained pyramid compensates: sampling 1.5 pixels to any side does not improve the validation score.

    Args:
        features: (B, F, h, w) feature maps.
        uv: (B, ..., 2) coordinates, -1 to 1 from edge to edge.
    """
    flat = uv.flatten(1, -2)[:, None]
    sampled = F.grid_sample(features, flat, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[:, :, 0].unflatten(2, uv.shape[1:-1])


def to_tensor(pixels: Tensor) -> Tensor:
    """Convert (B, H, W, 3) bytes to a (B, 3, H, W) float tensor."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32)
