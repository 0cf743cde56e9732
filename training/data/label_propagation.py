"""Label propagation between the sweeps of a drive: votes in world-frame voxels, registered by the vehicle's poses.

Only static objects can be propagated. A voxel with a majority for a movable class counts only if these votes span a
longer time than a passing object stays in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.config.label_sets import LABELS
from training.datasets.exposures import transform_points
from training.datasets.sequence import DriveSequence, labels_of
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.resources import label_map

MOVABLE = ("car", "truck", "two_wheeler", "person")

_PARKED_S = 2.0
"""A voxel of a movable class counts if its votes span this time; a lorry at 20 km/h passes in less."""
_MIN_VOTES = 2.0
_AGREEMENT = 0.8
"""Minimum share of a voxel's votes for its class."""
PROPAGATION_VOXEL_M = 0.2
"""Side of the voxels of propagated labels, metres."""
_REACH = 1 << 20
"""Voxels on each side of the origin along an axis: three indices fit into 63 bits."""


class VoxelVotes:
    """Class votes in world-frame voxels.

    Args:
        side_m: side of a voxel, metres.
        classes: number of classes, C.
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
        """Add (N, C) votes at (N, 3) world-frame points of one time; rows of zeros do not vote."""
        used = votes.any(axis=1)
        if self._origin is None and used.any():
            # Keeps voxel indices small where coordinates are large, as in UTM.
            self._origin = self._cells(xyz[used]).min(axis=0)
        keys, voxel = np.unique(self._key(xyz[used]), return_inverse=True)
        sums = np.column_stack([np.bincount(voxel, column, len(keys)) for column in votes[used].T])
        moves = self._movable[sums.argmax(axis=1)] if len(keys) else np.zeros(0, np.bool_)
        times = np.where(moves[:, None], (time_s, time_s), (np.inf, -np.inf))
        self._parts.append((keys, sums.astype(np.float32), times))

    def votes_at(self, xyz: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, C) votes at (N, 3) points; zero in voxels without votes or with a majority for a passing object."""
        self._merge()
        if len(self._keys) == 0:
            return np.zeros((len(xyz), self._votes.shape[1]), np.float32)
        keys = self._key(xyz)
        row = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        votes = self._votes[row] * (self._keys[row] == keys)[:, None]
        first, last = self._times[row].T
        passing = self._movable[votes.argmax(axis=1)] & ~(last - first >= _PARKED_S)
        return np.asarray(votes * ~passing[:, None])

    def labels(self, xyz: NDArray[np.floating]) -> NDArray[np.uint8]:
        """(N,) majority classes at (N, 3) points; 255 where the votes are too few or disagree."""
        votes = self.votes_at(xyz)
        total, best = votes.sum(axis=1), votes.max(axis=1)
        certain = (total >= _MIN_VOTES) & (best >= _AGREEMENT * total)
        return np.where(certain, votes.argmax(axis=1), IGNORE).astype(np.uint8)

    def _key(self, xyz: NDArray[np.floating]) -> NDArray[np.int64]:
        origin = 0 if self._origin is None else self._origin
        x, y, z = np.clip(self._cells(xyz) - origin + _REACH, 0, 2 * _REACH - 1).T
        return np.asarray((x * 2 * _REACH + y) * 2 * _REACH + z)

    def _cells(self, xyz: NDArray[np.floating]) -> NDArray[np.int64]:
        return np.asarray(np.floor(xyz / self._side_m).astype(np.int64))

    def _merge(self) -> None:
        """Merge the votes added since the last call."""
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


def fused_votes(
    votes: Sequence[NDArray[np.float32]],
    frames: Sequence[tuple[DriveSequence, int] | None],
    side_m: float,
    movable: Sequence[int],
) -> list[NDArray[np.float32] | None]:
    """The votes of all sweeps of a drive at the points of each, in voxels of the world.

    Args:
        votes: (N, C) of each sweep.
        frames: drive and frame number of each sweep; None for one that stands alone, as do those without poses.
        side_m: side of the voxels.
        movable: ids of the classes that can move.

    Returns:
        For each sweep (N, C), see :meth:`VoxelVotes.votes_at`; None for one that stands alone.
    """
    placed = [frame if frame is not None and frame[0].has_poses else None for frame in frames]
    world_xyz = [None if frame is None else points_in_world(*frame) for frame in placed]
    drives: dict[str, VoxelVotes] = {}
    for own, frame, xyz in zip(votes, placed, world_xyz, strict=True):
        if frame is not None and xyz is not None:
            empty = VoxelVotes(side_m, own.shape[1], movable)
            drives.setdefault(drive_key(frame[0]), empty).add(xyz, own, frame[0].stamp_ns(frame[1]) * 1e-9)
    return [
        None if frame is None or xyz is None else drives[drive_key(frame[0])].votes_at(xyz)
        for frame, xyz in zip(placed, world_xyz, strict=True)
    ]


def drive_votes(side_m: float) -> VoxelVotes:
    """Empty voxel votes for the training label set."""
    return VoxelVotes(side_m, len(label_map(LABELS)), movable_ids())


def movable_ids() -> list[int]:
    """Ids of the movable classes."""
    return [label_map(LABELS).id_of(name) for name in MOVABLE]


def propagated_labels(
    frames: Sequence[tuple[DriveSequence, int]], labelled: Sequence[tuple[DriveSequence, int]]
) -> list[NDArray[np.uint8]]:
    """Labels for sweeps, propagated from labelled sweeps of the same drive as in :meth:`VoxelVotes.labels`.

    Raises:
        ConfigError: a drive has no poses.
    """
    for name in sorted({drive.name for drive, _ in (*frames, *labelled) if not drive.has_poses}):
        raise ConfigError(f"labels: propagated needs poses, but {name} has none (its notes say why); give labels: none")
    votes: dict[str, VoxelVotes] = {}
    ids = np.arange(len(label_map(LABELS)))
    for drive, index in labelled:
        labels = labels_of(drive, index)[:, None] == ids
        drive_voxels = votes.setdefault(drive_key(drive), drive_votes(PROPAGATION_VOXEL_M))
        drive_voxels.add(points_in_world(drive, index), labels.astype(np.float32), drive.stamp_ns(index) * 1e-9)
    empty = drive_votes(PROPAGATION_VOXEL_M)
    return [votes.get(drive_key(drive), empty).labels(points_in_world(drive, index)) for drive, index in frames]


def drive_key(drive: DriveSequence) -> str:
    """Identifies drives in the same world frame; names alone may coincide."""
    return f"{type(drive).__name__} {getattr(drive, 'path', drive.name)}"


def points_in_world(sequence: DriveSequence, frame: int) -> NDArray[np.float64]:
    """(N, 3) points of a sweep in the world frame, each by the sensor pose at its own time."""
    return transform_points(sequence, frame, sequence.cloud(frame).xyz, sequence.time_s(frame), np.eye(4))
