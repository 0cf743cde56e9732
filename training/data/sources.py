"""The sweeps that a training configuration names: read from folders, or generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.config import SourceConfig
from training.data.datasets import open_drives
from training.data.sequence import DriveSequence
from training.data.sweeps import Sweep
from training.data.world import WORLD_SOURCE, WorldSequence, live_drive
from training.world.drive import MAX_SWEEPS, Drive, split_of
from training.world.pool import each_drive
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.model_spec import DataSource


@dataclass(frozen=True, eq=False)
class Source:
    """Sweeps of one kind, in memory (2.3 MB each).

    Attributes:
        config: where they come from.
        sweeps: the sweeps.
        frames: (drive, frame number) of each sweep; empty for generated ones.
        origin: for ``model.json``.
    """

    config: SourceConfig
    sweeps: list[Sweep]
    frames: list[tuple[DriveSequence, int]]
    origin: DataSource


def load_source(config: SourceConfig, use: str) -> Source:
    """Read or generate the sweeps of a source.

    Args:
        config: where they come from.
        use: ``train`` or ``choose``; of the seeds given, those that are meant for it are taken.

    Raises:
        ConfigError: a folder cannot be read or holds a drive that is meant for another use, or no seed is meant for
            this one.
    """
    if config.path:
        drives = open_drives(config.dataset, Path(config.path))
        check_split(drives, use)
        frames = [
            (drive, index)
            for drive in drives
            for index in (range(*config.frames) if config.frames else range(len(drive)))
        ]
        sweeps = [Sweep(drive.cloud(index), drive.labels(index)) for drive, index in frames]
        return Source(config, sweeps, frames, frames[0][0].source)
    seeds = [seed for seed in range(*config.seeds) if split_of(seed) == use]
    if not seeds:
        raise ConfigError(f"seeds {config.seeds[0]} to {config.seeds[1] - 1} hold none to {use} with; give more")
    generated = each_drive(partial(_drive_sweeps, sweeps=config.sweeps, lidar=config.lidar), seeds)
    return Source(config, [sweep for drive in generated for sweep in drive], [], WORLD_SOURCE)


def check_split(drives: Sequence[DriveSequence], use: str) -> None:
    """Raise a ConfigError for generated drives that are meant for another use: nothing is learnt from test drives."""
    for drive in drives:
        if isinstance(drive, WorldSequence) and split_of(drive.seed) != use:
            raise ConfigError(
                f"{drive.name} is a drive to {split_of(drive.seed)} with, not to {use}; seeds that end in 8 are for "
                "choosing, in 9 for testing, all others for training"
            )


def _drive_sweeps(seed: int, sweeps: int, lidar: str) -> list[Sweep]:
    drive = live_drive(Drive(seed, sweeps, cameras=0, every=MAX_SWEEPS // sweeps, lidar=lidar))
    return [Sweep(drive.cloud(k), drive.labels(k)) for k in range(sweeps)]
