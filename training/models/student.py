"""The student: a dense range-view U-Net with a head that labels every point from its pixel.

The head combines the features of a point's pixel with the offset of the point's channels from those of the pixel's
nearest point. Its first layer is linear in that offset,

    h = relu(f[pixel] + W (point - nearest)) = relu((f - W nearest)[pixel] + W point),

so the nearest point's term is folded into the dense pixel features f, and inference needs one gather of F contiguous
numbers per point. For the nearest point itself the offset is zero, and its logits are those of the pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WRAP = 32
"""Columns of circular padding on each side, so that azimuth has no seam.

They are added once, before the first convolution: padding before each convolution would cost more time in copies than
in arithmetic. 32 columns are 11 degrees at W = 1024; larger receptive fields see zero padding beyond them."""

ROW_STRIDE = 8
"""The height of the range image must be a multiple of this."""


class Student(nn.Module):
    """Network from a range image and points to the logits of every point.

    Args:
        channels: K, the channels of a point; the image has a mask as its last channel.
        classes: C.
        widths: channels of the five levels, from full resolution down.
        blocks: residual blocks of the levels 1 to 4.
        head_channels: F, features per pixel that the head gathers.
        separable: whether all convolutions except the first are depthwise separable.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: tuple[int, ...] = (24, 32, 64, 96, 112),
        blocks: tuple[int, ...] = (1, 2, 2, 1),
        head_channels: int = 24,
        separable: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.stem = convolution(channels + 1, widths[0])
        # The range image has few rows: the first level halves the azimuth resolution only.
        strides = ((1, 2), (2, 2), (2, 2), (2, 2))
        self.encoder = nn.ModuleList(
            nn.Sequential(convolution(a, b, stride, separable), *(Residual(b, separable) for _ in range(count)))
            for a, b, stride, count in zip(widths[:-1], widths[1:], strides, blocks, strict=True)
        )
        self.decoder = nn.ModuleList(
            # At full resolution another convolution costs a millisecond without improving mIoU.
            _Up(widths[level + 1], widths[level], strides[level], mix=level > 0, separable=separable)
            for level in (3, 2, 1, 0)
        )
        self.width, self.classes = widths[0], classes
        self.head = PointHead(widths[0], channels, head_channels, classes)

    def forward(self, image: Tensor, points: Tensor, pixel: Tensor) -> Tensor:
        """Logits of every point.

        Args:
            image: (B, K + 1, H, W + 2 WRAP) range images with margins: the columns beside a crop, or the circular
                padding of a whole sweep (:func:`wrap`).
            points: (B, P, K) channels of the points.
            pixel: (B, P) int32, row * W + column.

        Returns:
            (B, C, P)
        """
        logits: Tensor = self.head(self.dense(image), image, points, pixel)
        return logits

    def dense(self, image: Tensor) -> Tensor:
        """Feature maps (B, widths[0], H, V) of range images (B, K + 1, H, V)."""
        skips = [self.stem(image)]
        for level in self.encoder:
            skips.append(level(skips[-1]))
        features = skips.pop()
        for level in self.decoder:
            features = level(features, skips.pop())
        return features


class PointHead(nn.Module):
    """Head that labels every point from its pixel (see the module's docstring).

    Args:
        width: channels of the feature map.
        channels: K, the channels of a point.
        head_channels: F, features per pixel that are gathered.
        classes: C.
    """

    def __init__(self, width: int, channels: int, head_channels: int, classes: int) -> None:
        super().__init__()
        self.channels = channels
        self.pixel_proj = nn.Linear(width, head_channels)
        self.offset_proj = nn.Linear(channels, head_channels, bias=False)
        self.classify = nn.Linear(head_channels, classes)

    def forward(self, features: Tensor, image: Tensor, points: Tensor, pixel: Tensor) -> Tensor:
        """Logits (B, C, P) from feature maps (B, width, H, V) and range images (B, K + 1, H, V) with margins."""
        pixel_features = self.pixel_features(features, image)
        return torch.stack([self.logits(*sweep) for sweep in zip(pixel_features, points, pixel, strict=True)])

    def pixel_features(self, features: Tensor, image: Tensor) -> Tensor:
        """(B, H * W, F) features to gather by pixel, with the nearest point's term folded in."""
        inner = slice(WRAP, -WRAP)
        nearest = image[:, : self.channels, :, inner]
        return self.pixel_proj(_flat_pixels(features[..., inner])) - self.offset_proj(_flat_pixels(nearest))

    def logits(self, pixel_features: Tensor, points: Tensor, pixel: Tensor) -> Tensor:
        """Logits (C, P) of one sweep from :meth:`pixel_features` (H * W, F), points (P, K) and pixel (P,)."""
        # index_select becomes ONNX's Gather, which takes int32; indexing becomes GatherND, which does not.
        hidden = F.relu(pixel_features.index_select(0, pixel) + self.offset_proj(points))
        return torch.addmm(self.classify.bias[:, None], self.classify.weight, hidden.t())


def wrap(image: Tensor) -> Tensor:
    """Pad a whole sweep circularly with WRAP columns on both sides."""
    return torch.cat([image[..., -WRAP:], image, image[..., :WRAP]], dim=-1)


def at_pixels(features: Tensor, pixel: Tensor) -> Tensor:
    """Gather (B, P, D) from feature maps (B, D, H, W) at pixels (B, P), row * W + column."""
    flat = features.flatten(2).transpose(1, 2)
    return flat.gather(1, pixel.long()[..., None].expand(-1, -1, flat.shape[2]))


class Residual(nn.Module):
    """A residual block of two convolutions (He et al. 2016)."""

    def __init__(self, width: int, separable: bool = False) -> None:
        super().__init__()
        self.first = convolution(width, width, separable=separable)
        self.second = convolution(width, width, separable=separable)[:-1]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        return F.relu(x + self.second(self.first(x)))


class _Up(nn.Module):
    """Upsample deep features, add them to the skip connection, and optionally apply a convolution to the sum."""

    def __init__(self, deep: int, shallow: int, scale: tuple[int, int], mix: bool, separable: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(deep, shallow, 1, bias=False), nn.BatchNorm2d(shallow))
        self.scale = tuple(float(s) for s in scale)
        self.mix = convolution(shallow, shallow, separable=separable) if mix else nn.Identity()

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        up = F.interpolate(self.reduce(deep), scale_factor=self.scale, mode="nearest")
        return self.mix(F.relu(up + skip))


def convolution(inputs: int, outputs: int, stride: tuple[int, int] = (1, 1), separable: bool = False) -> nn.Sequential:
    """A 3 x 3 convolution, optionally depthwise separable (Howard et al. 2017), with batch normalisation and ReLU."""
    if separable:
        depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
        layers: list[nn.Module] = [depthwise, nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 1, bias=False)]
    else:
        layers = [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _flat_pixels(x: Tensor) -> Tensor:
    """Rearrange (B, F, H, W) to (B, H * W, F), so that the features of a pixel are contiguous."""
    return x.flatten(2).transpose(1, 2)
