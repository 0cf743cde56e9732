"""The transform tree of a recorded drive, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.core.transforms import PoseTrack
from xmodelkd_ros.messages.headers import frame_name, frames_and_pose, stamp_ns, without_prefix
from xmodelkd_ros.messages.topics import STATIC_TF, TF

SMOOTH_FRAME = "odom"
"""Preferred frame for poses, because they are continuous in it (REP-105); without it, the root frame is used."""

Edge = NDArray[np.float64] | PoseTrack
"""Pose of a frame in its parent: static, or over time."""


class TransformTree:
    """The transforms of a bag.

    Args:
        reader: the open bag.
        origin_ns: origin of times in seconds; a double cannot hold nanoseconds since 1970.
    """

    def __init__(self, reader: BagReader, origin_ns: int) -> None:
        self.origin_ns = origin_ns
        self._parents: dict[str, tuple[str, Edge]] = {}
        moving: dict[str, tuple[str, dict[int, NDArray[np.float64]]]] = {}
        for topic in (STATIC_TF, TF):
            for message in reader.messages([topic]) if topic in reader.topics else ():
                for stamped in message.message.transforms:
                    (parent, child), pose = frames_and_pose(stamped)
                    if topic == STATIC_TF:
                        self._parents[child] = (parent, pose)
                    else:
                        moving.setdefault(child, (parent, {}))[1][stamp_ns(stamped.header.stamp)] = pose
        self._parents |= {child: (parent, self._track(poses)) for child, (parent, poses) in moving.items()}

    def chain_above(self, frame: str, top: str = SMOOTH_FRAME) -> list[tuple[str, Edge]]:
        """The ancestors of a frame, up to ``top`` or the root, each with the pose of its predecessor in it.

        The prefix of ``odom`` does not count (``car1/odom``): the ancestors of a LiDAR are those of its own vehicle.
        """
        parents, chain = dict(self._parents), []
        current, top = frame_name(frame), frame_name(top)
        while current in parents and current != top and not (top == SMOOTH_FRAME == without_prefix(current)):
            current, edge = parents.pop(current)  # a loop ends the chain
            chain.append((current, edge))
        return chain

    @property
    def frames(self) -> set[str]:
        """All frames."""
        return {*self._parents, *(parent for parent, _ in self._parents.values())}

    def _track(self, poses: Mapping[int, NDArray[np.float64]]) -> PoseTrack:
        stamps = sorted(poses)
        times_s = [(stamp - self.origin_ns) * 1e-9 for stamp in stamps]
        return PoseTrack.of_matrices(times_s, np.stack([poses[stamp] for stamp in stamps]))


def is_moving(chain: Sequence[tuple[str, Edge]]) -> bool:
    """Whether any pose in a chain of frames changes over time."""
    return any(isinstance(edge, PoseTrack) for _, edge in chain)


def chain_poses(chain: Sequence[tuple[str, Edge]], times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, 4, 4) poses of the first frame of a chain in the last one, at (M,) times in seconds from the origin."""
    poses = np.tile(np.eye(4), (len(times_s), 1, 1))
    for _, edge in chain:
        poses = (edge.poses(times_s) if isinstance(edge, PoseTrack) else edge) @ poses
    return poses
