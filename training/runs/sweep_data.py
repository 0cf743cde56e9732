"""The sweeps of a training run: loaded once, cut into crops for training, whole for validation."""

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
from training.data.crops import CropDataset
from training.data.label_propagation import propagated_labels
from training.data.sources import Source, load_source
from training.data.sweeps import InputSpec, Sweep, WholeSweeps, hide_sectors, sectors
from training.distillation.prerequisites import UpstreamModels
from training.distillation.supervision import EpochData, TeacherSupervision, is_taught, with_images
from training.models.student import ROW_STRIDE, WRAP
from training.modules.checkpoint import Checkpoint
from training.runs.trainer import own_part
from training.worldgen.sensing.sensors import BEAM_TABLES
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.resources import label_map

INTENSITY_RANGE = (0.0, 255.0)
"""Dark and bright in the scale of all sources."""


class SweepData(pl.LightningDataModule):
    """Training crops, and whole validation sweeps of each source.

    Args:
        config: the run.
        before: where the run goes on from: its own last checkpoint, or that of the run it starts with.
        upstream: the finished networks that the run builds on.

    Attributes:
        spec: the network's inputs, after :meth:`setup`: those of ``before``, or fitted on the first training source.
        origins: where the training sweeps come from, those of ``before`` too, after :meth:`setup`.
        class_counts: (C,) labelled training points of each class as their sweeps are drawn, after :meth:`setup`.
        branch: through which the network that is trained looks at images; None if it sees none.
    """

    spec: InputSpec
    origins: list[DataSource]
    class_counts: Tensor

    def __init__(
        self, config: TrainingConfig, before: Checkpoint | None = None, upstream: UpstreamModels | None = None
    ) -> None:
        super().__init__()
        self._config, self._before, self._guides = config, before, upstream or UpstreamModels()
        self.branch = self._guides.branch if config.teacher else None
        self._material, self._validation = EpochData(), EpochData()
        self._teaching: TeacherSupervision | None = None

    def setup(self, stage: str) -> None:
        """Read the sweeps, once, and let cameras show what they see of them."""
        if self._material.sources:
            return
        config, upstream = self._config, self._guides
        sources, validation = self._loaded()
        if config.teacher and upstream.branch and not any(source.encoded_images for source in sources):
            raise ConfigError(
                "teacher.image_branch is given, but no training source has images; give drives with cameras "
                "(generated ones: cameras: 6), or teacher.image_branch=''"
            )
        self.spec = self._before.inputs if self._before else fit_inputs(config, sources[0])
        earlier = self._before.origins if self._before else ()
        known = (*earlier, *upstream.origins, *(source.origin for source in sources))
        self.origins = list(dict.fromkeys(known))
        sweeps = [self._labelled(source, sources) for source in sources]
        self.class_counts = self._counted(sweeps)
        self._material, self._validation = EpochData(sweeps), EpochData([source.sweeps for source in validation])
        if config.teacher:
            shuffled = config.teacher.shuffled
            self._material = with_images(sweeps, sources, upstream.branch, shuffled)
            self._validation = with_images(self._validation.sources, validation, upstream.branch, shuffled)
        if config.distill:
            self._teaching = TeacherSupervision(config, upstream.teacher, sweeps, sources)

    def _labelled(self, source: Source, sources: Sequence[Source]) -> list[Sweep]:
        """The sweeps of a source with the labels that the run may use."""
        hidden = self._config.data.held_out_sectors
        if source.config.labels == "none":
            return [sweep.with_labels(np.full_like(sweep.labels, IGNORE)) for sweep in source.sweeps]
        if source.config.labels == "propagated":
            givers = [frame for other in sources if other.config.labels == "own" for frame in other.frames]
            propagated = propagated_labels(source.frames, givers)
            return [sweep.with_labels(labels) for sweep, labels in zip(source.sweeps, propagated, strict=True)]
        return with_hidden_sectors(source, hidden) if hidden else source.sweeps

    def _counted(self, every: Sequence[Sequence[Sweep]]) -> Tensor:
        counts = np.zeros(256)
        for source, sweeps in zip(self._config.data.train, every, strict=True):
            counts += source.share / len(sweeps) * sum(np.bincount(sweep.labels, minlength=256) for sweep in sweeps)
        return torch.tensor(counts[: len(label_map(self._config.label_set))], dtype=torch.float32)

    def _loaded(self) -> tuple[list[Source], list[Source]]:
        """Training and validation sources; folders are read before drives are generated, which takes long."""
        data = self._config.data
        wanted = [(config, "train") for config in data.train] + [(config, "validation") for config in data.validation]
        order = sorted(range(len(wanted)), key=lambda number: bool(wanted[number][0].seeds))
        labels = self._config.label_set
        found = {n: load_source(*wanted[n], images=self._looks_at(*wanted[n]), labels=labels) for n in order}
        sources = [found[number] for number in range(len(wanted))]
        return sources[: len(data.train)], sources[len(data.train) :]

    def _looks_at(self, source: SourceConfig, use: str) -> bool:
        """Whether images of a source are wanted: a teacher's run looks at all, a student's at what is taught."""
        if self._guides.branch is None or self._config.teacher:
            return self._guides.branch is not None
        assert self._config.distill is not None
        return use == "train" and is_taught(source.labels, self._config.distill)

    def material(self) -> EpochData:
        """What the epoch is learnt from."""
        return self._teaching.material(self._epoch()) if self._teaching else self._material

    def _epoch(self) -> int:
        # Lightning's own count is one behind when it first asks a resumed run for its data.
        return self.trainer.global_step // self._config.optimizer.steps if self.trainer is not None else 0

    def train_dataloader(self) -> DataLoader[Any]:
        """Crops of one epoch; the trainer asks for a new loader in each, so that a resumed run goes on alike."""
        o = self._config.optimizer
        material = self.material()
        crops = CropDataset(
            material.sources,
            [source.dataset for source in self._config.data.train],
            [source.share for source in self._config.data.train],
            self.spec,
            self._config.augment,
            columns=o.crop_columns,
            margin=WRAP,
            points=o.points,
            length=o.steps * o.batch * (self.trainer.world_size if self.trainer is not None else 1),
            seed=self._config.seed * 100_003 + self._epoch(),
            feature_bank=material.feature_bank,
            shows=self._config.teacher is not None,
            camera_dropout=self._config.teacher.camera_dropout if self._config.teacher else 0.0,
        )
        return DataLoader(own_part(crops, self.trainer), batch_size=o.batch, num_workers=o.workers)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Whole sweeps of each validation source, one at a time."""
        whole = [WholeSweeps(sweeps, self.spec, self._validation.feature_bank) for sweeps in self._validation.sources]
        return [DataLoader(own_part(sweeps, self.trainer), batch_size=None) for sweeps in whole]


def fit_inputs(config: TrainingConfig, source: Source) -> InputSpec:
    """The network's inputs, from a source's sweeps; its rows may be those of a known LiDAR instead.

    Raises:
        ConfigError: the rows that the sweeps show are none that the network can take.
    """
    model = config.model
    beams = BEAM_TABLES[model.beams] if model.beams else ()
    inputs = InputSpec.fit(source.sweeps, model.width, model.channels, INTENSITY_RANGE, beams)
    rows = len(inputs.projection.beam_elevations_deg)
    if rows % ROW_STRIDE:
        raise ConfigError(
            f"the first training source seems to have {rows} beams, but the network needs a multiple of {ROW_STRIDE}; "
            "give more sweeps, or model.beams"
        )
    return inputs


def with_hidden_sectors(source: Source, hidden: Sequence[int]) -> list[Sweep]:
    """The sweeps of a source, read from folders, without the labels of some sectors."""
    return [
        hide_sectors(sweep, sectors(drive, index, sweep.cloud), hidden)
        for sweep, (drive, index) in zip(source.sweeps, source.frames, strict=True)
    ]
