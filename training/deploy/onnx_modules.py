"""The networks as they are exported: with the inputs of the contract, static, of operators that TensorRT takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.student import Student, wrap
from training.models.teacher import Teacher
from xmodelkd_ros.core.visibility import MAX_VIEWS


class ExportableStudent(nn.Module):
    """The student with the contract's inputs: one sweep, no batch dimension on points and pixels."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, image: Tensor, points: Tensor, pixel: Tensor) -> Tensor:
        """``logits`` (C, P) of ``image`` (1, K + 1, H, W), ``points`` (P, K) and ``pixel`` (P,)."""
        wrapped = wrap(image)
        table = self.student.head.tables(self.student.dense(wrapped), wrapped).squeeze(0)
        return self.student.head.label(table, points, pixel)


class ExportableTeacher(nn.Module):
    """The teacher with the contract's inputs: as the student's, and what the cameras show.

    The feature maps of all cameras lie one above the other, so that a pixel costs two samples however many there are.
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(
        self, image: Tensor, points: Tensor, pixel: Tensor, maps: Tensor, places: Tensor, seen: Tensor
    ) -> Tensor:
        """``logits`` (C, P) from the student's inputs and what cameras show.

        Args:
            image: (1, K + 1, H, W).
            points: (P, K).
            pixel: (P,) int32.
            maps: (1, F, cameras * h, w) features of the images, one above the other.
            places: (2, H, W, 2) where the maps show the pixel's nearest point, -1 to 1 from edge to edge.
            seen: (2, H, W) 1 where a place is one.
        """
        grid = places.reshape(1, -1, *places.shape[2:])
        found = nn.functional.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
        found = found.reshape(1, maps.shape[1], *places.shape[:3])
        total = seen.sum(dim=0, keepdim=True)
        mean = (found * (seen / total.clamp(min=1))).sum(dim=2)
        wrapped = wrap(image)
        shape, joint = self.teacher.features(wrapped, wrap(torch.cat([mean, total.clamp(max=1)[None]], dim=1)))
        heads = ((self.teacher.lidar.head, shape), (self.teacher.head, joint))
        lidar, more = (h.label(h.tables(x, wrapped).squeeze(0), points, pixel) for h, x in heads)
        return lidar + more


def student_inputs(channels: int, size: tuple[int, int], points: int) -> dict[str, Tensor]:
    """Zeros in the shapes of the student's inputs: K channels, H and W, P points."""
    return {
        "image": torch.zeros(1, channels + 1, *size),
        "points": torch.zeros(points, channels),
        "pixel": torch.zeros(points, dtype=torch.int32),
    }


def camera_inputs(maps: tuple[int, int, int], cameras: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """Zeros in the shapes of the teacher's further inputs: F, h and w of an image's features, cameras, H and W."""
    features, height, width = maps
    return {
        "maps": torch.zeros(1, features, cameras * height, width),
        "places": torch.zeros(MAX_VIEWS, *size, 2),
        "seen": torch.zeros(MAX_VIEWS, *size),
    }
