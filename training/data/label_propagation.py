"""What was said of the same places at other times: votes in voxels of the world, by the vehicle's poses.

Only what stands still can be propagated from one sweep to another. A voxel in which most votes are for a class that
can move counts only if these came over a longer time than any passing thing stays in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.config.label_sets import LABELS
from training.datasets.exposures import moved
from training.datasets.sequence import DriveSequence, labels_of
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.resources import label_map

MOVABLE = ("car", "truck", "two_wheeler", "person")

_PARKED_S = 2.0
"""A voxel of a movable class counts if it was seen over this time; a lorry that creeps at 20 km/h passes in less."""
_FEWEST_VOTES = 2.0
_AGREEMENT = 0.8
"""Share of a voxel's votes that its class must have."""
CARRYING_M = 0.2
"""Side of the voxels in which labels are propagated from sweep to sweep."""
_REACH = 1 << 20
"""Voxels to each side of the origin along an axis: three of these numbers fit into 63 bits."""


class VoxelVotes:
    """Votes for classes in the voxels of the world.

    Args:
        side_m: of a voxel.
        classes: C.
        movable: ids of the classes that can move.
    """

    def __init__(self, side_m: float, classes: int, movable: Sequence[int]) -> None:
        self._side_m, self._movable = side_m, np.isin(np.arange(classes), movable)
        self._origin: NDArray[np.int64] | None = None
        self._keys = np.zeros(0, np.int64)
        self._votes = np.zeros((0, classes), np.float32)
        self._times = np.zeros((0, 2))
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]] = []

    def add(self, xyz: NDArray[np.floating], votes: NDArray[np.float32], time_s: float) -> None:
        """Add (N, C) votes at (N, 3) places, metres in the world, at one time; rows of zeros do not vote."""
        used = votes.any(axis=1)
        if self._origin is None and used.any():
            # Where coordinates are large, as in UTM, voxels are counted from here.
            self._origin = self._cells(xyz[used]).min(axis=0)
        keys, voxel = np.unique(self._key(xyz[used]), return_inverse=True)
        sums = np.column_stack([np.bincount(voxel, column, len(keys)) for column in votes[used].T])
        moves = self._movable[sums.argmax(axis=1)] if len(keys) else np.zeros(0, np.bool_)
        times = np.where(moves[:, None], (time_s, time_s), (np.inf, -np.inf))
        self._parts.append((keys, sums.astype(np.float32), times))

    def at(self, xyz: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, C) votes at (N, 3) places, all zero where there are none, or most are for a thing that passed."""
        self._settle()
        if len(self._keys) == 0:
            return np.zeros((len(xyz), self._votes.shape[1]), np.float32)
        keys = self._key(xyz)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        votes = self._votes[place] * (self._keys[place] == keys)[:, None]
        first, last = self._times[place].T
        passing = self._movable[votes.argmax(axis=1)] & ~(last - first >= _PARKED_S)
        return np.asarray(votes * ~passing[:, None])

    def labels(self, xyz: NDArray[np.floating]) -> NDArray[np.uint8]:
        """(N,) classes at places where most votes agree; 255 elsewhere."""
        votes = self.at(xyz)
        total, best = votes.sum(axis=1), votes.max(axis=1)
        sure = (total >= _FEWEST_VOTES) & (best >= _AGREEMENT * total)
        return np.where(sure, votes.argmax(axis=1), IGNORE).astype(np.uint8)

    def _key(self, xyz: NDArray[np.floating]) -> NDArray[np.int64]:
        origin = 0 if self._origin is None else self._origin
        x, y, z = np.clip(self._cells(xyz) - origin + _REACH, 0, 2 * _REACH - 1).T
        return np.asarray((x * 2 * _REACH + y) * 2 * _REACH + z)

    def _cells(self, xyz: NDArray[np.floating]) -> NDArray[np.int64]:
        return np.asarray(np.floor(xyz / self._side_m).astype(np.int64))

    def _settle(self) -> None:
        """Sum up what was added since the last time."""
        if not self._parts:
            return
        keys = np.concatenate([self._keys, *(part[0] for part in self._parts)])
        order = np.argsort(keys, kind="stable")
        self._keys, first = np.unique(keys[order], return_index=True)
        votes = np.concatenate([self._votes, *(part[1] for part in self._parts)])[order]
        times = np.concatenate([self._times.reshape(-1, 2), *(part[2] for part in self._parts)])[order]
        self._votes = np.add.reduceat(votes, first)
        self._times = np.column_stack(
            [np.minimum.reduceat(times[:, 0], first), np.maximum.reduceat(times[:, 1], first)]
        )
        self._parts = []


def drive_votes(side_m: float) -> VoxelVotes:
    """Empty voxels for votes on the classes that training learns."""
    return VoxelVotes(side_m, len(label_map(LABELS)), movable_ids())


def movable_ids() -> list[int]:
    """Ids of the classes that can move."""
    return [label_map(LABELS).id_of(name) for name in MOVABLE]


def propagated_labels(
    frames: Sequence[tuple[DriveSequence, int]], givers: Sequence[tuple[DriveSequence, int]]
) -> list[NDArray[np.uint8]]:
    """The labels that some sweeps of drives have given to the places of others, as in :meth:`VoxelVotes.labels`.

    Args:
        frames: the drives and numbers of the sweeps that get labels.
        givers: of the sweeps whose own labels they get, if they are of the same drive.
    """
    votes: dict[str, VoxelVotes] = {}
    ids = np.arange(len(label_map(LABELS)))
    for drive, index in givers:
        labels = labels_of(drive, index)[:, None] == ids
        known = votes.setdefault(place_of(drive), drive_votes(CARRYING_M))
        known.add(in_world(drive, index), labels.astype(np.float32), drive.stamp_ns(index) * 1e-9)
    nothing = drive_votes(CARRYING_M)
    return [votes.get(place_of(drive), nothing).labels(in_world(drive, index)) for drive, index in frames]


def place_of(drive: DriveSequence) -> str:
    """What drives in the same world have in common; names may be alike by chance."""
    return f"{type(drive).__name__} {getattr(drive, 'path', drive.name)}"


def in_world(sequence: DriveSequence, frame: int) -> NDArray[np.float64]:
    """(N, 3) the points of a sweep in the world, each by the sensor's pose at its own time."""
    return moved(sequence, frame, sequence.cloud(frame).xyz, sequence.time_s(frame), np.eye(4))
