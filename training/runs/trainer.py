"""A training run: its folder, its Lightning trainer, and resumption after an interruption."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
import yaml
from lightning_fabric.utilities.seed import pl_worker_init_function
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader, Subset

from training.config.image_training import ImageTrainingConfig
from training.config.training import TrainingConfig
from training.config.yaml_config import YamlConfig
from training.modules.checkpoint import CHECKPOINT, NAME, read_run, read_steps, save, with_current_names
from training.runs.provenance import check_upstream, record_upstream
from xmodelkd_ros.core.atomic_write import atomic_file, disk_errors, make_folder
from xmodelkd_ros.core.child_process import exit_when_parent_dies
from xmodelkd_ros.core.errors import ConfigError, XModelKDError, quoted

RunConfig = TrainingConfig | ImageTrainingConfig
Config = TypeVar("Config", bound=YamlConfig)
_Run = TypeVar("_Run", TrainingConfig, ImageTrainingConfig)

_SETTINGS = "config.yaml"
_STUDENT = "student."
"""Start of the names of a student's weights; others, such as those of distillation losses, are not shipped."""


def fit(config: RunConfig, module: pl.LightningModule, data: pl.LightningDataModule, resume: Path | None) -> Path:
    """Train, or resume from a checkpoint; write checkpoints, logs and settings to the run's folder, which is returned.

    Raises:
        DiskError: the disk is full or fails; the last checkpoint stays intact.
    """
    run, restore_errors = Path(config.run), RestoreErrors()
    if "LOCAL_RANK" in os.environ:  # started by the first of several processes, or by torchrun
        exit_when_parent_dies(os.getppid())
    make_folder(run)
    try:
        with disk_errors(run), restore_errors.named(resume):
            with atomic_file(run / _SETTINGS) as unfinished:
                unfinished.write_text(yaml.safe_dump(config.to_dict(), sort_keys=False), encoding="utf-8")
            if resume is None:
                record_upstream(config)
            _trainer(config, run, restore_errors).fit(module, data, ckpt_path=resume, weights_only=True)
    except SystemExit as stop:  # raised by Lightning on Ctrl-C
        if (run / CHECKPOINT).exists():
            print(f"{run}: the same command resumes from the last epoch", file=sys.stderr)
        raise KeyboardInterrupt from stop
    return run


class RestoreErrors(pl.Callback):
    """Reports errors while Lightning restores a checkpoint: a damaged one may raise any exception."""

    def __init__(self) -> None:
        self._restoring = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The data are loaded; Lightning restores the checkpoint next."""
        self._restoring = True

    def on_train_batch_end(self, *arguments: Any, **others: Any) -> None:
        """The checkpoint is restored: the first step has used all of it, including the optimizer's state."""
        self._restoring = False

    @contextmanager
    def named(self, checkpoint: Path | None) -> Iterator[None]:
        """Turn an error during restoration into one that names the checkpoint.

        Raises:
            ConfigError: the checkpoint cannot be restored.
        """
        try:
            yield
        except Exception as error:
            unrelated = (OSError, MemoryError, torch.OutOfMemoryError, XModelKDError)
            if checkpoint is None or not self._restoring or isinstance(error, unrelated):
                raise
            raise ConfigError(
                f"cannot resume from {checkpoint}: {quoted(error)}; remove {checkpoint.parent} and train again"
            ) from error


class StartShare(pl.Callback):
    """Adds a share of the weights that a student starts from to those of the finished run, when they are saved.

    Args:
        config: the run.

    Raises:
        ConfigError: there is no run to start from, which a resumed run needs again.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config, self._start = config, read_run(Path(config.start)).weights

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Change the averaged weights of the last step; all others are needed to continue."""
        optimizer, share = self._config.optimizer, self._config.keep_start
        if trainer.global_step < optimizer.epochs * optimizer.steps:
            return
        checkpoint["state_dict"] = {
            name: torch.lerp(value, self._start[name].to(value), share)
            if name.startswith(_STUDENT) and value.is_floating_point()
            else value
            for name, value in checkpoint["state_dict"].items()
        }


class _CheckpointFiles(TorchCheckpointIO):
    """Reads and writes checkpoint files: atomically, and with layers under their current names.

    Lightning itself writes to the temporary folder and moves the file, which is not atomic across file systems.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replace the last checkpoint."""
        save(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint to resume from, which an older version may have written."""
        checkpoint: dict[str, Any] = super().load_checkpoint(path, *arguments, **options)
        for key in ("state_dict", "current_model_state"):
            if isinstance(checkpoint.get(key), dict):
                checkpoint[key] = with_current_names(checkpoint[key])
        return checkpoint


def _trainer(config: RunConfig, run: Path, restore_errors: RestoreErrors) -> pl.Trainer:
    return pl.Trainer(
        devices=config.devices,
        num_nodes=config.nodes,
        # A student without targets yet does not use its distillation layers.
        strategy="ddp_find_unused_parameters_true" if processes(config) > 1 else "auto",
        use_distributed_sampler=False,  # it would repeat sweeps to divide them evenly; see own_part
        precision=config.precision,  # type: ignore[arg-type]
        max_epochs=config.optimizer.epochs,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        plugins=[_CheckpointFiles()],
        log_every_n_steps=min(10, config.optimizer.steps),
        logger=TensorBoardLogger(str(run), name="", version="tensorboard"),
        callbacks=[
            # The device is explicit, because the network is moved there only after Lightning would infer it.
            EMAWeightAveraging("cuda" if torch.cuda.is_available() else None, decay=config.optimizer.ema_decay),
            *([StartShare(config)] if isinstance(config, TrainingConfig) and config.keep_start else []),
            ModelCheckpoint(run, filename=NAME, save_top_k=1, every_n_epochs=1, enable_version_counter=False),
            LearningRateMonitor(),
            restore_errors,  # last, after the callbacks whose state is restored
            *([TQDMProgressBar()] if sys.stderr.isatty() else []),
        ],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )


def processes(config: RunConfig) -> int:
    """Number of training processes: one for each device of each machine."""
    return config.nodes * config.devices


def own_part(dataset: Any, trainer: pl.Trainer | None) -> Any:
    """The samples of this process: every n-th of a dataset for n processes.

    Args:
        dataset: the whole dataset.
        trainer: gives the rank of this process; None for a single process.
    """
    if trainer is None or trainer.world_size == 1:
        return dataset
    return Subset(dataset, range(trainer.global_rank, len(dataset), trainer.world_size))


def training_loader(dataset: Any, trainer: pl.Trainer | None, batch: int, workers: int) -> DataLoader[Any]:
    """Loader of batches of this process's part of a dataset, prepared in ``workers`` processes."""
    part = own_part(dataset, trainer)
    return DataLoader(part, batch_size=batch, num_workers=workers, worker_init_fn=_start_worker)


def _start_worker(worker: int) -> None:
    pl_worker_init_function(worker)  # Lightning's own, which seeds the worker
    exit_when_parent_dies(os.getppid())


def interrupted(config: RunConfig) -> Path | None:
    """The checkpoint to resume the run from; None for a new run.

    Raises:
        ConfigError: the folder holds a run with other settings, or one whose upstream runs have been retrained.
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
    """Whether the run has taken all its steps; errors as in :func:`interrupted`."""
    checkpoint = interrupted(resolved(config))
    if checkpoint is None:
        return False
    return read_steps(checkpoint.parent) >= config.optimizer.epochs * config.optimizer.steps


def resolved(config: _Run) -> _Run:
    """The settings with precision and devices resolved: those the run had before, or the fastest on this machine."""
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
    """The settings for a command that does more than train, which several processes would repeat.

    Raises:
        ConfigError: the settings ask for several devices.
    """
    if config.devices > 1 or config.nodes > 1:
        raise ConfigError(
            f"{config.run}: one device at a time is used here, not {config.devices} of {config.nodes} machines; leave "
            "devices and nodes out"
        )
    return replace(config, devices=1)


def _fast_precision() -> str:
    """Return bf16 only with hardware support: emulated on a CPU, a step takes seven times as long as in fp32."""
    if torch.cuda.is_available():
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        supported = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if supported else "32-true"
