"""The datasets that commands take by name."""

from __future__ import annotations

from pathlib import Path

from training.data.pandaset import PandaSetSequence
from training.data.sequence import DriveSequence
from training.data.world import stored_drives
from xmodelkd_ros.core.errors import ConfigError

DATASETS = ("pandaset", "world")


def open_drives(dataset: str, path: Path, most: int = 0) -> list[DriveSequence]:
    """The drives in a folder.

    Args:
        dataset: one of :data:`DATASETS`.
        path: a PandaSet sequence; a drive written by ``python -m training.world``, or a folder of such drives.
        most: how many drives are wanted at most; 0 for all.

    Raises:
        ConfigError: the folder is not what it should be, or holds more drives than wanted.
    """
    drives: list[DriveSequence] = [PandaSetSequence(path)] if dataset == "pandaset" else [*stored_drives(path)]
    if most and len(drives) > most:
        raise ConfigError(f"{path} holds {len(drives)} drives; give the folder of one of them")
    return drives
