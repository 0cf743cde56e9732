"""The sweeps of a training run: loaded once, cut into crops for training, whole for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from training.checkpoint import CHECKPOINT, Checkpoint
from training.config import TrainingConfig
from training.data.crops import CropDataset
from training.data.knowledge import Knowledge
from training.data.sources import Source, load_source
from training.data.sweeps import InputSpec, Sweep, WholeSweeps, hide_sectors, sectors, with_rows
from training.data.voxels import carried_labels
from training.guides import Guides
from training.lessons import Pupils
from training.models.student import ROW_STRIDE, WRAP
from training.pseudo_labels import pseudo_labelled
from training.run import own_part
from training.trained_network import seen_by, trained_network
from training.world.sensing.sensors import BEAM_TABLES
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
        guides: the finished networks that the run builds on.

    Attributes:
        spec: the network's inputs, after :meth:`setup`: those of ``before``, or fitted on the first training source.
        origins: where the training sweeps come from, those of ``before`` too, after :meth:`setup`.
        class_counts: (C,) labelled training points of each class as their sweeps are drawn, after :meth:`setup`.
        branch: through which the network that is trained looks at images; None if it sees none.
    """

    spec: InputSpec
    origins: list[DataSource]
    class_counts: Tensor

    def __init__(self, config: TrainingConfig, before: Checkpoint | None = None, guides: Guides | None = None) -> None:
        super().__init__()
        self._config, self._before, self._guides = config, before, guides or Guides()
        self.branch = self._guides.branch if config.teacher else None
        self._knowledge = self._choose_knowledge = Knowledge()
        self._pupils = Pupils([], [], [])
        self._sources: list[list[Sweep]] = []
        self._own: list[list[Sweep]] = []
        self._choose: list[list[Sweep]] = []

    def setup(self, stage: str) -> None:
        """Read the sweeps, once, and let the guides look at them."""
        if self._sources:
            return
        sources, choose = self._loaded()
        self.spec = self._before.inputs if self._before else fit_inputs(self._config, sources[0])
        earlier = self._before.origins if self._before else ()
        known = (*earlier, *self._guides.origins, *(source.origin for source in sources))
        self.origins = list(dict.fromkeys(known))
        self._sources = [self._labelled(source, sources) for source in sources]
        self._choose = [source.sweeps for source in choose]
        self.class_counts = self._counted()
        if self._config.teacher:
            self._sources, self._knowledge = self._with_images(self._sources, sources)
            self._choose, self._choose_knowledge = self._with_images(self._choose, choose)
        if self._config.distill:
            taught = [self._is_taught(source) for source in sources]
            if not any(taught):
                raise ConfigError(
                    "distill: no training source can be taught; give one with labels: none or carried, and with images "
                    "if the teacher needs them"
                )
            self._sources = with_rows(self._sources, taught)
            self._pupils = Pupils.of(self._sources, sources)
            self._own = self._sources
            self._learn()

    def _labelled(self, source: Source, sources: Sequence[Source]) -> list[Sweep]:
        """The sweeps of a source with the labels that the run may use."""
        hidden = self._config.data.held_out_sectors
        if source.config.labels == "none":
            return [sweep.with_labels(np.full_like(sweep.labels, IGNORE)) for sweep in source.sweeps]
        if source.config.labels == "carried":
            givers = [frame for other in sources if other.config.labels == "own" for frame in other.frames]
            carried = carried_labels(source.frames, givers)
            return [sweep.with_labels(labels) for sweep, labels in zip(source.sweeps, carried, strict=True)]
        return with_hidden_sectors(source, hidden) if hidden else source.sweeps

    def _counted(self) -> Tensor:
        counts = np.zeros(256)
        for source, sweeps in zip(self._config.data.train, self._sources, strict=True):
            counts += source.share / len(sweeps) * sum(np.bincount(sweep.labels, minlength=256) for sweep in sweeps)
        return torch.tensor(counts[: len(label_map(self._config.label_set))], dtype=torch.float32)

    def _with_images(self, sweeps: list[list[Sweep]], sources: Sequence[Source]) -> tuple[list[list[Sweep]], Knowledge]:
        """The sweeps, numbered where they have images, and what the image branch sees of these."""
        assert self._config.teacher is not None
        numbered = with_rows(sweeps, [bool(source.looks) for source in sources])
        seen = Pupils.of(numbered, sources)
        known = seen_by(self._guides.branch, seen.sweeps, seen.looks, self._config.teacher.shuffled)
        return numbered, Knowledge(known)

    def _is_taught(self, source: Source) -> bool:
        """Whether the teacher is asked about a source's sweeps; one that sees images needs them."""
        assert self._config.distill is not None
        if source.config.labels == "own" and not self._config.distill.on_labelled:
            return False
        return self._guides.branch is None or bool(source.looks)

    def _learn(self) -> None:
        """Ask the teacher."""
        self._knowledge = self._lessons()
        distill = self._config.distill
        assert distill is not None
        if distill.pseudo_share:
            wanted = [source.labels != "own" for source in self._config.data.train]
            self._sources = pseudo_labelled(self._own, wanted, self._knowledge, distill.pseudo_share)
        if not (distill.logits_weight or distill.lovasz_weight or distill.features_weight):
            # Points that only the teacher spoke of have no loss; they would take the places of others.
            self._knowledge = replace(self._knowledge, taught=None)

    def _lessons(self) -> Knowledge:
        """What the teacher says of the sweeps; one that teaches itself asks its last checkpoint, or its start's."""
        distill = self._config.distill
        assert distill is not None
        if self._guides.teacher is not None:
            return self._pupils.taught_by(self._guides.teacher, distill)
        for run in (self._config.run, self._config.start):
            if run and (Path(run) / CHECKPOINT).exists():
                return self._pupils.taught_by(trained_network(Path(run)), distill)
        return self._pupils.untaught(len(label_map(self._config.label_set)))

    def _loaded(self) -> tuple[list[Source], list[Source]]:
        """All sources, to train and to choose with; folders are read before drives are generated, which takes long."""
        data = self._config.data
        wanted = [*((config, "train") for config in data.train), *((config, "choose") for config in data.choose)]
        order = sorted(range(len(wanted)), key=lambda number: bool(wanted[number][0].seeds))
        images, labels = self._guides.branch is not None, self._config.label_set
        found = {number: load_source(*wanted[number], images=images, labels=labels) for number in order}
        sources = [found[number] for number in range(len(wanted))]
        return sources[: len(data.train)], sources[len(data.train) :]

    def train_dataloader(self) -> DataLoader[Any]:
        """Crops of one epoch; the trainer asks for a new loader in each, so that a resumed run goes on alike."""
        o = self._config.optimizer
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        if self._config.distill and self._guides.teacher is None and epoch > 0:
            self._learn()
        crops = CropDataset(
            self._sources,
            [source.dataset for source in self._config.data.train],
            [source.share for source in self._config.data.train],
            self.spec,
            self._config.augment,
            columns=o.crop_columns,
            margin=WRAP,
            points=o.points,
            length=o.steps * o.batch * (self.trainer.world_size if self.trainer is not None else 1),
            seed=self._config.seed * 100_003 + epoch,
            knowledge=self._knowledge,
            dark_cameras=self._config.teacher.dark_cameras if self._config.teacher else 0.0,
        )
        return DataLoader(own_part(crops, self.trainer), batch_size=o.batch, num_workers=o.workers)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Whole sweeps of each choosing source, one at a time."""
        whole = [WholeSweeps(sweeps, self.spec, self._choose_knowledge) for sweeps in self._choose]
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
