"""Matching of recorded images to sweeps with the node's SweepCollector; the times of recording are its clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xmodelkd_ros.bags.bag import Message
from xmodelkd_ros.bags.mounted_cameras import MountedCamera
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import BagError, listed
from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.segmentation.image_matching import MatchedSweep, Now, SweepCollector


@dataclass(frozen=True, eq=False)
class RecordedImage:
    """An image as recorded.

    Attributes:
        camera: its camera.
        stamp_ns: its stamp.
        matched_ns: the stamp plus the camera's ``time_offset_s``, which is compared with the sweep's stamp.
        message: Image or CompressedImage, not decoded.
    """

    camera: CameraModel
    stamp_ns: int
    matched_ns: int
    message: Any

    @classmethod
    def of(cls, camera: MountedCamera, message: Any) -> RecordedImage:
        """The image in a message of a camera's image topic."""
        stamp = stamp_ns(message.header.stamp)
        return cls(camera.model, stamp, stamp + round(camera.time_offset_s * 1e9), message)


@dataclass(frozen=True)
class CameraOptions:
    """Selection of cameras and matching of their images, as in the node's parameters.

    Attributes:
        slop_ns: maximum image-to-sweep time difference.
        fixed_frame: frame in which ``/tf`` gives the vehicle's motion between image and sweep; empty: no motion.
        dropped: names of cameras whose images are withheld.
        image_age_ns: delay of every image, to measure the effect of outdated images.
        deadline_ns: how long a sweep waits for images.
    """

    slop_ns: int = 50_000_000
    fixed_frame: str = ""
    dropped: tuple[str, ...] = ()
    image_age_ns: int = 0
    deadline_ns: int = 50_000_000

    def select(self, names: Sequence[str], max_cameras: int) -> list[str]:
        """The cameras that a teacher is configured with: all used ones, and dropped ones while there is room.

        Raises:
            BagError: more cameras are used, or a dropped one is not in the bag.
        """
        unknown = [name for name in self.dropped if name not in names]
        if unknown:
            raise BagError(f"no camera {', '.join(unknown)} to drop; the bag has {listed(names) or 'none'}")
        used = [name for name in names if name not in self.dropped]
        if len(used) > max_cameras:
            raise BagError(
                f"the bag has {len(names)} cameras ({listed(names)}), but the model takes {max_cameras} at most; "
                "leave some out with --drop-cameras"
            )
        selected = {*used, *self.dropped[: max_cameras - len(used)]}
        return [name for name in names if name in selected]


def match_images(
    messages: Iterable[Message],
    points_topic: str,
    cameras: Mapping[str, MountedCamera],
    expected: Sequence[str],
    options: CameraOptions,
) -> Iterator[MatchedSweep[Message, RecordedImage]]:
    """Match images to sweeps as a node does that receives each message when it was recorded; yields every sweep once.

    Args:
        messages: sweeps and images in the order of recording.
        points_topic: topic of the sweeps.
        cameras: by image topic.
        expected: names of the cameras that a sweep waits for.
        options: slop, deadline and delay of the images.
    """
    collector = SweepCollector[Message, RecordedImage](expected, options.slop_ns, options.deadline_ns)
    for arrival_ns, message in _arrivals(messages, points_topic, options.image_age_ns):
        now = Now(arrival_ns, arrival_ns)
        yield from collector.poll(now)
        if message.topic == points_topic:
            yield from collector.add_sweep(stamp_ns(message.message.header.stamp), message, now)
        else:
            image = RecordedImage.of(cameras[message.topic], message.message)
            yield from collector.add_image(image.camera.name, image.matched_ns + options.image_age_ns, image, now)
    yield from collector.flush()


def _arrivals(messages: Iterable[Message], points_topic: str, image_age_ns: int) -> Iterator[tuple[int, Message]]:
    """Messages with their times of arrival and in this order: sweeps when they were recorded, images later."""
    delayed: deque[tuple[int, Message]] = deque()
    for message in messages:
        while delayed and delayed[0][0] <= message.log_time_ns:
            yield delayed.popleft()
        if message.topic == points_topic:
            yield message.log_time_ns, message
        else:
            delayed.append((message.log_time_ns + image_age_ns, message))
    yield from delayed


def nearest_images(
    messages: Iterable[Message], cameras: Mapping[str, MountedCamera], sweep_ns: int, slop_ns: int
) -> MatchedSweep[None, RecordedImage]:
    """The image of each camera nearest to a sweep in hindsight: later images compete with earlier ones."""
    names = [camera.model.name for camera in cameras.values()]
    collector, now = SweepCollector[None, RecordedImage](names, slop_ns, deadline_ns=0), Now(0, 0)
    for message in messages:
        image = RecordedImage.of(cameras[message.topic], message.message)
        collector.add_image(image.camera.name, image.matched_ns, image, now)
    (matched,) = collector.add_sweep(sweep_ns, None, now)
    return matched
