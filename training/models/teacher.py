"""The teacher: the student's kind of LiDAR branch, and image features that are let in through a gate.

Image features come as a second range image: each pixel has what the cameras show at its nearest point
(:mod:`training.models.image_branch`, sampled at the point's projection), and a mask. Each branch can also
label by itself; that both agree is a sign that one may believe them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.student import WRAP, PointHead, Residual, Student, at_pixels, convolution


@dataclass(frozen=True)
class TeacherOutput:
    """What the teacher says of points.

    Attributes:
        fused: (B, C, P) logits from LiDAR and cameras.
        lidar: (B, C, P) logits from LiDAR alone.
        image: (B, C, P) logits from the image features of the points' pixels alone; without meaning where there are
            none.
        shape: (B, D, H, V) features of the LiDAR branch.
        joint: (B, width, H, V) features of both.
    """

    fused: Tensor
    lidar: Tensor
    image: Tensor
    shape: Tensor
    joint: Tensor


class Teacher(nn.Module):
    """Range image, image features and points in, logits of every point out.

    Args:
        student: the LiDAR branch, which has its own head.
        features: F, image features of a pixel.
        width: channels of the fusion.
    """

    def __init__(self, student: Student, features: int, width: int = 32) -> None:
        super().__init__()
        self.lidar = student
        deep, self.width = student.width, width
        # Image features are coarser than pixels of the range image: only `join` looks beside the pixel.
        self.look = _mix(features + 1, width)
        self.gate = nn.Conv2d(deep + width, width, 1)
        self.join = nn.Sequential(
            convolution(deep + width, 2 * width, (2, 2)), *(Residual(2 * width) for _ in range(2))
        )
        self.up = nn.Sequential(nn.Conv2d(2 * width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.skip = _mix(deep + width, width)
        self.by_sight = nn.Linear(features, student.classes) if features else None
        self.head = PointHead(width, student.channels, student.head.table.out_features, student.classes)
        # What it adds to the LiDAR branch's logits is nothing at first: a teacher begins as the student it begins with.
        nn.init.zeros_(self.head.classify.weight)
        nn.init.zeros_(self.head.classify.bias)

    def forward(self, image: Tensor, seen: Tensor, points: Tensor, pixel: Tensor) -> TeacherOutput:
        """Logits of points of images that bring their margins along.

        Args:
            image: (B, K + 1, H, W + 2 WRAP) range images.
            seen: (B, F + 1, H, W + 2 WRAP) image features of their pixels, and a mask.
            points: (B, P, K) channels of the points.
            pixel: (B, P) int32, row * W + column.
        """
        shape, joint = self.features(image, seen)
        lidar = self.lidar.head(shape, image, points, pixel)
        fused = lidar + self.head(joint, image, points, pixel)
        return TeacherOutput(fused, lidar, self._by_sight(seen, pixel, fused), shape, joint)

    def _by_sight(self, seen: Tensor, pixel: Tensor, like: Tensor) -> Tensor:
        if self.by_sight is None:
            return torch.zeros_like(like)
        found: Tensor = self.by_sight(at_pixels(seen[:, :-1, :, WRAP:-WRAP], pixel))
        return found.transpose(1, 2)

    def features(self, image: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D, H, V) features of the LiDAR branch, and (B, width, H, V) of both; arguments as of :meth:`forward`."""
        shape = self.lidar.dense(image)
        colour = self.look(seen) * seen[:, -1:]
        both = torch.cat([shape, torch.sigmoid(self.gate(torch.cat([shape, colour], dim=1))) * colour], dim=1)
        wide = F.interpolate(self.up(self.join(both)), scale_factor=2.0, mode="nearest")
        return shape, F.relu(self.skip(both) + wide)


def _mix(inputs: int, outputs: int) -> nn.Sequential:
    """A 1 x 1 convolution with batch normalisation and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
