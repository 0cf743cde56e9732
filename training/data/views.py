"""Which pixels show a point: the images that belong to a sweep, seen from its points.

A LiDAR fires its points one after the other, and each camera opens its shutter once; points are brought to the
shutter's instant by the vehicle's motion. A camera stands beside the LiDAR, so that some points hide behind
others from it: a depth buffer of the points themselves tells which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.sequence import DriveSequence
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.transforms import inverse

MOST_VIEWS = 2
"""Neighbouring cameras overlap at their edges; no point is seen by three."""
NO_CAMERA = -1

_TIME_SLICES = 64
_CELL = 1 / 80
"""Side of a cell of the depth buffer, relative to the image's width: about the distance of two beams."""
_SLACK_M, _SLACK = 0.5, 0.1
"""A point is hidden if it lies farther behind the nearest one of its cell: metres, and a share of the depth, as a
cell of flat ground far away is deep."""


@dataclass(frozen=True, eq=False)
class Views:
    """The cameras that see each of N points, the one that has it nearest its middle first.

    Attributes:
        camera: (N, 2) int8 number of the camera, -1 for none.
        uv: (N, 2, 2) float32 place in its image, -1 to 1 from edge to edge (right, down); 0 where there is none.
    """

    camera: NDArray[np.int8]
    uv: NDArray[np.float32]


def find_views(sequence: DriveSequence, frame: int) -> Views:
    """The views of all points of a sweep in the images that belong to it."""
    xyz, time_s, stamp = sequence.cloud(frame).xyz, sequence.time_s(frame), sequence.stamp_ns(frame)
    count = max(len(sequence.cameras), MOST_VIEWS)  # some rigs have none, or one
    uv, off = np.zeros((len(xyz), count, 2), np.float32), np.full((len(xyz), count), np.inf, np.float32)
    numbers = {camera.name: number for number, camera in enumerate(sequence.cameras)}
    for image in sequence.images(frame):
        number = numbers[image.camera.name]
        shutter_s = (image.stamp_ns - stamp) * 1e-9
        place, seen = visible(image.camera, at_instant(sequence, frame, xyz, time_s, shutter_s))
        uv[seen, number] = place[seen]
        off[seen, number] = np.abs(place[seen]).max(axis=1)
    best = np.argsort(off, axis=1)[:, :MOST_VIEWS]
    found = np.isfinite(np.take_along_axis(off, best, axis=1))
    camera = np.where(found, best, NO_CAMERA).astype(np.int8)
    return Views(camera, np.where(found[..., None], np.take_along_axis(uv, best[..., None], axis=1), 0))


def at_instant(
    sequence: DriveSequence, frame: int, xyz: NDArray[np.float32], time_s: NDArray[np.float32], instant_s: float
) -> NDArray[np.float64]:
    """(N, 3) points as fired, as the sensor would have them at one instant if the world stood still.

    Args:
        sequence: knows how the sensor moved.
        frame: of the sweep.
        xyz: (N, 3) points, each in the frame of the sensor at its own time.
        time_s: (N,) these times, seconds from the sweep's stamp.
        instant_s: the instant, seconds from the sweep's stamp.
    """
    if len(xyz) == 0:
        return np.zeros((0, 3))
    edges = np.linspace(time_s.min(), time_s.max(), _TIME_SLICES + 1)
    slices = np.clip(np.searchsorted(edges, time_s, "right") - 1, 0, _TIME_SLICES - 1)
    poses = sequence.poses(frame, (edges[1:] + edges[:-1]) / 2)
    motion = inverse(sequence.poses(frame, np.array([instant_s]))[0]) @ poses
    return np.asarray(np.einsum("nij,nj->ni", motion[slices, :3, :3], xyz) + motion[slices, :3, 3])


def visible(camera: CameraModel, xyz: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N, 2) places of points in the image, -1 to 1 from edge to edge, and (N,) whether the camera sees them."""
    pixels, seen = camera.project(xyz)
    size = np.array([camera.width, camera.height])
    depth = (xyz @ camera.from_lidar[:3, :3].T + camera.from_lidar[:3, 3])[:, 2]
    cell = np.floor((pixels[seen] + 0.5) / (camera.width * _CELL)).astype(np.int64)
    index = np.ravel_multi_index(tuple(cell.T), tuple(np.ceil(size / (camera.width * _CELL)).astype(int) + 1))
    nearest = np.full(index.max(initial=0) + 1, np.inf)
    np.minimum.at(nearest, index, depth[seen])
    front = nearest[index]
    seen[seen] = depth[seen] <= front * (1 + _SLACK) + _SLACK_M
    with np.errstate(invalid="ignore"):
        return (pixels + 0.5) / size * 2 - 1, seen
