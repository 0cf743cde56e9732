"""A training run: its folder, its trainer, and how it goes on after an interruption."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch.utils.data import Subset

from training.config.image_training import ImageTrainingConfig
from training.config.training import TrainingConfig
from training.config.yaml_config import YamlConfig
from training.modules.checkpoint import CHECKPOINT, NAME, read_steps, save
from training.runs.provenance import check_upstream, note_upstream
from xmodelkd_ros.core.atomic_write import atomic_file, disk_errors, make_folder
from xmodelkd_ros.core.errors import ConfigError, XModelKDError, quoted

RunConfig = TrainingConfig | ImageTrainingConfig
_Config = TypeVar("_Config", bound=YamlConfig)
_Run = TypeVar("_Run", TrainingConfig, ImageTrainingConfig)

_SETTINGS = "config.yaml"


def fit(config: RunConfig, module: pl.LightningModule, data: pl.LightningDataModule, resume: Path | None) -> Path:
    """Train, and leave checkpoints, logs and settings in the run's folder, which is returned.

    Args:
        config: the run.
        module: the network with its loss.
        data: what it sees.
        resume: the checkpoint to go on from, as :func:`interrupted` found it.

    Raises:
        DiskError: the disk is full or fails; the last checkpoint is left as it was.
    """
    run, restoring = Path(config.run), _Restoring()
    make_folder(run)
    try:
        with disk_errors(run), restoring.named(resume):
            with atomic_file(run / _SETTINGS) as unfinished:
                unfinished.write_text(yaml.safe_dump(config.to_dict(), sort_keys=False), encoding="utf-8")
            if resume is None:
                note_upstream(config)
            _trainer(config, run, restoring).fit(module, data, ckpt_path=resume, weights_only=True)
    except SystemExit as stop:  # Lightning's way to end on Ctrl-C
        if (run / CHECKPOINT).exists():
            print(f"{run}: the same command goes on from the last epoch", file=sys.stderr)
        raise KeyboardInterrupt from stop
    return run


class _Restoring(pl.Callback):
    """Knows whether the trainer is taking up a checkpoint, which, damaged, makes it fail in any way."""

    def __init__(self) -> None:
        self._now = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The data are there; what comes next is the checkpoint."""
        self._now = True

    def on_train_batch_end(self, *arguments: Any, **others: Any) -> None:
        """It is taken up: the first step has used all of it, the optimizer's state too."""
        self._now = False

    @contextmanager
    def named(self, checkpoint: Path | None) -> Iterator[None]:
        """Name the checkpoint that cannot be taken up.

        Raises:
            ConfigError: that is so.
        """
        try:
            yield
        except Exception as error:
            others = (OSError, MemoryError, torch.OutOfMemoryError, XModelKDError)  # not the checkpoint's fault
            if checkpoint is None or not self._now or isinstance(error, others):
                raise
            raise ConfigError(
                f"cannot go on from {checkpoint}: {quoted(error)}; remove {checkpoint.parent} and train again"
            ) from error


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are there only when they are whole.

    Lightning writes one to the folder of temporary files and moves it; from another disk it comes piece by piece.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint in the place of the last one."""
        save(checkpoint, Path(path))


def _trainer(config: RunConfig, run: Path, restoring: _Restoring) -> pl.Trainer:
    return pl.Trainer(
        devices=config.devices,
        num_nodes=config.nodes,
        # A student that has no targets yet leaves the layers unused that compare it with its teacher.
        strategy="ddp_find_unused_parameters_true" if processes(config) > 1 else "auto",
        use_distributed_sampler=False,  # it repeats sweeps where they do not divide evenly; see own_part
        precision=config.precision,  # type: ignore[arg-type]
        max_epochs=config.optimizer.epochs,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        plugins=[_WholeCheckpoints()],
        log_every_n_steps=min(10, config.optimizer.steps),
        logger=TensorBoardLogger(str(run), name="", version="tensorboard"),
        callbacks=[
            # Where the network will be, which it is not yet when Lightning would look.
            EMAWeightAveraging("cuda" if torch.cuda.is_available() else None, decay=config.optimizer.ema_decay),
            ModelCheckpoint(run, filename=NAME, save_top_k=1, every_n_epochs=1, enable_version_counter=False),
            LearningRateMonitor(),
            restoring,  # behind those whose state comes from the checkpoint too
            *([TQDMProgressBar()] if sys.stderr.isatty() else []),
        ],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )


def processes(config: RunConfig) -> int:
    """How many processes train: one for each device of each machine."""
    return config.nodes * config.devices


def own_part(dataset: Any, trainer: pl.Trainer | None) -> Any:
    """Every n-th sample of a dataset, where n processes train: together they see each sample once.

    Args:
        dataset: of all processes.
        trainer: knows which process this is; None for a single one.
    """
    if trainer is None or trainer.world_size == 1:
        return dataset
    return Subset(dataset, range(trainer.global_rank, len(dataset), trainer.world_size))


def interrupted(config: RunConfig) -> Path | None:
    """The checkpoint where the run was interrupted; None for a new one.

    Raises:
        ConfigError: the run's folder holds another run, or one that builds on a run which was trained again since.
    """
    run = Path(config.run)
    if not (run / CHECKPOINT).exists():
        return None
    settings = run / _SETTINGS
    if not settings.exists() or type(config).read(settings) != config:
        raise ConfigError(f"{run} holds a run with other settings; choose another folder with run=FOLDER")
    check_upstream(config)
    return run / CHECKPOINT


def finished(config: RunConfig) -> bool:
    """Whether the run took all its steps; errors as in :func:`interrupted`."""
    checkpoint = interrupted(resolved(config))
    if checkpoint is None:
        return False
    return read_steps(checkpoint.parent) >= config.optimizer.epochs * config.optimizer.steps


def resolved(config: _Run) -> _Run:
    """The settings with what depends on the machine: as the run had it before, or as it is fast on this one."""
    run, before = Path(config.run), None
    if (run / CHECKPOINT).exists() and (run / _SETTINGS).exists():
        before = type(config).read(run / _SETTINGS)
    precision, devices = config.precision, config.devices
    if precision == "auto":
        precision = before.precision if before else _fast_precision()
    if not devices:
        devices = before.devices if before else max(torch.cuda.device_count(), 1)
    return replace(config, precision=precision, devices=devices)


def on_one_device(config: _Run) -> _Run:
    """The settings for a program that trains and goes on by itself, which several processes would do several times.

    Raises:
        ConfigError: they ask for several devices.
    """
    if config.devices > 1 or config.nodes > 1:
        raise ConfigError(
            f"{config.run}: one device at a time is used here, not {config.devices} of {config.nodes} machines; leave "
            "devices and nodes out"
        )
    return replace(config, devices=1)


def _fast_precision() -> str:
    """A processor without instructions for bf16 emulates them: a step then takes seven times as long as in fp32."""
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if fast else "32-true"
