"""The networks in the form that is exported: the model contract's inputs, static shapes, operators of TensorRT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.student import Student, wrap
from training.models.teacher import Teacher
from xmodelkd_ros.core.visibility import MAX_VIEWS


class ExportableStudent(nn.Module):
    """The student with the contract's inputs: one sweep, without a batch dimension on points and pixels."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, image: Tensor, points: Tensor, pixel: Tensor) -> Tensor:
        """``logits`` (C, P) of ``image`` (1, K + 1, H, W), ``points`` (P, K) and ``pixel`` (P,)."""
        wrapped = wrap(image)
        pixel_features = self.student.head.pixel_features(self.student.dense(wrapped), wrapped).squeeze(0)
        return self.student.head.logits(pixel_features, points, pixel)


class ExportableTeacher(nn.Module):
    """The teacher with the contract's inputs: the student's, image feature maps and their sampling positions.

    The feature maps of all cameras are stacked vertically, so that a pixel costs two samples for any number of cameras.
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(
        self, image: Tensor, points: Tensor, pixel: Tensor, maps: Tensor, places: Tensor, seen: Tensor
    ) -> Tensor:
        """``logits`` (C, P) from the student's inputs and image features.

        Args:
            image: (1, K + 1, H, W).
            points: (P, K).
            pixel: (P,) int32.
            maps: (1, F, cameras * h, w) feature maps of the images, stacked vertically.
            places: (2, H, W, 2) positions of the pixel's nearest point in the maps, -1 to 1 from edge to edge.
            seen: (2, H, W) 1 where the position is valid.
        """
        grid = places.reshape(1, -1, *places.shape[2:])
        sampled = nn.functional.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
        sampled = sampled.reshape(1, maps.shape[1], *places.shape[:3])
        total = seen.sum(dim=0, keepdim=True)
        mean = (sampled * (seen / total.clamp(min=1))).sum(dim=2)
        wrapped = wrap(image)
        image_features = wrap(torch.cat([mean, total.clamp(max=1)[None]], dim=1))
        lidar_features, fused_features = self.teacher.features(wrapped, image_features)
        heads = ((self.teacher.lidar.head, lidar_features), (self.teacher.head, fused_features))
        lidar, fused = (h.logits(h.pixel_features(x, wrapped).squeeze(0), points, pixel) for h, x in heads)
        return lidar + fused


def student_inputs(channels: int, size: tuple[int, int], points: int) -> dict[str, Tensor]:
    """Zero tensors in the shapes of the student's inputs: K channels, H and W, P points."""
    return {
        "image": torch.zeros(1, channels + 1, *size),
        "points": torch.zeros(points, channels),
        "pixel": torch.zeros(points, dtype=torch.int32),
    }


def camera_inputs(maps: tuple[int, int, int], cameras: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """Zero tensors in the shapes of the teacher's additional inputs.

    Args:
        maps: F, h and w of an image's feature map.
        cameras: number of cameras.
        size: H and W of the range image.
    """
    features, height, width = maps
    return {
        "maps": torch.zeros(1, features, cameras * height, width),
        "places": torch.zeros(MAX_VIEWS, *size, 2),
        "seen": torch.zeros(MAX_VIEWS, *size),
    }
