"""Datasets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from training.data.cache import close_with_cache, memoize
from training.datasets.bag import BagSequence
from training.datasets.nuscenes import nuscenes_drives
from training.datasets.pandaset import PandaSetSequence
from training.datasets.semantickitti import semantickitti_drives
from training.datasets.sequence import DriveSequence
from training.world.stored import stored_drives
from xmodelkd_ros.console import print_notes
from xmodelkd_ros.core.errors import ConfigError

_OPENED_BY: dict[str, Callable[[Path, str, str, bool], list[DriveSequence]]] = {
    "pandaset": lambda path, split, topic, odometry: [PandaSetSequence(path)],
    "semantickitti": lambda path, split, topic, odometry: [*semantickitti_drives(path, split)],
    "nuscenes": lambda path, split, topic, odometry: [*nuscenes_drives(path, split)],
    "world": lambda path, split, topic, odometry: [*stored_drives(path)],
    "bag": lambda path, split, topic, odometry: [
        memoize(("bag", path, topic, odometry), lambda: _open_bag(path, topic, odometry))
    ],
}


def open_drives(
    dataset: str,
    path: Path,
    max_drives: int = 0,
    split: str = "",
    topic: str = "",
    scored: bool = False,
    odometry: bool = False,
) -> list[DriveSequence]:
    """Open the drives in a folder.

    Args:
        dataset: one of :data:`DATASETS`.
        path: a PandaSet sequence; a SemanticKITTI sequence, or the folder of all; a scene of nuScenes, or a version of
            it; a drive written by ``python -m training.world``, or a folder of such drives; a bag.
        max_drives: reject a folder with more drives; 0 for no limit.
        split: one of :data:`SPLITS`, of a whole SemanticKITTI or nuScenes data set; empty for all of it.
        topic: topic of a bag's sweeps, needed if it has several PointCloud2 topics.
        odometry: estimate the motion of a bag that has none.
        scored: whether the caller reports itself which ground truth has no counterpart in its label set.

    Raises:
        ConfigError: the folder is not of this dataset, or holds too many drives.
        BagError: the bag cannot be read, or has several PointCloud2 topics and ``topic`` is empty.
    """
    drives = _OPENED_BY[dataset](path, split, topic, odometry)
    print_notes(_notes(drives))
    if not scored:
        print_notes(note for drive in drives if isinstance(drive, BagSequence) for note in drive.truth_notes())
    if max_drives and len(drives) > max_drives:
        raise ConfigError(f"{path} holds {len(drives)} drives; give the folder of one of them")
    return drives


def _notes(drives: Sequence[DriveSequence]) -> Iterator[str]:
    """One line for each drive with notes, and one for all drives with the same notes."""
    names: dict[str, list[str]] = {}
    for drive in drives:
        if isinstance(drive, BagSequence):
            yield from drive.notes
        elif drive.notes:
            names.setdefault("; ".join(drive.notes), []).append(drive.name)
    for notes, same in names.items():
        more = f" and {len(same) - 1} more drives" if len(same) > 1 else ""
        yield f"{same[0]}{more}: {notes}"


def _open_bag(path: Path, topic: str, odometry: bool) -> BagSequence:
    """A bag that is closed at the end of the run cache, if there is one."""
    bag = BagSequence(path, topic, odometry)
    close_with_cache(bag.close)
    return bag
