"""Training of the student: ``python -m training.train CONFIG.yaml [section.key=value ...]``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from training.checkpoint import CHECKPOINT, NAME, Checkpoint, extras, read_checkpoint
from training.command import run_command
from training.config import TrainingConfig, from_dict
from training.data.crops import CropDataset
from training.data.sources import Source, load_source
from training.data.sweeps import InputSpec, Sweep, WholeSweeps, hide_sectors, sectors
from training.losses import class_weights, segmentation_loss
from training.models.student import WRAP, Student
from training.world.sensing.sensors import lidar_named
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.resources import label_map, translation
from xmodelkd_ros.tools.session import make_folder

LABELS = "drive13"
SCORED_LABELS = "pandaset9"
INTENSITY_RANGE = (0.0, 255.0)
"""Dark and bright in the scale of all sources."""


class SweepData(pl.LightningDataModule):
    """Training crops, and whole validation sweeps of each source.

    Args:
        config: the run.
        before: where the run goes on from: its own last checkpoint, or that of the run it starts with.

    Attributes:
        spec: the network's inputs, after :meth:`setup`: those of ``before``, or fitted on the first training source.
        origins: where the training sweeps come from, those of ``before`` too, after :meth:`setup`.
        class_counts: (C,) labelled training points of each class as their sweeps are drawn, after :meth:`setup`.
    """

    spec: InputSpec
    origins: list[DataSource]
    class_counts: Tensor

    def __init__(self, config: TrainingConfig, before: Checkpoint | None = None) -> None:
        super().__init__()
        self._config, self._before = config, before
        self._sources: list[list[Sweep]] = []
        self._choose: list[list[Sweep]] = []

    def setup(self, stage: str) -> None:
        """Read the sweeps, once."""
        if self._sources:
            return
        data = self._config.data
        sources, choose = self._loaded()
        self.spec = self._before.inputs if self._before else fit_inputs(self._config, sources[0])
        earlier = self._before.origins if self._before else ()
        self.origins = list(dict.fromkeys([*earlier, *(source.origin for source in sources)]))
        counts = np.zeros(256)
        for source in sources:
            sweeps = with_hidden_sectors(source, data.held_out_sectors) if data.held_out_sectors else source.sweeps
            self._sources.append(sweeps)
            weight = source.config.share / len(sweeps)
            counts += weight * sum(np.bincount(sweep.labels, minlength=256) for sweep in sweeps)
        self._choose = [source.sweeps for source in choose]
        self.class_counts = torch.tensor(counts[: len(label_map(LABELS))], dtype=torch.float32)

    def _loaded(self) -> tuple[list[Source], list[Source]]:
        """All sources, to train and to choose with; folders are read before drives are generated, which takes long."""
        data = self._config.data
        wanted = [*((config, "train") for config in data.train), *((config, "choose") for config in data.choose)]
        order = sorted(range(len(wanted)), key=lambda number: bool(wanted[number][0].seeds))
        found = {number: load_source(*wanted[number]) for number in order}
        sources = [found[number] for number in range(len(wanted))]
        return sources[: len(data.train)], sources[len(data.train) :]

    def train_dataloader(self) -> DataLoader[Any]:
        """Crops of one epoch; the trainer asks for a new loader in each, so that a resumed run goes on alike."""
        o = self._config.optimizer
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
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
        )
        return DataLoader(crops, batch_size=o.batch, num_workers=o.workers)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Whole sweeps of each choosing source, one at a time."""
        return [DataLoader(WholeSweeps(sweeps, self.spec), batch_size=None) for sweeps in self._choose]


def fit_inputs(config: TrainingConfig, source: Source) -> InputSpec:
    """The network's inputs, from a source's sweeps; its rows may be those of a known LiDAR instead."""
    model = config.model
    beams = lidar_named(model.beams).elevations_deg if model.beams else ()
    return InputSpec.fit(source.sweeps, model.width, model.channels, INTENSITY_RANGE, beams)


def with_hidden_sectors(source: Source, hidden: Sequence[int]) -> list[Sweep]:
    """The sweeps of a source, read from folders, without the labels of some sectors."""
    return [
        hide_sectors(sweep, sectors(drive, index, sweep.cloud), hidden)
        for sweep, (drive, index) in zip(source.sweeps, source.frames, strict=True)
    ]


class StudentTraining(pl.LightningModule):
    """The student with its loss, optimizer and validation.

    Args:
        config: the run, as :meth:`TrainingConfig.to_dict` gives it (it is stored in checkpoints).
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.config = from_dict(config)
        self.labels = label_map(LABELS)
        model = self.config.model
        self.student = Student(len(model.channels), len(self.labels), model.widths, model.blocks, model.table)
        # Channels last is faster in bf16, and slower in fp32.
        in_bf16 = self.config.precision == "bf16-mixed"
        self._memory_format = torch.channels_last if in_bf16 else torch.contiguous_format
        self.student.to(memory_format=self._memory_format)
        self.register_buffer("class_weights", torch.ones(len(self.labels)))
        self._translate = translation(self.labels, label_map(SCORED_LABELS))
        self._confusions = self._fresh_confusions()

    def on_fit_start(self) -> None:
        """Take the class weights from the data, also when a run is resumed."""
        self.class_weights.copy_(class_weights(self.trainer.datamodule.class_counts))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the network's inputs, and where its training data come from, beside its weights."""
        checkpoint.update(extras(self.trainer.datamodule.spec, self.trainer.datamodule.origins))

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Loss of a batch of crops."""
        crops = {name: value.flatten(0, 1) for name, value in batch.items()}
        image = crops["image"].to(memory_format=self._memory_format)
        logits = self.student.forward_with_margins(image, crops["points"], crops["pixel"])
        loss = segmentation_loss(logits, crops["labels"], self.class_weights)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int, dataloader_idx: int = 0) -> None:
        """Count the confusion of one sweep."""
        logits = self.student(batch["image"], batch["points"], batch["pixel"])[0]
        predicted = self._translate.apply(logits.argmax(dim=0).cpu().numpy())
        truth = self._translate.apply(batch["labels"][0].cpu().numpy())
        self._confusions[dataloader_idx].update(truth, predicted)

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and the IoU of each class over each choosing source."""
        for number, (source, confusion) in enumerate(zip(self.config.data.choose, self._confusions, strict=True)):
            mine = torch.from_numpy(confusion.counts).to(self.device)
            # With several devices, each has seen a part of the sweeps.
            everyone = self.all_gather(mine).reshape(-1, *mine.shape).sum(dim=0)
            confusion.counts = everyone.cpu().numpy()
            prefix = f"choose{number}_{source.dataset}"  # two sources may be of one dataset
            self.log(f"{prefix}/miou", confusion.miou() or 0.0, prog_bar=True, sync_dist=True)
            ious = {f"{prefix}/{name}": v for name, v in confusion.iou().items() if v is not None}
            self.log_dict(ious, sync_dist=True)
        self._confusions = self._fresh_confusions()

    def _fresh_confusions(self) -> list[ConfusionMatrix]:
        return [ConfusionMatrix(self._translate.target) for _ in self.config.data.choose]

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a one-cycle schedule over the whole run."""
        o = self.config.optimizer
        optimizer = torch.optim.AdamW(self.student.parameters(), o.learning_rate, weight_decay=o.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, o.learning_rate, total_steps=o.epochs * o.steps, pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(config: TrainingConfig) -> Path:
    """Train, or go on where the run folder's last checkpoint stands; the run folder is returned.

    Raises:
        ConfigError: the run folder holds another run, or the run to start from is not finished or has another network.
    """
    run = Path(config.run)
    config = replace(config, precision=precision_for(config.precision, run))
    own = _own_checkpoint(run, config)
    before = own or _start_of(config)
    make_folder(run)
    (run / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False), encoding="utf-8")
    pl.seed_everything(config.seed, workers=True, verbose=False)
    trainer = pl.Trainer(
        devices=config.devices or "auto",
        precision=config.precision,
        max_epochs=config.optimizer.epochs,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, config.optimizer.steps),
        logger=TensorBoardLogger(str(run), name="", version="tensorboard"),
        callbacks=[
            EMAWeightAveraging(decay=config.optimizer.ema_decay),
            ModelCheckpoint(run, filename=NAME, save_top_k=1, every_n_epochs=1, enable_version_counter=False),
            LearningRateMonitor(),
            *([TQDMProgressBar()] if sys.stderr.isatty() else []),
        ],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )
    module = StudentTraining(config.to_dict())
    if before:
        before.load_into(module)
    try:
        trainer.fit(module, SweepData(config, before), ckpt_path=own.path if own else None)
    except SystemExit as stop:  # Lightning's way to end on Ctrl-C
        if (run / CHECKPOINT).exists():
            print(f"{run}: the same command goes on from the last epoch", file=sys.stderr)
        raise KeyboardInterrupt from stop
    return run


def precision_for(wanted: str, run: Path) -> str:
    """The trainer's precision; ``auto`` becomes what the run had before, or what this machine is fast at.

    A processor without instructions for bf16 emulates them: a step then takes seven times as long as in fp32.
    """
    if wanted != "auto":
        return wanted
    if (run / CHECKPOINT).exists() and (run / "config.yaml").exists():
        return TrainingConfig.read(run / "config.yaml").precision
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if fast else "32-true"


def _own_checkpoint(run: Path, config: TrainingConfig) -> Checkpoint | None:
    """Where the run was interrupted."""
    settings = run / "config.yaml"
    if not (run / CHECKPOINT).exists():
        return None
    if not settings.exists() or TrainingConfig.read(settings) != config:
        raise ConfigError(f"{run} holds a run with other settings; choose another folder with run=FOLDER")
    return read_checkpoint(run)


def _start_of(config: TrainingConfig) -> Checkpoint | None:
    if not config.start:
        return None
    if not (Path(config.start) / CHECKPOINT).exists():
        raise ConfigError(f"start is {config.start}, which holds no run; train that one first, or give start=''")
    start = read_checkpoint(Path(config.start))
    if not start.finished:
        raise ConfigError(f"start is {config.start}, a run that is not finished; its own command goes on with it")
    ours, theirs = asdict(config.model), asdict(start.config.model)
    different = [f"model.{name}" for name in ours if ours[name] != theirs[name]]
    if different:
        raise ConfigError(f"start is {config.start}, a run with another {different[0]}; give this one the same")
    return start


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description="Train the student.")
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

    def work() -> str:
        run = train(TrainingConfig.read(options.config, options.overrides))
        return f"trained: {run}; export it with 'python -m training.export {run} OUT_DIR'"

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
