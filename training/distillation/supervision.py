"""Training data of an epoch: sweeps with image features, teacher targets and pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config.training import BELIEVED, NO_TEACHER, SELF, USUAL, DistillConfig, TrainingConfig
from training.data.feature_bank import PointFeatureBank
from training.data.sources import Source
from training.data.sweeps import Sweep, with_point_ids
from training.datasets.exposures import EncodedSweepImages
from training.datasets.sequence import DriveSequence
from training.distillation.image_labels import image_labels
from training.distillation.prerequisites import UpstreamModels
from training.distillation.pseudo_labels import pseudo_labelled
from training.distillation.teacher_targets import teacher_targets, voxel_averaged
from training.image_network.confusion import estimated_confusion, set_confusion, usual_confusion
from training.image_network.reader import ImageReader
from training.modules.checkpoint import CHECKPOINT
from training.predict.predictor import Predictor, image_features_of, load_predictor
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.resources import label_map

_POINTS_FOR_CONFUSION = 5000
"""Of a sweep, on which the errors of an image network are estimated."""


@dataclass(frozen=True, eq=False)
class EpochData:
    """The sweeps of an epoch, or of validation."""

    sources: list[list[Sweep]] = field(default_factory=list)
    feature_bank: PointFeatureBank = field(default_factory=PointFeatureBank)


@dataclass(frozen=True, eq=False)
class NumberedSweeps:
    """The sweeps of all sources that have rows in a feature bank (:func:`training.data.sweeps.with_point_ids`).

    Attributes:
        sweeps: the sweeps.
        frames: drive and frame number of each; None for generated sweeps.
        encoded_images: the images of the sweeps; empty where there are none.
    """

    sweeps: list[Sweep]
    frames: list[tuple[DriveSequence, int] | None]
    encoded_images: list[EncodedSweepImages]

    @classmethod
    def of(cls, numbered: Sequence[Sequence[Sweep]], sources: Sequence[Source]) -> NumberedSweeps:
        """Collect them from the sweeps of each source."""
        selected = [n for n, sweeps in enumerate(numbered) if sweeps[0].point_ids is not None]
        return cls(
            [sweep for n in selected for sweep in numbered[n]],
            [frame for n in selected for frame in sources[n].frames or [None] * len(numbered[n])],
            [images for n in selected for images in sources[n].encoded_images],
        )


def with_images(
    sweeps: Sequence[Sequence[Sweep]], sources: Sequence[Source], reader: ImageReader | None, shuffled: bool
) -> EpochData:
    """Sweeps with the image features of those that have images.

    Args:
        sweeps: the sweeps of each source.
        sources: these sources.
        reader: what makes features from images; None for a teacher without cameras.
        shuffled: take images of other sweeps and cameras, as a control.
    """
    numbered = with_point_ids(sweeps, [bool(source.encoded_images) for source in sources])
    selected = NumberedSweeps.of(numbered, sources)
    features = image_features_of(reader, selected.sweeps, selected.encoded_images, shuffled)
    return EpochData(numbered, PointFeatureBank(features))


class TeacherSupervision:
    """Sweeps with the targets of a teacher or an image network, or of neither for self-training, to train a student.

    Raises:
        ConfigError: they can label no sweeps.
    """

    def __init__(
        self,
        config: TrainingConfig,
        upstream: UpstreamModels,
        sweeps: Sequence[Sequence[Sweep]],
        sources: Sequence[Source],
    ) -> None:
        assert config.distill is not None
        self._config, self._settings = config, config.distill
        self._teacher, self._image_network = upstream.teacher, upstream.image_network
        needs_images = upstream.takes_images
        usable = [
            is_supervised(source.config.labels, self._settings) and (bool(source.encoded_images) or not needs_images)
            for source in sources
        ]
        if not any(usable):
            raise ConfigError(
                "distill: the teacher can label no training source; give one with labels: none or propagated, and "
                "with images if the teacher or image_network needs them"
            )
        self._numbered = with_point_ids(sweeps, usable)
        self._may_have_pseudo_labels = usable
        self._supervised = NumberedSweeps.of(self._numbered, sources)
        self._epochs: dict[int, EpochData] = {}

    def epoch_data(self, epoch: int) -> EpochData:
        """The data of an epoch. A teacher labels once, self-training before each epoch with the last checkpoint."""
        key = epoch if self._settings.teacher == SELF else 0
        if key not in self._epochs:
            self._epochs = {key: self._labelled()}
        return self._epochs[key]

    def _labelled(self) -> EpochData:
        sources, feature_bank = self._numbered, self._feature_bank()
        if self._settings.pseudo_share:
            sources = pseudo_labelled(sources, self._may_have_pseudo_labels, feature_bank, self._settings.pseudo_share)
        if not (self._settings.logits_weight or self._settings.lovasz_weight):
            feature_bank = replace(feature_bank, teacher_logits=None)
        return EpochData(sources, feature_bank)

    def _feature_bank(self) -> PointFeatureBank:
        bank = PointFeatureBank() if self._settings.teacher == NO_TEACHER else self._of_teacher()
        if self._image_network is None:
            return bank
        image_class, image_weight = self._image_labels
        return replace(bank, image_class=image_class, image_weight=image_weight)

    @cached_property
    def _image_labels(self) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        assert self._image_network is not None
        features = self._image_network.point_features(self._supervised.encoded_images)
        return image_labels(features, self._image_network.classes, self._supervised.frames, self._settings.fuse_m)

    def image_confusion(self) -> NDArray[np.float64]:
        """(C, G) how often the image network says what of each class, by ``distill.image_confusion``."""
        assert self._image_network is not None
        classes, kind = self._image_network.classes, self._settings.image_confusion
        if kind == BELIEVED:
            return set_confusion(classes)
        usual = usual_confusion(classes)[:-1]  # without the sky's
        if kind == USUAL:
            return usual
        rows, probabilities = self._of_start()
        said, weights = (column[rows] for column in self._image_labels)
        return estimated_confusion(probabilities, said, weights.astype(np.float64), usual)

    def _of_start(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows of some points of which the image network says something, and (N, C) what the initial student says."""
        if not self._config.start:
            raise ConfigError("distill.image_confusion is estimated, but nothing to start from is given; set start")
        student, said = load_predictor(Path(self._config.start)), self._image_labels[0]
        rows, probabilities, rng = [], [], np.random.default_rng(0)
        sweeps = self._supervised.sweeps
        for sweep, (prediction, valid) in zip(sweeps, student.predictions(sweeps, PointFeatureBank()), strict=True):
            assert sweep.point_ids is not None
            ids = sweep.point_ids[valid]
            usable = np.flatnonzero(said[ids] != IGNORE)
            chosen = rng.permutation(usable)[:_POINTS_FOR_CONFUSION]
            rows.append(ids[chosen])
            probabilities.append(prediction.logits[0][:, chosen].softmax(dim=0).T.numpy())
        return np.concatenate(rows), np.concatenate(probabilities)

    def _of_teacher(self) -> PointFeatureBank:
        """The targets of the teacher, or of the last checkpoint."""
        teacher = self._teacher or self._last_checkpoint()
        supervised = self._supervised
        if teacher is None:
            return _without_targets(supervised.sweeps, len(label_map(self._config.label_set)))
        images = teacher.feature_bank(supervised.sweeps, supervised.encoded_images)
        targets = teacher_targets(teacher, supervised.sweeps, images, "teacher")
        if self._settings.fuse_m:
            targets = voxel_averaged(targets, supervised.frames, self._settings.fuse_m)
        return PointFeatureBank(
            images.image_features if self._settings.contrast_weight else None,
            _stacked([one.logits for one in targets]),
            _stacked([one.features for one in targets]) if self._settings.features_weight else None,
            _stacked([one.uncertainty for one in targets]) if self._settings.pseudo_share else None,
        )

    def _last_checkpoint(self) -> Predictor | None:
        """The network of the run's last checkpoint, or of the run it starts from; None without either."""
        runs = (Path(run) for run in (self._config.run, self._config.start) if run)
        return next((load_predictor(run) for run in runs if (run / CHECKPOINT).exists()), None)


def is_supervised(labels: str, settings: DistillConfig) -> bool:
    """Whether a teacher labels the sweeps of a source with this ``labels`` setting."""
    return labels != "own" or settings.on_labelled


def _without_targets(sweeps: Sequence[Sweep], classes: int) -> PointFeatureBank:
    """The feature bank of sweeps with rows before the first checkpoint of self-training."""
    rows = 1 + sum(len(sweep.labels) for sweep in sweeps)
    return PointFeatureBank(
        teacher_logits=np.zeros((rows, classes), np.float16), teacher_uncertainty=np.zeros(rows, np.float16)
    )


def _stacked(tables: Sequence[NDArray[np.float16]]) -> NDArray[np.float16]:
    """Concatenate the targets of sweeps, after row 0 for points without a target."""
    return np.concatenate([np.zeros_like(tables[0][:1]), *tables])
