"""The sweeps that a training configuration names: read from folders, or generated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.config import SourceConfig
from training.data.datasets import open_drives
from training.data.sequence import DriveSequence
from training.data.sweeps import Sweep
from training.data.world import WORLD_SOURCE, live_drive
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
        ConfigError: a folder cannot be read, or no seed is meant for this use.
    """
    if config.path:
        frames = [
            (drive, index)
            for drive in open_drives(config.dataset, Path(config.path))
            for index in (range(*config.frames) if config.frames else range(len(drive)))
        ]
        sweeps = [Sweep(drive.cloud(index), drive.labels(index)) for drive, index in frames]
        return Source(config, sweeps, frames, frames[0][0].source)
    seeds = [seed for seed in range(*config.seeds) if split_of(seed) == use]
    if not seeds:
        raise ConfigError(f"seeds {config.seeds[0]} to {config.seeds[1] - 1} hold none to {use} with; give more")
    drives = each_drive(partial(_drive_sweeps, sweeps=config.sweeps), seeds)
    return Source(config, [sweep for drive in drives for sweep in drive], [], WORLD_SOURCE)


def _drive_sweeps(seed: int, sweeps: int) -> list[Sweep]:
    drive = live_drive(Drive(seed, sweeps, cameras=0, every=MAX_SWEEPS // sweeps))
    return [Sweep(drive.cloud(k), drive.labels(k)) for k in range(sweeps)]
