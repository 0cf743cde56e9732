"""Train the teacher's image branch: ``python -m training.train_images CONFIG.yaml [section.key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl

from training.config.image_training import ImageTrainingConfig
from training.models.image_encoder import PRETRAINED
from training.modules.checkpoint import read_run
from training.modules.image_module import ImageBranchModule, load_weights
from training.runs.command import training_command
from training.runs.image_data import ImageData
from training.runs.trainer import finished, fit, interrupted, resolved


def train_images(config: ImageTrainingConfig) -> Path:
    """Train, or resume from the run folder's last checkpoint; returns the run folder.

    Raises:
        ConfigError: the run folder holds another run, or the one to start from cannot be used.
    """
    config = resolved(config)
    if finished(config):
        return Path(config.run)
    own = interrupted(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    module = ImageBranchModule(config.to_dict())
    before = read_run(own.parent if own else Path(config.start)) if own or config.start else None
    if before and not own:
        before.check_finished("start")
        load_weights(module, before)
    return fit(config, module, ImageData(config, before.origins if before else (PRETRAINED,)), own)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    next_step = "use it in a teacher with teacher.image_branch={run}"
    return training_command(
        arguments, "training.train_images", "the image branch", ImageTrainingConfig, train_images, next_step
    )


if __name__ == "__main__":
    sys.exit(main())
