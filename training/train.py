"""Train a student or teacher: ``python -m training.train CONFIG.yaml [section.key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytorch_lightning as pl

from training.config.training import TrainingConfig
from training.distillation.prerequisites import UpstreamModels
from training.modules.checkpoint import CHECKPOINT, Checkpoint, read_checkpoint
from training.modules.point_modules import PointModule, StudentModule
from training.runs.command import training_command
from training.runs.sweep_data import SweepData
from training.runs.trainer import finished, fit, interrupted, resolved
from xmodelkd_ros.core.errors import ConfigError


def train(config: TrainingConfig, start: Checkpoint | None = None, upstream: UpstreamModels | None = None) -> Path:
    """Train, or resume from the run folder's last checkpoint; returns the run folder.

    Args:
        config: the run.
        start: the checkpoint that ``config.start`` names, if it is loaded already.
        upstream: the other networks that the configuration names, likewise.

    Raises:
        ConfigError: the run folder holds another run, or the run to start from is not finished or has another network.
    """
    config = resolved(config)
    if finished(config):
        return Path(config.run)
    own = interrupted(config)
    initial = None if own else _checked_start(config, start)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    upstream = upstream or UpstreamModels.of(config)
    module: PointModule = upstream.module(config.to_dict())
    if initial:
        _initialise(module, initial)
    before = read_checkpoint(own.parent) if own else initial
    return fit(config, module, SweepData(config, before, upstream), own)


def _checked_start(config: TrainingConfig, start: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint to start from, which must be finished and of the same network; None without one."""
    if not config.start:
        return None
    if not (Path(config.start) / CHECKPOINT).exists():
        raise ConfigError(f"start is {config.start}, which holds no run; train that one first, or give start=''")
    start = start or read_checkpoint(Path(config.start))
    start.state.check_finished("start")
    ours, theirs = asdict(config.model), asdict(start.config.model)
    different = [f"model.{name}" for name in ours if ours[name] != theirs[name]]
    different += ["label_set"] if config.label_set != start.config.label_set else []
    if different:
        raise ConfigError(f"start is {config.start}, a run with another {different[0]}; give this one the same")
    return start


def _initialise(module: PointModule, start: Checkpoint) -> None:
    """Load the weights of another run; a teacher's LiDAR branch may take those of a student."""
    if isinstance(module, StudentModule):
        start.load_into(module, "student")
    elif start.config.teacher:
        start.load_into(module, "teacher")
    else:
        start.load_into(module, "student", "teacher.lidar")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    next_step = "export a student, or a teacher with cameras, with 'python -m training.export {run} OUT_DIR'"
    return training_command(arguments, "training.train", "a student or teacher", TrainingConfig, train, next_step)


if __name__ == "__main__":
    sys.exit(main())
