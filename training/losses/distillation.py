"""Distillation: the losses by which a student learns what a teacher says (:mod:`training.distillation.teacher_targets`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from training.config.training import DistillConfig
from training.data.feature_bank import is_known
from training.losses.segmentation import divergence, lovasz_softmax
from xmodelkd_ros.core.labels import IGNORE


class Distillation(nn.Module):
    """The losses that a teacher adds.

    Args:
        config: their weights.
        width: features of a pixel of the student.
        teacher_feature_dim: channels of the teacher's features.
    """

    def __init__(self, config: DistillConfig, width: int, teacher_feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.translate = nn.Linear(width, teacher_feature_dim) if config.features_weight else None

    def forward(
        self, logits: Tensor, at_points: Tensor, crops: Mapping[str, Tensor], weights: Tensor
    ) -> dict[str, Tensor]:
        """Each loss by its name, weighted.

        Args:
            logits: (B, C, P) of the student.
            at_points: (B, P, width) its features at the points' pixels.
            crops: as :class:`training.data.crops.CropDataset` makes them, with ``teacher_logits``, ``teacher_features``, both or none.
            weights: (C,) of the classes.
        """
        losses = self._classes(logits, crops, weights) if "teacher_logits" in crops else {}
        if self.translate is not None and "teacher_features" in crops:
            teacher_features = crops["teacher_features"].flatten(0, 1).float()
            known = is_known(teacher_features)
            if known.any():
                mine = self.translate(at_points.flatten(0, 1)[known])
                distance = 1 - F.cosine_similarity(mine, teacher_features[known], dim=1)
                losses["features"] = self.config.features_weight * distance.mean()
        return losses

    def _classes(self, logits: Tensor, crops: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        teacher_logits = crops["teacher_logits"].flatten(0, 1).float()
        known = is_known(teacher_logits)
        theirs, mine = teacher_logits[known], logits.transpose(1, 2).flatten(0, 1)[known]
        if len(theirs) == 0:
            return {}
        losses = {}
        if self.config.logits_weight:
            losses["logits"] = self.config.logits_weight * divergence(mine, theirs, weights)
        unlabelled = crops["labels"].flatten()[known] == IGNORE
        if self.config.lovasz_weight and unlabelled.any():
            target = theirs[unlabelled].argmax(dim=1)
            losses["lovasz"] = self.config.lovasz_weight * lovasz_softmax(mine[unlabelled].softmax(dim=1), target)
        return losses
