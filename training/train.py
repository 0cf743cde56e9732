"""Training of student and teacher: ``python -m training.train CONFIG.yaml [section.key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytorch_lightning as pl

from training.config.training import TrainingConfig
from training.distillation.prerequisites import UpstreamModels
from training.modules.checkpoint import CHECKPOINT, Checkpoint, check_finished, read_checkpoint
from training.modules.point_modules import PointModule, StudentModule
from training.runs.command import training_command
from training.runs.sweep_data import SweepData
from training.runs.trainer import finished, fit, interrupted, resolved
from xmodelkd_ros.core.errors import ConfigError


def train(config: TrainingConfig) -> Path:
    """Train, or go on where the run folder's last checkpoint stands; the run folder is returned.

    Raises:
        ConfigError: the run folder holds another run, or the run to start from is not finished or has another network.
    """
    config = resolved(config)
    if finished(config):
        return Path(config.run)
    own = interrupted(config)
    start = None if own else _start_of(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    upstream = UpstreamModels.of(config)
    module: PointModule = upstream.module(config.to_dict())
    if start:
        _go_on(module, start)
    before = read_checkpoint(own.parent) if own else start
    return fit(config, module, SweepData(config, before, upstream), own)


def _start_of(config: TrainingConfig) -> Checkpoint | None:
    if not config.start:
        return None
    if not (Path(config.start) / CHECKPOINT).exists():
        raise ConfigError(f"start is {config.start}, which holds no run; train that one first, or give start=''")
    check_finished(Path(config.start), "start")
    start = read_checkpoint(Path(config.start))
    ours, theirs = asdict(config.model), asdict(start.config.model)
    different = [f"model.{name}" for name in ours if ours[name] != theirs[name]]
    different += ["label_set"] if config.label_set != start.config.label_set else []
    if different:
        raise ConfigError(f"start is {config.start}, a run with another {different[0]}; give this one the same")
    return start


def _go_on(module: PointModule, start: Checkpoint) -> None:
    """Begin with the network of another run; a teacher may begin with a student as its LiDAR branch."""
    if isinstance(module, StudentModule):
        start.load_into(module, "student")
    elif start.config.teacher:
        start.load_into(module, "teacher")
    else:
        start.load_into(module, "student", "teacher.lidar")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    following = "a student, or a teacher with cameras, is exported with 'python -m training.export {run} OUT_DIR'"
    return training_command(arguments, "training.train", "a student, or a teacher", TrainingConfig, train, following)


if __name__ == "__main__":
    sys.exit(main())
