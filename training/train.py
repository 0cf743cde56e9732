"""Training of the student: ``python -m training.train CONFIG.yaml [section.key=value ...]``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
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

from training.command import run_command
from training.config import TrainingConfig, from_dict
from training.data.crops import CropDataset
from training.data.pandaset import INTENSITY_RANGE, PandaSetSequence
from training.data.sweeps import InputSpec, Sweep, WholeSweeps, hide_sectors, load_sweeps, sectors
from training.losses import class_weights, segmentation_loss
from training.models.student import WRAP, Student
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.resources import label_map, translation
from xmodelkd_ros.tools.session import make_folder

SCORED_LABELS = "pandaset9"
CHECKPOINT = "last.ckpt"


class SweepData(pl.LightningDataModule):
    """Training crops and whole validation sweeps of one sequence.

    Attributes:
        spec: the network's inputs, fitted on the training sweeps by :meth:`setup`.
        class_counts: (C,) labelled training points of each class, after :meth:`setup`.
    """

    spec: InputSpec
    class_counts: Tensor

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self._config = config
        self._sequence = PandaSetSequence(Path(config.data.sequence))
        self.labels: LabelMap = self._sequence.label_map
        self._sweeps: list[Sweep] = []

    def setup(self, stage: str) -> None:
        """Read the sweeps, once."""
        if self._sweeps:
            return
        data, model = self._config.data, self._config.model
        frames = range(*data.train_frames)
        self._sweeps = load_sweeps(self._sequence, frames)
        self.spec = InputSpec.fit(self._sweeps, model.width, model.channels, INTENSITY_RANGE)
        if data.held_out_sectors:
            self._sweeps = [
                hide_sectors(sweep, sectors(self._sequence, i, sweep.cloud), data.held_out_sectors)
                for i, sweep in zip(frames, self._sweeps, strict=True)
            ]
        counts = sum(np.bincount(sweep.labels, minlength=256) for sweep in self._sweeps)
        self.class_counts = torch.tensor(np.asarray(counts)[: len(self.labels)], dtype=torch.float32)

    def train_dataloader(self) -> DataLoader[Any]:
        """Crops of one epoch; the trainer asks for a new loader in each, so that a resumed run goes on alike."""
        o = self._config.optimizer
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        crops = CropDataset(
            self._sweeps,
            self.spec,
            self._config.augment,
            columns=o.crop_columns,
            margin=WRAP,
            points=o.points,
            length=o.steps * o.batch * (self.trainer.world_size if self.trainer is not None else 1),
            seed=self._config.seed * 100_003 + epoch,
        )
        return DataLoader(crops, batch_size=o.batch, num_workers=o.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """Whole sweeps of the choosing frames, one at a time."""
        sweeps = load_sweeps(self._sequence, range(*self._config.data.choose_frames))
        return DataLoader(WholeSweeps(sweeps, self.spec), batch_size=None)


class StudentTraining(pl.LightningModule):
    """The student with its loss, optimizer and validation.

    Args:
        config: the run, as :meth:`TrainingConfig.to_dict` gives it (it is stored in checkpoints).
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.config = from_dict(config)
        self.labels = label_map("drive13")
        model = self.config.model
        self.student = Student(len(model.channels), len(self.labels), model.widths, model.blocks, model.table)
        self.student.to(memory_format=torch.channels_last)
        self.register_buffer("class_weights", torch.ones(len(self.labels)))
        self._translate = translation(self.labels, label_map(SCORED_LABELS))
        self._confusion = ConfusionMatrix(self._translate.target)

    def on_fit_start(self) -> None:
        """Take the class weights from the data, also when a run is resumed."""
        self.class_weights.copy_(class_weights(self.trainer.datamodule.class_counts))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the network's inputs beside its weights."""
        checkpoint["inputs"] = self.trainer.datamodule.spec.to_dict()

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Loss of a batch of crops."""
        crops = {name: value.flatten(0, 1) for name, value in batch.items()}
        image = crops["image"].to(memory_format=torch.channels_last)
        logits = self.student.forward_with_margins(image, crops["points"], crops["pixel"])
        loss = segmentation_loss(logits, crops["labels"], self.class_weights)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Count the confusion of one sweep."""
        logits = self.student(batch["image"], batch["points"], batch["pixel"])[0]
        predicted = self._translate.apply(logits.argmax(dim=0).cpu().numpy())
        self._confusion.update(self._translate.apply(batch["labels"][0].cpu().numpy()), predicted)

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and the IoU of each class over the choosing frames."""
        mine = torch.from_numpy(self._confusion.counts).to(self.device)
        # With several devices, each has seen a part of the sweeps.
        everyone = self.all_gather(mine).reshape(-1, *mine.shape).sum(dim=0)
        self._confusion.counts = everyone.cpu().numpy()
        self.log("choose/miou", self._confusion.miou() or 0.0, prog_bar=True, sync_dist=True)
        ious = {f"choose/{name}": v for name, v in self._confusion.iou().items() if v is not None}
        self.log_dict(ious, sync_dist=True)
        self._confusion = ConfusionMatrix(self._translate.target)

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
        ConfigError: the run folder holds another run.
    """
    run = Path(config.run)
    resume = _checkpoint_of(run, config)
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
            ModelCheckpoint(run, filename="last", save_top_k=1, every_n_epochs=1, enable_version_counter=False),
            LearningRateMonitor(),
            *([TQDMProgressBar()] if sys.stderr.isatty() else []),
        ],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )
    try:
        trainer.fit(StudentTraining(config.to_dict()), SweepData(config), ckpt_path=resume)
    except SystemExit as stop:  # Lightning's way to end on Ctrl-C
        print(f"{run}: the same command goes on from the last epoch", file=sys.stderr)
        raise KeyboardInterrupt from stop
    return run


def _checkpoint_of(run: Path, config: TrainingConfig) -> Path | None:
    checkpoint, settings = run / CHECKPOINT, run / "config.yaml"
    if not checkpoint.exists():
        return None
    if not settings.exists() or TrainingConfig.read(settings) != config:
        raise ConfigError(f"{run} holds a run with other settings; choose another folder with run=FOLDER")
    return checkpoint


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
