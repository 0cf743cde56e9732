"""The camera images of a sweep, and its points at the instants of their exposures.

A LiDAR fires its points one after the other, and each camera exposes once; points are moved to the instant of the
exposure by the vehicle's motion.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.datasets.sequence import CameraImage, DriveSequence, decode_jpeg
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.transforms import inverse
from xmodelkd_ros.core.visibility import PointVisibility, SweepImages

_TIME_SLICES = 64


@dataclass(frozen=True, eq=False)
class SweepMotion:
    """Sensor motion during a sweep, in time slices.

    Attributes:
        slices: (N,) uint8 the time slice, of 64, in which each point was fired.
        poses: (64, 4, 4) world from sensor in the middle of each slice; empty without points.
    """

    slices: NDArray[np.uint8]
    poses: NDArray[np.float64]

    @classmethod
    def of(cls, sequence: DriveSequence, frame: int, time_s: NDArray[np.float32]) -> SweepMotion:
        """The motion during a frame with points fired at (N,) times, seconds from the sweep's stamp."""
        if len(time_s) == 0:
            return cls(np.zeros(0, np.uint8), np.zeros((0, 4, 4)))
        edges = np.linspace(time_s.min(), time_s.max(), _TIME_SLICES + 1)
        slices = np.clip(np.searchsorted(edges, time_s, "right") - 1, 0, _TIME_SLICES - 1)
        return cls(slices.astype(np.uint8), sequence.poses(frame, (edges[1:] + edges[:-1]) / 2))

    @classmethod
    def none(cls, points: int) -> SweepMotion:
        """Points fired at one instant, in the sensor frame as world."""
        return cls(np.zeros(points, np.uint8), np.eye(4)[None])

    def transform(self, xyz: NDArray[np.float32], target_from_world: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) points as fired, transformed into a frame given as (4, 4)."""
        if len(xyz) == 0:
            return np.zeros((0, 3))
        motion = target_from_world @ self.poses
        return np.asarray(np.einsum("nij,nj->ni", motion[self.slices, :3, :3], xyz) + motion[self.slices, :3, 3])


@dataclass(frozen=True, eq=False)
class CameraExposures:
    """The camera exposures of a sweep; projects its points into the images, also after an augmentation moved them.

    Attributes:
        motion: of the sensor during the sweep.
        cameras: number of each camera, its model, and (4, 4) sensor at the exposure from world.
    """

    motion: SweepMotion
    cameras: tuple[tuple[int, CameraModel, NDArray[np.float64]], ...]

    @classmethod
    def of(cls, sequence: DriveSequence, frame: int) -> CameraExposures:
        """The exposures of a frame; without any image, or with all points and images at its stamp, it needs no pose."""
        stamp, images, time_s = sequence.stamp_ns(frame), sequence.images(frame), sequence.time_s(frame)
        numbers = {camera.name: number for number, camera in enumerate(sequence.cameras)}
        offsets_s = [(image.stamp_ns - stamp) * 1e-9 for image in images]
        if not images or not (time_s.any() or any(offsets_s)):
            motion, poses = SweepMotion.none(len(time_s)), [np.eye(4)] * len(images)
        else:
            motion = SweepMotion.of(sequence, frame, time_s)
            poses = [_sensor_from_world(sequence, frame, offset_s) for offset_s in offsets_s]
        cameras = ((numbers[image.camera.name], image.camera, pose) for image, pose in zip(images, poses, strict=True))
        return cls(motion, tuple(cameras))

    def views(self, xyz: NDArray[np.float32]) -> PointVisibility:
        """Visibility of the sweep's points in the images, with the points as fired at (N, 3) ``xyz``."""
        at_exposures = (
            (number, camera, self.motion.transform(xyz, sensor_from_world))
            for number, camera, sensor_from_world in self.cameras
        )
        return PointVisibility.find(len(xyz), at_exposures)


@dataclass(frozen=True, eq=False)
class EncodedSweepImages:
    """The JPEG images of a sweep, and where its points are visible in them.

    Attributes:
        jpegs: the image of each camera; empty bytes if missing, or if only its pixel classes are kept.
        views: visibility of the sweep's points.
        exposures: the exposures of the images.
        pixel_classes: the classes of each image's pixels, as PNG, where they are kept in place of its colours.
    """

    jpegs: tuple[bytes, ...]
    views: PointVisibility
    exposures: CameraExposures
    pixel_classes: tuple[bytes, ...] = ()

    @classmethod
    def load(cls, sequence: DriveSequence, frame: int, pixel_classes: bool = False) -> EncodedSweepImages:
        """Read the images of a frame.

        Args:
            sequence: the drive.
            frame: number of the frame.
            pixel_classes: read the classes of pixels in place of their colours, where they are known.
        """
        images = {image.camera.name: image for image in sequence.images(frame)}
        exposures = CameraExposures.of(sequence, frame)
        views = exposures.views(sequence.cloud(frame).xyz)
        ordered = [images.get(camera.name) for camera in sequence.cameras]
        classes = tuple(_classes(image) if pixel_classes else b"" for image in ordered)
        jpegs = tuple(b"" if image is None or c else image.jpeg() for image, c in zip(ordered, classes, strict=True))
        return cls(jpegs, views, exposures, classes if any(classes) else ())

    @classmethod
    def none(cls, points: int) -> EncodedSweepImages:
        """The images of a sweep that has none."""
        return cls((), PointVisibility.find(points, ()), CameraExposures(SweepMotion.none(points), ()))

    def decode(self) -> SweepImages:
        """The decoded images; errors as in :func:`training.datasets.sequence.decode_jpeg`."""
        return SweepImages(tuple(decode_jpeg(jpeg) if jpeg else None for jpeg in self.jpegs), self.views)


def _classes(image: CameraImage | None) -> bytes:
    """The classes of an image's pixels as PNG; empty if they are not known."""
    labels = None if image is None else image.labels()
    if labels is None:
        return b""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "png")
    return buffer.getvalue()


def motion_compensated(
    sequence: DriveSequence, frame: int, xyz: NDArray[np.float32], time_s: NDArray[np.float32], instant_s: float
) -> NDArray[np.float64]:
    """(N, 3) points in the sensor frame at one instant, for a static world.

    Args:
        sequence: gives the sensor's poses.
        frame: of the sweep.
        xyz: (N, 3) points, each in the sensor frame at its own time.
        time_s: (N,) these times, seconds from the sweep's stamp.
        instant_s: the instant, seconds from the sweep's stamp.
    """
    if not (time_s.any() or instant_s):
        return xyz.astype(np.float64)
    return transform_points(sequence, frame, xyz, time_s, _sensor_from_world(sequence, frame, instant_s))


def transform_points(
    sequence: DriveSequence,
    frame: int,
    xyz: NDArray[np.float32],
    time_s: NDArray[np.float32],
    target_from_world: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(N, 3) points as fired, in a frame given as (4, 4); other arguments as in :func:`motion_compensated`."""
    return SweepMotion.of(sequence, frame, time_s).transform(xyz, target_from_world)


def _sensor_from_world(sequence: DriveSequence, frame: int, instant_s: float) -> NDArray[np.float64]:
    """(4, 4) sensor from world at an instant, seconds from the sweep's stamp."""
    return np.asarray(inverse(sequence.poses(frame, np.array([instant_s]))[0]))
