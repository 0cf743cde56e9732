"""What a run's sweeps are accompanied by: what cameras see of them, and what a teacher says of those without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config.training import DistillConfig, TrainingConfig
from training.data.feature_bank import PointFeatureBank
from training.data.sources import Source
from training.data.sweeps import Sweep, with_rows
from training.datasets.exposures import EncodedSweepImages
from training.datasets.sequence import DriveSequence
from training.distillation.pseudo_labels import pseudo_labelled
from training.distillation.teacher_targets import teacher_targets, voxel_averaged
from training.models.image_branch import ImageBranch
from training.modules.checkpoint import CHECKPOINT
from training.predict.predictor import Predictor, load_predictor, seen_by
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.resources import label_map


@dataclass(frozen=True, eq=False)
class EpochData:
    """What a network learns from, or is scored with.

    Attributes:
        sources: the sweeps of each source.
        feature_bank: what is known of their points beside labels.
    """

    sources: list[list[Sweep]] = field(default_factory=list)
    feature_bank: PointFeatureBank = field(default_factory=PointFeatureBank)


@dataclass(frozen=True, eq=False)
class NumberedSweeps:
    """The sweeps that have numbers (:func:`training.data.sweeps.with_rows`), of all sources, with what belongs to them.

    Attributes:
        sweeps: the sweeps.
        frames: the drive and the number of each; None for generated ones.
        encoded_images: the images of the sweeps; empty where there are none.
    """

    sweeps: list[Sweep]
    frames: list[tuple[DriveSequence, int] | None]
    encoded_images: list[EncodedSweepImages]

    @classmethod
    def of(cls, numbered: Sequence[Sequence[Sweep]], sources: Sequence[Source]) -> NumberedSweeps:
        """Those of some sources."""
        having = [n for n, part in enumerate(numbered) if part[0].rows is not None]
        return cls(
            [sweep for n in having for sweep in numbered[n]],
            [frame for n in having for frame in sources[n].frames or [None] * len(numbered[n])],
            [look for n in having for look in sources[n].encoded_images],
        )


def with_images(
    sweeps: Sequence[Sequence[Sweep]], sources: Sequence[Source], branch: ImageBranch | None, shuffled: bool
) -> EpochData:
    """Sweeps, and what an image branch sees of those that have images.

    Args:
        sweeps: the sweeps of each source.
        sources: these sources.
        branch: the image branch; None for a teacher that sees nothing.
        shuffled: take other images than those that belong there.
    """
    numbered = with_rows(sweeps, [bool(source.encoded_images) for source in sources])
    having = NumberedSweeps.of(numbered, sources)
    return EpochData(numbered, PointFeatureBank(seen_by(branch, having.sweeps, having.encoded_images, shuffled)))


class TeacherSupervision:
    """Sweeps that a teacher labels for a student.

    Args:
        config: the run.
        teacher: the teacher; None for a student that teaches itself.
        sweeps: the sweeps of each source.
        sources: these sources.

    Raises:
        ConfigError: there are none that the teacher can label.
    """

    def __init__(
        self,
        config: TrainingConfig,
        teacher: Predictor | None,
        sweeps: Sequence[Sequence[Sweep]],
        sources: Sequence[Source],
    ) -> None:
        assert config.distill is not None
        self._config, self._settings, self._teacher = config, config.distill, teacher
        needs_images = teacher is not None and teacher.branch is not None
        able = [
            is_taught(source.config.labels, self._settings) and (bool(source.encoded_images) or not needs_images)
            for source in sources
        ]
        if not any(able):
            raise ConfigError(
                "distill: no training source can be taught; give one with labels: none or propagated, and with images "
                "if the teacher needs them"
            )
        self._numbered = with_rows(sweeps, able)
        self._taught = NumberedSweeps.of(self._numbered, sources)
        self._said: dict[int, EpochData] = {}

    def material(self, epoch: int) -> EpochData:
        """What there is to learn in an epoch: what the teacher said once, or the run's last checkpoint before each."""
        of = 0 if self._teacher else epoch
        if of not in self._said:
            self._said = {of: self._asked()}
        return self._said[of]

    def _asked(self) -> EpochData:
        sources, feature_bank = self._numbered, self._knowledge()
        if self._settings.pseudo_share:
            wanted = [source.labels != "own" for source in self._config.data.train]
            sources = pseudo_labelled(sources, wanted, feature_bank, self._settings.pseudo_share)
        if not (self._settings.logits_weight or self._settings.lovasz_weight):
            feature_bank = replace(feature_bank, teacher_logits=None)
        return EpochData(sources, feature_bank)

    def _knowledge(self) -> PointFeatureBank:
        teacher = self._teacher or self._own_last()
        if teacher is None:
            return _unknown(self._taught.sweeps, len(label_map(self._config.label_set)))
        known = teacher.feature_bank(self._taught.sweeps, self._taught.encoded_images)
        targets = teacher_targets(teacher, self._taught.sweeps, known, "teacher")
        if self._settings.fuse_m:
            targets = voxel_averaged(targets, self._taught.frames, self._settings.fuse_m)
        return PointFeatureBank(
            known.seen if self._settings.contrast_weight else None,
            _stacked([one.logits for one in targets]),
            _stacked([one.features for one in targets]) if self._settings.features_weight else None,
            _stacked([one.teacher_uncertainty for one in targets]) if self._settings.pseudo_share else None,
        )

    def _own_last(self) -> Predictor | None:
        """The run's last checkpoint, or that of the run it starts with; None where there is none yet."""
        runs = (Path(run) for run in (self._config.run, self._config.start) if run)
        return next((load_predictor(run) for run in runs if (run / CHECKPOINT).exists()), None)


def is_taught(labels: str, settings: DistillConfig) -> bool:
    """Whether a teacher is asked about sweeps whose labels may be used as ``labels`` says."""
    return labels != "own" or settings.on_labelled


def _unknown(sweeps: Sequence[Sweep], classes: int) -> PointFeatureBank:
    """What is known of numbered sweeps as long as there is no teacher."""
    rows = 1 + sum(len(sweep.labels) for sweep in sweeps)
    return PointFeatureBank(
        teacher_logits=np.zeros((rows, classes), np.float16), teacher_uncertainty=np.zeros(rows, np.float16)
    )


def _stacked(tables: Sequence[NDArray[np.float16]]) -> NDArray[np.float16]:
    """The tables of many sweeps as one, with row 0 before them."""
    return np.concatenate([np.zeros_like(tables[0][:1]), *tables])
