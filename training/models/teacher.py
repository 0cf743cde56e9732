"""The teacher: a LiDAR branch like the student's, fused with image features through a gate.

Image features form a second range image: each pixel holds the feature that the image branch gives at the projection of
the pixel's nearest point (:mod:`training.models.image_branch`), with a mask. The LiDAR branch and the image features
also have a head each; where the heads agree, the labels are more reliable.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.student import WRAP, PointHead, Residual, Student, at_pixels, convolution


@dataclass(frozen=True)
class TeacherOutput:
    """Logits of points and the feature maps they come from.

    Attributes:
        fused: (B, C, P) logits from LiDAR and cameras.
        lidar: (B, C, P) logits from LiDAR alone.
        image: (B, C, P) logits from the image features of the points' pixels alone; undefined where no camera sees the
            pixel.
        lidar_features: (B, D, H, V) feature map of the LiDAR branch.
        fused_features: (B, width, H, V) feature map of both.
    """

    fused: Tensor
    lidar: Tensor
    image: Tensor
    lidar_features: Tensor
    fused_features: Tensor


class Teacher(nn.Module):
    """Network from a range image, image features and points to the logits of every point.

    Args:
        student: the LiDAR branch, with its own head.
        features: F, image features of a pixel.
        width: channels of the fusion.
    """

    def __init__(self, student: Student, features: int, width: int = 32) -> None:
        super().__init__()
        self.lidar = student
        lidar_width, self.width = student.width, width
        # Image features are coarser than range image pixels, so only `fusion` uses neighbouring pixels.
        self.image_proj = _pointwise(features + 1, width)
        self.gate = nn.Conv2d(lidar_width + width, width, 1)
        self.fusion = nn.Sequential(
            convolution(lidar_width + width, 2 * width, (2, 2)), *(Residual(2 * width) for _ in range(2))
        )
        self.up = nn.Sequential(nn.Conv2d(2 * width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.skip = _pointwise(lidar_width + width, width)
        self.image_head = nn.Linear(features, student.classes) if features else None
        self.head = PointHead(width, student.channels, student.head.pixel_proj.out_features, student.classes)
        # The fused head adds to the LiDAR logits. It starts at zero, so that the teacher starts as its LiDAR branch.
        nn.init.zeros_(self.head.classify.weight)
        nn.init.zeros_(self.head.classify.bias)

    def forward(self, image: Tensor, image_features: Tensor, points: Tensor, pixel: Tensor) -> TeacherOutput:
        """Logits of points in range images with margins.

        Args:
            image: (B, K + 1, H, W + 2 WRAP) range images.
            image_features: (B, F + 1, H, W + 2 WRAP) image features of their pixels, and a mask.
            points: (B, P, K) channels of the points.
            pixel: (B, P) int32, row * W + column.
        """
        lidar_features, fused_features = self.features(image, image_features)
        lidar = self.lidar.head(lidar_features, image, points, pixel)
        fused = lidar + self.head(fused_features, image, points, pixel)
        by_image = self._image_logits(image_features, pixel, fused)
        return TeacherOutput(fused, lidar, by_image, lidar_features, fused_features)

    def _image_logits(self, image_features: Tensor, pixel: Tensor, like: Tensor) -> Tensor:
        if self.image_head is None:
            return torch.zeros_like(like)
        logits: Tensor = self.image_head(at_pixels(image_features[:, :-1, :, WRAP:-WRAP], pixel))
        return logits.transpose(1, 2)

    def features(self, image: Tensor, image_features: Tensor) -> tuple[Tensor, Tensor]:
        """Feature maps of the LiDAR branch (B, D, H, V) and of the fusion (B, width, H, V); see :meth:`forward`."""
        lidar = self.lidar.dense(image)
        projected = self.image_proj(image_features) * image_features[:, -1:]
        gate = torch.sigmoid(self.gate(torch.cat([lidar, projected], dim=1)))
        both = torch.cat([lidar, gate * projected], dim=1)
        coarse = F.interpolate(self.up(self.fusion(both)), scale_factor=2.0, mode="nearest")
        return lidar, F.relu(self.skip(both) + coarse)


def _pointwise(inputs: int, outputs: int) -> nn.Sequential:
    """A 1 x 1 convolution with batch normalisation and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
