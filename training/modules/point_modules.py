"""Lightning modules of student and teacher: losses, optimizer and validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.config.training import TrainingConfig
from training.losses.contrastive import Contrast
from training.losses.distillation import Distillation
from training.losses.segmentation import segmentation_loss
from training.models.student import WRAP, Student, at_pixels, wrap
from training.models.teacher import Teacher
from training.modules.checkpoint import extras
from training.modules.label_module import SegmentationModule
from training.modules.schedule import one_cycle
from xmodelkd_ros.core.labels import IGNORE

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Prediction:
    """A network's output for whole sweeps.

    Attributes:
        logits: (B, C, N).
        head_mean_probs: (B, C, N) probabilities, averaged over the heads of a network with several: high only where the
            heads agree.
        features: (B, D, H, W) feature map.
        pixel: (B, N) pixels of the points.
    """

    logits: Tensor
    head_mean_probs: Tensor
    features: Tensor
    pixel: Tensor

    def at_points(self) -> Tensor:
        """(B, N, D) features of the points' pixels."""
        return at_pixels(self.features, self.pixel)

    def cpu(self) -> Prediction:
        """A copy in CPU memory."""
        return Prediction(self.logits.cpu(), self.head_mean_probs.cpu(), self.features.cpu(), self.pixel.cpu())


class PointModule(SegmentationModule, ABC):
    """A network that labels points, with its optimizer.

    Args:
        config: the run's settings from :meth:`TrainingConfig.to_dict`, which are stored in checkpoints.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = TrainingConfig.from_dict(config)
        super().__init__(self.config.data.validation, self.config.label_set)
        self.save_hyperparameters()
        # Channels last is faster in bf16, and slower in fp32.
        in_bf16 = self.config.precision == "bf16-mixed"
        self._memory_format = torch.channels_last if in_bf16 else torch.contiguous_format

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of the feature map that :meth:`predict` returns."""

    @abstractmethod
    def loss(self, crops: Batch) -> Tensor:
        """Loss of a batch of crops from :class:`training.data.crops.CropDataset`."""

    @abstractmethod
    def predict(self, sweep: Batch) -> Prediction:
        """Label a whole sweep from :class:`training.data.sweeps.WholeSweeps`."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what inference needs beside the weights."""
        data = self.trainer.datamodule
        checkpoint.update(extras(data.spec, data.origins, data.reader))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of a batch of sweeps, each in crops."""
        crops = {name: value.flatten(0, 1) for name, value in batch.items()}
        crops["image"] = crops["image"].to(memory_format=self._memory_format)
        loss = self.loss(crops)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Count the confusion of one sweep."""
        self.count(self.predict(batch).logits[0], batch["labels"][0], dataloader_idx)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a one-cycle schedule over the whole run."""
        o = self.config.optimizer
        optimizer = torch.optim.AdamW(self.parameters(), o.learning_rate, weight_decay=o.weight_decay)
        return one_cycle(optimizer, o, [o.learning_rate])


class StudentModule(PointModule):
    """The student, trained with or without a teacher.

    Args:
        config: as for :class:`PointModule`.
        teacher_feature_dim: channels of the teacher's features.
        features: image features of a point.
    """

    def __init__(self, config: dict[str, Any], teacher_feature_dim: int = 0, features: int = 0) -> None:
        super().__init__(config)
        self.student = _lidar_network(self.config, len(self.labels)).to(memory_format=self._memory_format)
        settings, width = self.config.distill, self.student.width
        self.distillation = Distillation(settings, width, teacher_feature_dim) if settings else None
        with_images = settings is not None and settings.contrast_weight > 0
        self.contrast = Contrast(width, features, settings.temperature) if settings and with_images else None
        self._confusion: Tensor | None = None

    @property
    def width(self) -> int:
        """Channels of the feature map."""
        return self.student.width

    def on_fit_start(self) -> None:
        """Also take what is known of the image network's errors."""
        super().on_fit_start()
        confusion = self.trainer.datamodule.image_confusion  # type: ignore[attr-defined]
        self._confusion = None if confusion is None else confusion.to(self.device)

    def loss(self, crops: Batch) -> Tensor:
        """Cross-entropy and Lovász-softmax on the labels, plus the distillation losses."""
        features = self.student.dense(crops["image"])
        logits = self.student.head(features, crops["image"], crops["points"], crops["pixel"])
        label_loss = segmentation_loss(logits, crops["labels"], self.class_weights)
        if self.distillation is None:
            return label_loss
        point_features = at_pixels(features[..., WRAP:-WRAP], crops["pixel"])
        losses = self.distillation(logits, point_features, crops, self.class_weights, self._confusion)
        if self.contrast is not None:
            weight = self.distillation.config.contrast_weight
            losses["contrast"] = weight * self.contrast(point_features, crops["views"])
        self.log_dict({f"train/{name}": value for name, value in losses.items()})
        steps = self.config.optimizer.epochs * self.config.optimizer.steps
        ramp = min(1.0, self.global_step / (self.distillation.config.ramp * steps))
        return label_loss + ramp * sum(losses.values(), torch.zeros(()))

    def predict(self, sweep: Batch) -> Prediction:
        """Label a whole sweep."""
        image = wrap(sweep["image"])
        features = self.student.dense(image)
        logits = self.student.head(features, image, sweep["points"], sweep["pixel"])
        return Prediction(logits, logits.softmax(dim=1), features[..., WRAP:-WRAP], sweep["pixel"])


class TeacherModule(PointModule):
    """The teacher, with LiDAR and image features as its inputs.

    Args:
        config: as for :class:`PointModule`.
        features: image features of a pixel; 0 for a teacher without cameras.
    """

    def __init__(self, config: dict[str, Any], features: int) -> None:
        super().__init__(config)
        assert self.config.teacher is not None
        settings, lidar = self.config.teacher, _lidar_network(self.config, len(self.labels))
        self.teacher = Teacher(lidar, features, settings.width).to(memory_format=self._memory_format)
        self.contrast = Contrast(lidar.width, features, settings.temperature) if features else None

    @property
    def width(self) -> int:
        """Channels of the fused feature map."""
        return self.teacher.width

    def loss(self, crops: Batch) -> Tensor:
        """The label losses of all three heads, and the contrastive loss between LiDAR and image features."""
        settings = self.config.teacher
        assert settings is not None
        out = self.teacher(crops["image"], crops["seen"], crops["points"], crops["pixel"])
        fused, lidar = (segmentation_loss(x, crops["labels"], self.class_weights) for x in (out.fused, out.lidar))
        self.log_dict({"train/fused": fused, "train/lidar": lidar})
        loss = fused + settings.lidar_weight * lidar
        if self.contrast is None:
            return loss
        not_visible = at_pixels(crops["seen"][:, -1:, :, WRAP:-WRAP], crops["pixel"])[..., 0] == 0
        image = segmentation_loss(out.image, crops["labels"].masked_fill(not_visible, IGNORE), self.class_weights)
        self.log("train/image", image)
        loss = loss + settings.image_weight * image
        contrast = self.contrast(at_pixels(out.lidar_features[..., WRAP:-WRAP], crops["pixel"]), crops["views"])
        self.log("train/contrast", contrast)
        return loss + settings.contrast_weight * contrast

    def predict(self, sweep: Batch) -> Prediction:
        """Label a whole sweep from LiDAR and cameras."""
        out = self.teacher(wrap(sweep["image"]), wrap(sweep["seen"]), sweep["points"], sweep["pixel"])
        visible = at_pixels(sweep["seen"][:, -1:], sweep["pixel"]).transpose(1, 2)
        total = out.fused.softmax(dim=1) + out.lidar.softmax(dim=1) + visible * out.image.softmax(dim=1)
        return Prediction(out.fused, total / (2 + visible), out.fused_features[..., WRAP:-WRAP], sweep["pixel"])


def _lidar_network(config: TrainingConfig, classes: int) -> Student:
    model = config.model
    return Student(len(model.channels), classes, model.widths, model.blocks, model.head_channels, model.separable)
