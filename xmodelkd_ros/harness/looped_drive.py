"""The messages of a bag as one endless drive: played again and again, each pass later than the one before."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2

from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, BagReader, RawMessage
from xmodelkd_ros.core.errors import ConfigError, listed
from xmodelkd_ros.harness.cdr import serialized_stamp_ns, stamped
from xmodelkd_ros.harness.sweep_log import message_class
from xmodelkd_ros.messages.headers import stamp_from_ns, stamp_ns
from xmodelkd_ros.node.qos import latched, reliable

_DEPTH = 10
_PERIOD_NS = 100_000_000
"""Taken for the time between sweeps where there is only one."""


class Recorded(NamedTuple):
    """A message of the bag.

    Attributes:
        after_ns: nanoseconds from the start of the drive.
        topic: its topic.
        data: its bytes, as recorded.
        stamp_ns: its stamp; None for transforms, each of which has its own.
        points: their number, if it is a sweep.
        later_ns: how much later it is in this pass.
    """

    after_ns: int
    topic: str
    data: bytes
    stamp_ns: int | None
    points: int | None
    later_ns: int = 0


class LoopedDrive:
    """Plays a bag over and over.

    A pass lasts as long as its sweeps. Of each other topic it has as much, from no more than a sweep before the first
    one on: what was recorded beyond that would come beside the same of the next pass. Of what holds until it changes
    (calibrations, what is latched) the last message from before is kept too.

    Args:
        reader: the open bag.
        points_topic: of the sweeps.
        cameras: topic of the CameraInfo of each image topic.
        transforms: topics of TF.

    Attributes:
        topics: those that are played.
        start_ns: time of recording at which it begins.
        sweep_ns: median time between sweeps.

    Raises:
        ConfigError: the bag lacks one of the topics, or sweeps; or a message package is not installed.
    """

    def __init__(
        self, reader: BagReader, points_topic: str, cameras: Mapping[str, str], transforms: Sequence[str] = ()
    ) -> None:
        wanted = [points_topic, *cameras, *cameras.values(), *transforms]
        missing = [topic for topic in wanted if topic not in reader.topics]
        if missing:
            raise ConfigError(f"bag {reader.path} has no topic {', '.join(missing)}; it has {listed(reader.topics)}")
        self.topics = {topic: reader.topics[topic] for topic in wanted}
        self._check_types(reader, points_topic)
        raw = list(reader.raw(wanted))
        sweeps = [message.log_time_ns for message in raw if message.topic == points_topic]
        if not sweeps:
            raise ConfigError(f"bag {reader.path} has no sweep on {points_topic}")
        self.sweep_ns = int(np.median(np.diff(sweeps))) if len(sweeps) > 1 else _PERIOD_NS
        # The first sweep of a pass follows the last one of the pass before as sweeps follow each other.
        self._period_ns = sweeps[-1] - sweeps[0] + self.sweep_ns
        self.start_ns = sweeps[0] - self.sweep_ns
        lasting = {name for name, topic in self.topics.items() if topic.latched} | set(cameras.values())
        before = {m.topic: m for m in raw if m.topic in lasting and m.log_time_ns < self.start_ns}
        kept = [(0, message) for message in before.values()]
        begin: dict[str, int] = {}
        for message in raw:
            after_ns = message.log_time_ns - self.start_ns
            if after_ns >= 0 and after_ns - begin.setdefault(message.topic, after_ns) < self._period_ns:
                kept.append((after_ns, message))
        self._messages = [_recorded(message, after_ns, points_topic, transforms) for after_ns, message in kept]

    def _check_types(self, reader: BagReader, points_topic: str) -> None:
        if self.topics[points_topic].type != POINT_CLOUD_TYPE:
            raise ConfigError(f"{points_topic} of bag {reader.path} is a {self.topics[points_topic].type}, no cloud")
        for name, topic in self.topics.items():
            if message_class(topic.type) is None:
                raise ConfigError(f"cannot play {name}: the package of {topic.type} is not installed")

    def messages(self, sweeps_wait_ns: int = 0) -> Iterator[Recorded]:
        """All of them, over and over, each pass later than the one before, in order of time.

        Args:
            sweeps_wait_ns: sweeps come after what was recorded so much later.
        """
        # The end of a pass comes among the beginning of the next.
        turns = [
            (divmod(m.after_ns + (sweeps_wait_ns if m.points is not None else 0), self._period_ns), m)
            for m in self._messages
        ]
        turns.sort(key=lambda turn: turn[0][1])
        for number in count():
            for (passes, _), message in turns:
                if number >= passes:
                    later = (number - passes) * self._period_ns
                    yield message._replace(after_ns=message.after_ns + later, later_ns=later)

    def publishers(self, node: Node) -> dict[str, Publisher]:
        """A publisher for each topic."""
        return {
            name: node.create_publisher(
                message_class(topic.type), name, latched() if topic.latched else reliable(_DEPTH)
            )
            for name, topic in self.topics.items()
        }

    def data(self, message: Recorded, later_ns: int) -> bytes:
        """A message's bytes with all its stamps later than they were recorded."""
        if message.stamp_ns is not None:
            return stamped(message.data, message.stamp_ns + later_ns)
        transforms = deserialize_message(message.data, message_class(self.topics[message.topic].type))
        for transform in transforms.transforms:
            stamp = transform.header.stamp
            transform.header.stamp = stamp_from_ns(stamp_ns(stamp) + later_ns, type(stamp))
        return bytes(serialize_message(transforms))


def _recorded(message: RawMessage, after_ns: int, points_topic: str, transforms: Sequence[str]) -> Recorded:
    data = bytes(message.data)
    if message.topic in transforms:
        return Recorded(after_ns, message.topic, data, None, None)
    points = None
    if message.topic == points_topic:
        cloud = deserialize_message(data, PointCloud2)
        points = cloud.height * cloud.width
    return Recorded(after_ns, message.topic, data, serialized_stamp_ns(data), points)


def camera_topics(text: str) -> tuple[str, str]:
    """Image topic and CameraInfo topic of a camera, as a command line has them."""
    image, _, info = text.partition(":")
    if not image or not info:
        raise argparse.ArgumentTypeError(f"'{text}' is not IMAGE_TOPIC:INFO_TOPIC")
    return image, info
