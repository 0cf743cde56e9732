"""Data module of student and teacher: sweeps in memory, crops for training, whole sweeps for validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from training.config.data import SourceConfig
from training.config.training import TrainingConfig
from training.data.crops import CropDataset, CropFeatures, CropSize, CropSource
from training.data.label_propagation import propagated_labels
from training.data.sources import Source, load_source
from training.data.sweeps import InputSpec, Sweep, WholeSweeps, hide_sectors, sectors
from training.distillation.prerequisites import UpstreamModels
from training.distillation.supervision import EpochData, TeacherSupervision, is_supervised, with_images
from training.image_network.reader import ImageClassReader
from training.models.student import ROW_STRIDE, WRAP
from training.modules.checkpoint import Checkpoint
from training.runs.trainer import own_part, training_loader
from training.worldgen.sensing.products import BEAM_TABLES
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.resources import label_map

INTENSITY_RANGE = (0.0, 255.0)
"""Range of the intensity in all sources."""


class SweepData(pl.LightningDataModule):
    """Training crops, and whole validation sweeps of each source.

    Args:
        config: the run.
        before: the initial checkpoint: the run's own last one, or that of the run it starts from.
        upstream: the trained networks that the run depends on.

    Attributes:
        spec: the network's inputs, after :meth:`setup`: those of ``before``, or fitted on the first training source.
        origins: origins of the training sweeps and of ``before``, after :meth:`setup`.
        class_counts: (C,) labelled training points of each class, weighted by source share, after :meth:`setup`.
        reader: what makes a teacher's features from images; None for other networks.
        image_confusion: (C, G) how often the image network that teaches a student says what of each class; None
            without one.
    """

    spec: InputSpec
    origins: list[DataSource]
    class_counts: Tensor

    def __init__(
        self, config: TrainingConfig, before: Checkpoint | None = None, upstream: UpstreamModels | None = None
    ) -> None:
        super().__init__()
        self._config, self._before, self._upstream = config, before, upstream or UpstreamModels()
        self.reader = self._upstream.reader if config.teacher else None
        self._epoch_data, self._validation = EpochData(), EpochData()
        self._supervision: TeacherSupervision | None = None
        self.image_confusion: Tensor | None = None

    def setup(self, stage: str) -> None:
        """Read or generate the sweeps and sample their image features, once."""
        if self._epoch_data.sources:
            return
        config, upstream = self._config, self._upstream
        sources, validation = self._loaded()
        if config.teacher and upstream.reader and not any(source.encoded_images for source in sources):
            raise ConfigError(
                "the teacher takes images, but no training source has any; give drives with cameras (generated ones: "
                "cameras: 6), or teacher.image_branch='' and teacher.image_classes=''"
            )
        self.spec = self._before.inputs if self._before else fit_inputs(config, sources[0])
        earlier = self._before.origins if self._before else ()
        self.origins = list(dict.fromkeys((*earlier, *upstream.origins, *(source.origin for source in sources))))
        sweeps = [self._labelled(source, sources) for source in sources]
        self.class_counts = self._class_counts(sweeps)
        self._epoch_data, self._validation = EpochData(sweeps), EpochData([source.sweeps for source in validation])
        if config.teacher:
            shuffled = config.teacher.shuffled
            self._epoch_data = with_images(sweeps, sources, upstream.reader, shuffled)
            self._validation = with_images(self._validation.sources, validation, upstream.reader, shuffled)
        if config.distill:
            self._supervision = TeacherSupervision(config, upstream, sweeps, sources)
        if self._supervision is not None and upstream.image_network is not None:
            self.image_confusion = torch.tensor(self._supervision.image_confusion(), dtype=torch.float32)

    def _labelled(self, source: Source, sources: Sequence[Source]) -> list[Sweep]:
        """The sweeps of a source with the labels that the run may train on."""
        hidden = self._config.data.held_out_sectors
        if source.config.labels == "none":
            return [sweep.with_labels(np.full_like(sweep.labels, IGNORE)) for sweep in source.sweeps]
        if source.config.labels == "propagated":
            labelled = [frame for other in sources if other.config.labels == "own" for frame in other.frames]
            propagated = propagated_labels(source.frames, labelled)
            return [sweep.with_labels(labels) for sweep, labels in zip(source.sweeps, propagated, strict=True)]
        return with_hidden_sectors(source, hidden) if hidden else source.sweeps

    def _class_counts(self, by_source: Sequence[Sequence[Sweep]]) -> Tensor:
        counts = np.zeros(256)
        for source, sweeps in zip(self._config.data.train, by_source, strict=True):
            counts += source.share / len(sweeps) * sum(np.bincount(sweep.labels, minlength=256) for sweep in sweeps)
        return torch.tensor(counts[: len(label_map(self._config.label_set))], dtype=torch.float32)

    def _loaded(self) -> tuple[list[Source], list[Source]]:
        """Training and validation sources. Folders are read before drives are generated, so that errors show early."""
        data = self._config.data
        planned = [(config, "train") for config in data.train] + [(config, "validation") for config in data.validation]
        order = sorted(range(len(planned)), key=lambda number: bool(planned[number][0].seeds))
        labels = self._config.label_set
        classes = isinstance(self._upstream.reader, ImageClassReader)
        loaded = {
            n: load_source(*planned[n], self._needs_images(*planned[n]), labels, pixel_classes=classes) for n in order
        }
        sources = [loaded[number] for number in range(len(planned))]
        return sources[: len(data.train)], sources[len(data.train) :]

    def _needs_images(self, source: SourceConfig, use: str) -> bool:
        """Whether a source needs images: all for a teacher, those that its teacher labels for a student."""
        if not self._upstream.takes_images or self._config.teacher:
            return self._upstream.takes_images
        assert self._config.distill is not None
        return use == "train" and is_supervised(source.labels, self._config.distill)

    def epoch_data(self) -> EpochData:
        """The training data of the current epoch."""
        return self._supervision.epoch_data(self._epoch()) if self._supervision else self._epoch_data

    def _epoch(self) -> int:
        # Lightning's own epoch is one behind when a resumed run first requests its data.
        return self.trainer.global_step // self._config.optimizer.steps if self.trainer is not None else 0

    def train_dataloader(self) -> DataLoader[Any]:
        """Crops of one epoch. The trainer requests a loader per epoch, so that a resumed run gets the same crops."""
        o = self._config.optimizer
        data = self.epoch_data()
        sources = [
            CropSource(sweeps, source.dataset, source.share)
            for sweeps, source in zip(data.sources, self._config.data.train, strict=True)
        ]
        teacher = self._config.teacher
        crops = CropDataset(
            sources,
            self.spec,
            self._config.augment,
            CropSize(o.crop_columns, margin=WRAP, points=o.points, count=o.crops),
            length=o.steps * o.batch * (self.trainer.world_size if self.trainer is not None else 1),
            seed=self._config.seed * 100_003 + self._epoch(),
            features=CropFeatures(
                data.feature_bank,
                uses_images=teacher is not None,
                camera_dropout=teacher.camera_dropout if teacher else 0.0,
            ),
        )
        return training_loader(crops, self.trainer, o.batch, o.workers)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Whole sweeps of each validation source, one at a time."""
        whole = [WholeSweeps(sweeps, self.spec, self._validation.feature_bank) for sweeps in self._validation.sources]
        return [DataLoader(own_part(sweeps, self.trainer), batch_size=None) for sweeps in whole]


def fit_inputs(config: TrainingConfig, source: Source) -> InputSpec:
    """Fit the network's inputs to the sweeps of a source; ``model.beams`` names a known LiDAR's rows instead.

    Raises:
        ConfigError: the number of rows is not one that the network can take.
    """
    model = config.model
    beams = BEAM_TABLES[model.beams] if model.beams else ()
    inputs = InputSpec.fit(source.sweeps, model.width, model.channels, INTENSITY_RANGE, beams, model.rows)
    rows = len(inputs.projection.beam_elevations_deg)
    if rows % ROW_STRIDE:
        raise ConfigError(
            f"the first training source seems to have {rows} beams, but the network needs a multiple of {ROW_STRIDE}; "
            "give more sweeps, or model.beams"
        )
    return inputs


def with_hidden_sectors(source: Source, hidden: Sequence[int]) -> list[Sweep]:
    """The sweeps of a recorded source without the labels of some sectors."""
    return [
        hide_sectors(sweep, sectors(drive, index, sweep.cloud), hidden)
        for sweep, (drive, index) in zip(source.sweeps, source.frames, strict=True)
    ]
