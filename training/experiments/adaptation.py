"""Adaptation of a student to recorded drives without labels: settings and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from training.config.data import DataConfig, SourceConfig, Sources
from training.config.label_sets import LABELS
from training.config.training import SELF, AugmentConfig, DistillConfig, OptimizerConfig, TrainingConfig
from training.config.yaml_config import Fraction, Positive, PositiveInt, YamlConfig, below, require, settings
from training.data.label_propagation import PROPAGATION_VOXEL_M, fused_votes, movable_ids
from training.data.registry import open_drives
from training.data.sources import Source
from training.distillation.image_labels import image_labels
from training.distillation.prerequisites import UpstreamModels
from training.experiments.agreement import confusions
from training.image_network.classes import ImageClasses
from training.modules.checkpoint import Checkpoint
from training.predict.predictor import Predictor, predict_labels
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.resources import label_map

_MIN_SWEEPS = 10
_SEVERAL = 2
"""Votes from which a voxel counts for the consistency over time."""


@settings
class AdaptConfig(YamlConfig):
    """Settings of an adaptation.

    Attributes:
        model: run or model folder of the initial student.
        run: output folder.
        seed: of crops and augmentation.
        drives: the drives; labels that they may have are used for scoring only, or with ``labels: own`` for training
            as well, as after a correction by hand.
        held_out: share of each drive, at its end, that is held out from training.
        most_sweeps: maximum number of training sweeps from all drives, evenly spread.
        share: of the training sweeps that come from the drives.
        keep_start: share of the initial student's weights in the adapted one, against forgetting.
        remember: labelled drives to train on as well, against forgetting.
        check: labelled validation drives that measure forgetting.
        distill: teacher and distillation losses.
        augment: augmentation.
        optimizer: length and optimizer settings.
    """

    model: str
    run: str
    seed: int
    drives: Sources
    held_out: Annotated[Positive, below(1)]
    most_sweeps: PositiveInt
    share: Annotated[Positive, below(1)]
    keep_start: Fraction
    remember: Sources
    check: Sources
    distill: DistillConfig
    augment: AugmentConfig
    optimizer: OptimizerConfig

    def __post_init__(self) -> None:
        for drive in self.drives:
            require("drives path", drive.path, bool(drive.path), "given")
        teacher = self.distill.teacher
        require("distill.teacher", teacher, teacher != SELF, "a model or run; self-training needs training.train")

    def split(self) -> list[tuple[SourceConfig, SourceConfig]]:
        """The parts of each drive for training and, after it, for the held-out evaluation.

        Raises:
            ConfigError: a drive cannot be read, or is too short.
        """
        ranges = [self._frames(drive) for drive in self.drives]
        boundaries = [end - max(1, round(self.held_out * (end - start))) for start, end in ranges]
        count = sum(boundary - start for (start, _), boundary in zip(ranges, boundaries, strict=True))
        every = -(-count // self.most_sweeps)
        return [
            (replace(drive, frames=(start, boundary), every=every), replace(drive, frames=(boundary, end), every=every))
            for drive, (start, end), boundary in zip(self.drives, ranges, boundaries, strict=True)
        ]

    @staticmethod
    def _frames(config: SourceConfig) -> tuple[int, int]:
        (drive,) = open_drives(
            config.dataset, Path(config.path), max_drives=1, topic=config.topic, odometry=config.odometry
        )
        start, end = config.frames or (0, len(drive))
        require("frames", (start, end), end <= len(drive), f"within the {len(drive)} of {drive.name}")
        if end - start < _MIN_SWEEPS:
            raise ConfigError(f"{config} has {end - start} sweeps; record at least {_MIN_SWEEPS}")
        return start, end

    def training(self, student: Checkpoint, parts: Sequence[SourceConfig]) -> TrainingConfig:
        """The run that adapts a student to the training parts of the drives, each by its number of sweeps."""
        total = sum(source.share for source in self.remember)
        others = tuple(replace(s, share=(1 - self.share) * s.share / total) for s in self.remember)
        counts = [len(range(*part.frames, part.every)) for part in parts]
        own = (
            replace(part, labels="none" if part.labels != "own" else "own", share=self.share * count / sum(counts))
            for part, count in zip(parts, counts, strict=True)
        )
        return TrainingConfig(
            name=f"{student.config.name}_adapted",
            run=str(Path(self.run) / "run"),
            seed=self.seed,
            data=DataConfig(train=(*others, *own), validation=self.check),
            model=student.config.model,
            augment=self.augment,
            optimizer=self.optimizer,
            start=self.model,
            keep_start=self.keep_start,
            distill=self.distill,
        )


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels that several networks predict for the sweeps of a source.

    Attributes:
        source: the sweeps.
        labels: for each of ``before``, ``after`` and ``teacher``, if there is one, the (N,) class ids of each sweep.
        seen: for each sweep the (N,) number of the group of classes that the image network sees at a point, 255 where
            it says nothing; empty without such a network.
        image_classes: these groups; None without such a network.
    """

    source: Source
    labels: dict[str, list[NDArray[np.uint8]]]
    seen: list[NDArray[np.uint8]] = field(default_factory=list)
    image_classes: ImageClasses | None = None

    @classmethod
    def of(
        cls, source: Source, before: Predictor, after: Predictor, upstream: UpstreamModels | None = None
    ) -> Predictions:
        """Label the sweeps with the student before and after, and with what teaches it."""
        networks = {"before": before, "after": after}
        if upstream is not None and upstream.teacher is not None:
            networks["teacher"] = upstream.teacher
        labels = {
            name: [one.ids for one in predict_labels(network, source.sweeps, source.encoded_images, name)]
            for name, network in networks.items()
        }
        network = None if upstream is None else upstream.read_network
        if network is None:
            return cls(source, labels)
        features = network.point_features(source.encoded_images)
        seen = [image_labels([one], network.classes)[0][1:] for one in features]
        return cls(source, labels, seen, network.classes.groups)

    @property
    def has_truth(self) -> bool:
        """Whether any point has a ground truth label."""
        return any((sweep.labels != IGNORE).any() for sweep in self.source.sweeps)

    def agreement(self) -> dict[str, Any]:
        """Agreement of the student with its teachers before and after training.

        Returns:
            ``teacher``: share of equal labels, and IoU; ``images``: share of the points whose class the image network
            means, of those where it says something. Each for ``before`` and ``after``; None without such a teacher.
        """
        labels, teacher = label_map(LABELS), self.labels.get("teacher")
        who = ("before", "after")
        return {
            "teacher": teacher and {one: self._compared(self.labels[one], teacher, labels) for one in who},
            "images": self.image_classes and {one: self._seen_alike(self.labels[one]) for one in who},
        }

    def _seen_alike(self, labels: Sequence[NDArray[np.uint8]]) -> float | None:
        assert self.image_classes is not None
        means = np.zeros((IGNORE + 1, IGNORE + 1), np.bool_)
        means[: len(self.image_classes), : len(self.image_classes.labels)] = self.image_classes.means[:, :-1]
        alike = [means[said, own][said != IGNORE] for said, own in zip(self.seen, labels, strict=True)]
        return float(np.concatenate(alike).mean()) if any(map(len, alike)) else None

    def over_time(self) -> dict[str, float] | None:
        """Consistency over time before and after: how many votes of a voxel of standing things a point agrees with.

        Returns:
            Means over the points that several sweeps see in one voxel; None without poses, or such points.
        """
        found = {who: self._consistency(self.labels[who]) for who in ("before", "after")}
        return None if None in found.values() else {who: float(share or 0) for who, share in found.items()}

    def _consistency(self, labels: Sequence[NDArray[np.uint8]]) -> float | None:
        ids = np.arange(len(label_map(LABELS)))
        votes = [(own[:, None] == ids).astype(np.float32) for own in labels]
        fused = fused_votes(votes, self.source.frames, PROPAGATION_VOXEL_M, movable_ids())
        shares = [np.zeros(0, np.float32)]
        for own, all_votes in zip(votes, fused, strict=True):
            if all_votes is not None:
                total = all_votes.sum(axis=1)
                several = (total >= _SEVERAL) & own.any(axis=1)
                shares.append((own * all_votes).sum(axis=1)[several] / total[several])
        every = np.concatenate(shares)
        return float(every.mean()) if len(every) else None

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
