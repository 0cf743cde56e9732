"""The datasets that commands take by name."""

from __future__ import annotations

from pathlib import Path

from training.data.bag import BagSequence
from training.data.pandaset import PandaSetSequence
from training.data.sequence import DriveSequence
from training.data.world import stored_drives
from xmodelkd_ros.core.errors import ConfigError

DATASETS = ("pandaset", "world", "bag")


def open_drives(dataset: str, path: Path, most: int = 0, topic: str = "") -> list[DriveSequence]:
    """The drives in a folder.

    Args:
        dataset: one of :data:`DATASETS`.
        path: a PandaSet sequence; a drive written by ``python -m training.world``, or a folder of such drives; a bag.
        most: how many drives are wanted at most; 0 for all.
        topic: of a bag's sweeps, where it has several PointCloud2 topics.

    Raises:
        ConfigError: the folder is not what it should be, or holds more drives than wanted.
        BagError: the bag cannot be read, or has several such topics and none is named.
    """
    drives: list[DriveSequence]
    if dataset == "pandaset":
        drives = [PandaSetSequence(path)]
    elif dataset == "bag":
        drives = [BagSequence(path, topic)]
    else:
        drives = [*stored_drives(path)]
    if most and len(drives) > most:
        raise ConfigError(f"{path} holds {len(drives)} drives; give the folder of one of them")
    return drives
