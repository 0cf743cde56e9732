"""Distillation losses between a student and the teacher's targets (:mod:`training.distillation.teacher_targets`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from training.config.training import DistillConfig
from training.data.feature_bank import has_target
from training.losses.image_labels import image_label_loss
from training.losses.segmentation import divergence, lovasz_softmax
from xmodelkd_ros.core.labels import IGNORE


class Distillation(nn.Module):
    """The weighted distillation losses.

    Args:
        config: their weights.
        width: channels of the student's feature map.
        teacher_feature_dim: channels of the teacher's features.
    """

    def __init__(self, config: DistillConfig, width: int, teacher_feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.feature_proj = nn.Linear(width, teacher_feature_dim) if config.features_weight else None

    def forward(
        self,
        logits: Tensor,
        point_features: Tensor,
        crops: Mapping[str, Tensor],
        weights: Tensor,
        confusion: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Each weighted loss by its name.

        Args:
            logits: (B, C, P) of the student.
            point_features: (B, P, width) features of the student at the points' pixels.
            crops: from :class:`training.data.crops.CropDataset`, optionally with ``teacher_logits``,
                ``teacher_features`` and ``image_class``.
            weights: (C,) class weights.
            confusion: (C, G) how often the image network says what of each class; None without one.
        """
        losses = self._class_losses(logits, crops, weights) if "teacher_logits" in crops else {}
        if self.feature_proj is not None and "teacher_features" in crops:
            teacher_features = crops["teacher_features"].flatten(0, 1).float()
            known = has_target(teacher_features)
            if known.any():
                student_features = self.feature_proj(point_features.flatten(0, 1)[known])
                distance = 1 - F.cosine_similarity(student_features, teacher_features[known], dim=1)
                losses["features"] = self.config.features_weight * distance.mean()
        if confusion is not None and "image_class" in crops:
            losses["image"] = self.config.image_weight * _image_loss(logits, crops, confusion)
        return losses

    def _class_losses(self, logits: Tensor, crops: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        teacher_logits = crops["teacher_logits"].flatten(0, 1).float()
        known = has_target(teacher_logits)
        teacher, student = teacher_logits[known], logits.transpose(1, 2).flatten(0, 1)[known]
        if len(teacher) == 0:
            return {}
        losses = {}
        if self.config.logits_weight:
            losses["logits"] = self.config.logits_weight * divergence(student, teacher, weights)
        unlabelled = crops["labels"].flatten()[known] == IGNORE
        if self.config.lovasz_weight and unlabelled.any():
            target = teacher[unlabelled].argmax(dim=1)
            losses["lovasz"] = self.config.lovasz_weight * lovasz_softmax(student[unlabelled].softmax(dim=1), target)
        return losses


def _image_loss(logits: Tensor, crops: Mapping[str, Tensor], confusion: Tensor) -> Tensor:
    """The loss on what the image network sees, at points without a label."""
    said = crops["image_class"].flatten()
    used = (said != IGNORE) & (crops["labels"].flatten() == IGNORE)
    student = logits.transpose(1, 2).flatten(0, 1)[used]
    return image_label_loss(student, said[used], crops["image_weight"].flatten()[used], confusion)
