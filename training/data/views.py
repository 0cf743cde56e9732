"""The images that belong to a sweep, and its points when their shutters were open.

A LiDAR fires its points one after the other, and each camera opens its shutter once; points are brought to the
shutter's instant by the vehicle's motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.sequence import CameraImage, DriveSequence
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ImageError
from xmodelkd_ros.core.transforms import inverse
from xmodelkd_ros.core.views import Pictures, Views

_TIME_SLICES = 64


@dataclass(frozen=True, eq=False)
class Look:
    """The images that belong to a sweep, and which of their places show its points.

    Attributes:
        jpegs: bytes of the image of each camera; empty where there is none.
        views: of the sweep's points.
    """

    jpegs: tuple[bytes, ...]
    views: Views

    @classmethod
    def at(cls, sequence: DriveSequence, frame: int) -> Look:
        """The images of a frame."""
        taken = {image.camera.name: image.jpeg() for image in sequence.images(frame)}
        return cls(tuple(taken.get(camera.name, b"") for camera in sequence.cameras), find_views(sequence, frame))

    def pictures(self) -> Pictures:
        """The images, decoded."""
        return Pictures(tuple(decoded(jpeg) if jpeg else None for jpeg in self.jpegs), self.views)


def decoded(jpeg: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a JPEG file's bytes.

    Raises:
        ImageError: it is damaged.
    """
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if pixels is None:
        raise ImageError(f"cannot decode a JPEG image of {len(jpeg)} bytes; take it out, or record the drive again")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def find_views(sequence: DriveSequence, frame: int) -> Views:
    """The views of all points of a sweep in the images that belong to it."""
    xyz, time_s, stamp = sequence.cloud(frame).xyz, sequence.time_s(frame), sequence.stamp_ns(frame)
    numbers = {camera.name: number for number, camera in enumerate(sequence.cameras)}

    def at_shutter(image: CameraImage) -> tuple[int, CameraModel, NDArray[np.float64]]:
        points = at_instant(sequence, frame, xyz, time_s, (image.stamp_ns - stamp) * 1e-9)
        return numbers[image.camera.name], image.camera, points

    return Views.find(len(xyz), map(at_shutter, sequence.images(frame)))


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
    return moved(sequence, frame, xyz, time_s, inverse(sequence.poses(frame, np.array([instant_s]))[0]))


def moved(
    sequence: DriveSequence,
    frame: int,
    xyz: NDArray[np.float32],
    time_s: NDArray[np.float32],
    target_from_world: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(N, 3) points as fired in another frame, given as (4, 4); other arguments as in :func:`at_instant`."""
    if len(xyz) == 0:
        return np.zeros((0, 3))
    edges = np.linspace(time_s.min(), time_s.max(), _TIME_SLICES + 1)
    slices = np.clip(np.searchsorted(edges, time_s, "right") - 1, 0, _TIME_SLICES - 1)
    motion = target_from_world @ sequence.poses(frame, (edges[1:] + edges[:-1]) / 2)
    return np.asarray(np.einsum("nij,nj->ni", motion[slices, :3, :3], xyz) + motion[slices, :3, 3])
