"""Adaptation of a student to a recorded drive without labels: settings and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from training.config.data import DataConfig, SourceConfig, Sources
from training.config.label_sets import LABELS
from training.config.training import SELF, AugmentConfig, DistillConfig, OptimizerConfig, TrainingConfig
from training.config.yaml_config import Positive, PositiveInt, YamlConfig, below, require, settings
from training.data.registry import open_drives
from training.data.sources import Source
from training.experiments.agreement import confusions
from training.modules.checkpoint import Checkpoint
from training.predict.predictor import Predictor, predict_labels
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.resources import label_map

_MIN_SWEEPS = 10


@settings
class AdaptConfig(YamlConfig):
    """Settings of an adaptation.

    Attributes:
        model: run or model folder of the initial student.
        run: output folder.
        seed: of crops and augmentation.
        drive: the drive; labels that it may have are used for scoring only.
        held_out: share of the drive, at its end, that is held out from training.
        most_sweeps: maximum number of training sweeps from the drive, evenly spread.
        share: of the training sweeps that come from the drive.
        remember: labelled drives to train on as well, against forgetting.
        check: labelled validation drives that measure forgetting.
        distill: teacher and distillation losses.
        augment: augmentation.
        optimizer: length and optimizer settings.
    """

    model: str
    run: str
    seed: int
    drive: SourceConfig
    held_out: Annotated[Positive, below(1)]
    most_sweeps: PositiveInt
    share: Annotated[Positive, below(1)]
    remember: Sources
    check: Sources
    distill: DistillConfig
    augment: AugmentConfig
    optimizer: OptimizerConfig

    def __post_init__(self) -> None:
        require("drive.path", self.drive.path, bool(self.drive.path), "given")
        teacher = self.distill.teacher
        require("distill.teacher", teacher, teacher != SELF, "a model or run; self-training needs training.train")

    def split(self) -> tuple[SourceConfig, SourceConfig]:
        """The parts of the drive for training and, after it, for the held-out evaluation.

        Raises:
            ConfigError: the drive cannot be read, or is too short.
        """
        (drive,) = open_drives(self.drive.dataset, Path(self.drive.path), max_drives=1, topic=self.drive.topic)
        start, end = self.drive.frames or (0, len(drive))
        require("drive.frames", (start, end), end <= len(drive), f"within the drive's 0 to {len(drive)}")
        if end - start < _MIN_SWEEPS:
            raise ConfigError(f"{self.drive} has {end - start} sweeps; record at least {_MIN_SWEEPS}")
        boundary = end - max(1, round(self.held_out * (end - start)))
        every = -(-(boundary - start) // self.most_sweeps)
        return (
            replace(self.drive, frames=(start, boundary), every=every),
            replace(self.drive, frames=(boundary, end), every=every),
        )

    def training(self, student: Checkpoint, part: SourceConfig) -> TrainingConfig:
        """The run that adapts a student to the training part of the drive."""
        total = sum(source.share for source in self.remember)
        others = tuple(replace(s, share=(1 - self.share) * s.share / total) for s in self.remember)
        unlabelled = replace(part, labels="none", share=self.share)
        return TrainingConfig(
            name=f"{student.config.name}_adapted",
            run=str(Path(self.run) / "run"),
            seed=self.seed,
            data=DataConfig(train=(*others, unlabelled), validation=self.check),
            model=student.config.model,
            augment=self.augment,
            optimizer=self.optimizer,
            start=self.model,
            distill=self.distill,
        )


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels that several networks predict for the sweeps of a source.

    Attributes:
        source: the sweeps.
        labels: for each of ``before``, ``after`` and ``teacher``, the (N,) class ids of each sweep.
    """

    source: Source
    labels: dict[str, list[NDArray[np.uint8]]]

    @classmethod
    def of(cls, source: Source, networks: dict[str, Predictor]) -> Predictions:
        """Label the sweeps with each network."""
        predicted = {
            name: predict_labels(network, source.sweeps, source.encoded_images, name)
            for name, network in networks.items()
        }
        return cls(source, {name: [sweep.ids for sweep in sweeps] for name, sweeps in predicted.items()})

    @property
    def has_truth(self) -> bool:
        """Whether any point has a ground truth label."""
        return any((sweep.labels != IGNORE).any() for sweep in self.source.sweeps)

    def agreement(self) -> dict[str, Any]:
        """Agreement of the student with the teacher before and after training: share of equal labels, and IoU."""
        labels = label_map(LABELS)
        return {who: self._compared(self.labels[who], self.labels["teacher"], labels) for who in ("before", "after")}

    def truth(self, scored: LabelMap) -> dict[str, Any] | None:
        """Scores of each network against the ground truth in a label set; None without ground truth."""
        if not self.has_truth:
            return None
        truth = [sweep.labels for sweep in self.source.sweeps]
        return {who: self._compared(labels, truth, scored) for who, labels in self.labels.items()}

    def _compared(
        self, labels: Sequence[NDArray[np.uint8]], references: Sequence[NDArray[np.uint8]], scored: LabelMap
    ) -> dict[str, Any]:
        matrices = confusions(self.source, labels, references, scored)
        return {part: _scores(confusion) for part, confusion in matrices.items()}


def _scores(confusion: ConfusionMatrix) -> dict[str, Any]:
    total = int(confusion.counts.sum())
    equal = float(np.trace(confusion.counts) / total) if total else None
    return {"equal": equal, "miou": confusion.miou(), "iou": confusion.iou(), "points": total}
