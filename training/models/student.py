"""The student: a dense range-view U-Net, and a head that labels every point from its pixel.

The head only gathers: a point takes the features of its pixel and the difference between its own
channels and those of the pixel's nearest point. The first layer is linear in that difference,

    h = relu(table[pixel] + W (point - nearest)) = relu((table - W nearest)[pixel] + W point),

so the nearest point's part is folded into the dense table, and one gather of a few contiguous
numbers per point is left. A point that is itself the nearest has no difference and gets what the
pixel says.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WRAP = 32
"""Columns taken over from the other end of the sweep on each side, so that azimuth has no seam.

They are added once, before the first convolution, and not before each, which would cost more
copying than computing. 32 columns are 11 degrees at W = 1024; what reaches farther fades out in
the zero padding."""

ROW_STRIDE = 8
"""Height of the image must be a multiple of this."""


class Student(nn.Module):
    """Range image and points in, logits of every point out.

    Args:
        channels: K, the channels of a point; the image has a mask after them.
        classes: C.
        widths: channels of the five levels, from full resolution down.
        blocks: residual blocks of the levels 1 to 4.
        table: F, features per pixel that the head gathers.
        separable: whether convolutions but the first are depthwise separable.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: tuple[int, ...] = (24, 32, 64, 96, 112),
        blocks: tuple[int, ...] = (1, 2, 2, 1),
        table: int = 24,
        separable: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.stem = convolution(channels + 1, widths[0])
        # Rows are few and beams coarse: the first level halves azimuth only.
        strides = ((1, 2), (2, 2), (2, 2), (2, 2))
        self.encoder = nn.ModuleList(
            nn.Sequential(convolution(a, b, stride, separable), *(Residual(b, separable) for _ in range(count)))
            for a, b, stride, count in zip(widths[:-1], widths[1:], strides, blocks, strict=True)
        )
        self.decoder = nn.ModuleList(
            # At full resolution another convolution costs a millisecond and brought nothing.
            _Up(widths[level + 1], widths[level], strides[level], mix=level > 0, separable=separable)
            for level in (3, 2, 1, 0)
        )
        self.width, self.classes = widths[0], classes
        self.head = PointHead(widths[0], channels, table, classes)

    def forward(self, image: Tensor, points: Tensor, pixel: Tensor) -> Tensor:
        """Logits of every point.

        Args:
            image: (B, K + 1, H, W + 2 WRAP) range images with margins: what lies beside a crop, or for a whole sweep
                its other end (:func:`wrap`).
            points: (B, P, K) channels of the points.
            pixel: (B, P) int32, row * W + column.

        Returns:
            (B, C, P)
        """
        logits: Tensor = self.head(self.dense(image), image, points, pixel)
        return logits

    def dense(self, image: Tensor) -> Tensor:
        """(B, widths[0], H, V) features of images (B, K + 1, H, V)."""
        skips = [self.stem(image)]
        for level in self.encoder:
            skips.append(level(skips[-1]))
        features = skips.pop()
        for level in self.decoder:
            features = level(features, skips.pop())
        return features


class PointHead(nn.Module):
    """Labels every point from its pixel.

    Args:
        width: features of a pixel.
        channels: K, the channels of a point.
        table: F, what the head gathers of a pixel.
        classes: C.
    """

    def __init__(self, width: int, channels: int, table: int, classes: int) -> None:
        super().__init__()
        self.channels = channels
        self.table = nn.Linear(width, table)
        self.difference = nn.Linear(channels, table, bias=False)
        self.classify = nn.Linear(table, classes)

    def forward(self, features: Tensor, image: Tensor, points: Tensor, pixel: Tensor) -> Tensor:
        """(B, C, P) from features (B, width, H, V) and range images (B, K + 1, H, V) with margins."""
        tables = self.tables(features, image)
        return torch.stack([self.label(*sweep) for sweep in zip(tables, points, pixel, strict=True)])

    def tables(self, features: Tensor, image: Tensor) -> Tensor:
        """(B, H * W, F) what is gathered."""
        inner = slice(WRAP, -WRAP)
        nearest = image[:, : self.channels, :, inner]
        return self.table(_rows(features[..., inner])) - self.difference(_rows(nearest))

    def label(self, table: Tensor, points: Tensor, pixel: Tensor) -> Tensor:
        """Logits (C, P) of one sweep's points, from its table (H * W, F), points (P, K) and pixel (P,)."""
        # index_select becomes ONNX's Gather, which takes int32; indexing becomes GatherND, which does not.
        hidden = F.relu(table.index_select(0, pixel) + self.difference(points))
        return torch.addmm(self.classify.bias[:, None], self.classify.weight, hidden.t())


def wrap(image: Tensor) -> Tensor:
    """Take WRAP columns over from the other end of the sweep, on both sides."""
    return torch.cat([image[..., -WRAP:], image, image[..., :WRAP]], dim=-1)


def at_pixels(features: Tensor, pixel: Tensor) -> Tensor:
    """(B, P, D) features (B, D, H, W) at pixels (B, P), row * W + column."""
    flat = features.flatten(2).transpose(1, 2)
    return flat.gather(1, pixel.long()[..., None].expand(-1, -1, flat.shape[2]))


class Residual(nn.Module):
    """Two convolutions around which the input is added (He et al. 2016)."""

    def __init__(self, width: int, separable: bool = False) -> None:
        super().__init__()
        self.first = convolution(width, width, separable=separable)
        self.second = convolution(width, width, separable=separable)[:-1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) from the same."""
        return F.relu(x + self.second(self.first(x)))


class _Up(nn.Module):
    """Brings deep features to the resolution of a skip connection, adds them to it, and mixes both if asked to."""

    def __init__(self, deep: int, shallow: int, scale: tuple[int, int], mix: bool, separable: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(deep, shallow, 1, bias=False), nn.BatchNorm2d(shallow))
        self.scale = tuple(float(s) for s in scale)
        self.mix = convolution(shallow, shallow, separable=separable) if mix else nn.Identity()

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        up = F.interpolate(self.reduce(deep), scale_factor=self.scale, mode="nearest")
        return self.mix(F.relu(up + skip))


def convolution(inputs: int, outputs: int, stride: tuple[int, int] = (1, 1), separable: bool = False) -> nn.Sequential:
    """A 3 x 3 convolution with batch normalisation and ReLU, or a depthwise separable one (Howard et al. 2017)."""
    if separable:
        depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
        layers: list[nn.Module] = [depthwise, nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 1, bias=False)]
    else:
        layers = [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _rows(x: Tensor) -> Tensor:
    """(B, F, H, W) to (B, H * W, F): the features of a pixel side by side, as gathering wants them."""
    return x.flatten(2).transpose(1, 2)
