"""The images that belong to a sweep, and its points when their shutters were open.

A LiDAR fires its points one after the other, and each camera opens its shutter once; points are brought to the
shutter's instant by the vehicle's motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.datasets.sequence import DriveSequence
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ImageError
from xmodelkd_ros.core.transforms import inverse
from xmodelkd_ros.core.visibility import PointVisibility, SweepImages

_TIME_SLICES = 64


@dataclass(frozen=True, eq=False)
class Firing:
    """When the points of a sweep were fired, and how the sensor moved meanwhile.

    Attributes:
        slices: (N,) uint8 in which of 64 slices of the sweep each point was fired.
        poses: (64, 4, 4) world from sensor in the middle of each slice; empty without points.
    """

    slices: NDArray[np.uint8]
    poses: NDArray[np.float64]

    @classmethod
    def of(cls, sequence: DriveSequence, frame: int, time_s: NDArray[np.float32]) -> Firing:
        """The firing of a frame, whose (N,) points have these times, seconds from the sweep's stamp."""
        if len(time_s) == 0:
            return cls(np.zeros(0, np.uint8), np.zeros((0, 4, 4)))
        edges = np.linspace(time_s.min(), time_s.max(), _TIME_SLICES + 1)
        slices = np.clip(np.searchsorted(edges, time_s, "right") - 1, 0, _TIME_SLICES - 1)
        return cls(slices.astype(np.uint8), sequence.poses(frame, (edges[1:] + edges[:-1]) / 2))

    def moved(self, xyz: NDArray[np.float32], target_from_world: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) points as fired in another frame, given as (4, 4)."""
        if len(xyz) == 0:
            return np.zeros((0, 3))
        motion = target_from_world @ self.poses
        return np.asarray(np.einsum("nij,nj->ni", motion[self.slices, :3, :3], xyz) + motion[self.slices, :3, 3])


@dataclass(frozen=True, eq=False)
class Exposures:
    """The shutters that belong to a sweep: what finds its points in the images, also where something moved them.

    Attributes:
        firing: of the points.
        camera_frames: number of each camera, the camera, and (4, 4) the sensor when its shutter was open from the world.
    """

    firing: Firing
    camera_frames: tuple[tuple[int, CameraModel, NDArray[np.float64]], ...]

    @classmethod
    def of(cls, sequence: DriveSequence, frame: int) -> Exposures:
        """The exposures of a frame."""
        stamp = sequence.stamp_ns(frame)
        numbers = {camera.name: number for number, camera in enumerate(sequence.cameras)}
        camera_frames = tuple(
            (numbers[image.camera.name], image.camera, _at(sequence, frame, (image.stamp_ns - stamp) * 1e-9))
            for image in sequence.images(frame)
        )
        return cls(Firing.of(sequence, frame, sequence.time_s(frame)), camera_frames)

    def views(self, xyz: NDArray[np.float32]) -> PointVisibility:
        """The views of the sweep's points, if they lie at (N, 3) ``xyz``, each as it was fired."""
        camera_frames = (
            (number, camera, self.firing.moved(xyz, shutter)) for number, camera, shutter in self.camera_frames
        )
        return PointVisibility.find(len(xyz), camera_frames)


@dataclass(frozen=True, eq=False)
class EncodedSweepImages:
    """The images that belong to a sweep, and which of their places show its points.

    Attributes:
        jpegs: bytes of the image of each camera; empty where there is none.
        views: of the sweep's points.
        exposures: what found them.
    """

    jpegs: tuple[bytes, ...]
    views: PointVisibility
    exposures: Exposures

    @classmethod
    def at(cls, sequence: DriveSequence, frame: int) -> EncodedSweepImages:
        """The images of a frame."""
        taken = {image.camera.name: image.jpeg() for image in sequence.images(frame)}
        exposures = Exposures.of(sequence, frame)
        jpegs = tuple(taken.get(camera.name, b"") for camera in sequence.cameras)
        return cls(jpegs, exposures.views(sequence.cloud(frame).xyz), exposures)

    def pictures(self) -> SweepImages:
        """The images, decoded."""
        return SweepImages(tuple(decoded(jpeg) if jpeg else None for jpeg in self.jpegs), self.views)


def decoded(jpeg: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a JPEG file's bytes.

    Raises:
        ImageError: it is damaged.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    except cv2.error:  # of a size that nothing has
        pixels = None
    if pixels is None:
        raise ImageError(f"cannot decode a JPEG image of {len(jpeg)} bytes; take it out, or record the drive again")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def find_views(sequence: DriveSequence, frame: int) -> PointVisibility:
    """The views of all points of a sweep in the images that belong to it."""
    return Exposures.of(sequence, frame).views(sequence.cloud(frame).xyz)


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
    return moved(sequence, frame, xyz, time_s, _at(sequence, frame, instant_s))


def moved(
    sequence: DriveSequence,
    frame: int,
    xyz: NDArray[np.float32],
    time_s: NDArray[np.float32],
    target_from_world: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(N, 3) points as fired in another frame, given as (4, 4); other arguments as in :func:`at_instant`."""
    return Firing.of(sequence, frame, time_s).moved(xyz, target_from_world)


def _at(sequence: DriveSequence, frame: int, instant_s: float) -> NDArray[np.float64]:
    """(4, 4) the sensor at an instant, seconds from the sweep's stamp, from the world."""
    return np.asarray(inverse(sequence.poses(frame, np.array([instant_s]))[0]))
