"""Endless drive: the messages of a bag, repeated with increasing stamps."""

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
from xmodelkd_ros.harness.cdr import serialized_stamp_ns, with_stamp
from xmodelkd_ros.harness.sweep_log import message_class
from xmodelkd_ros.messages.headers import stamp_from_ns, stamp_ns
from xmodelkd_ros.node.qos import latched, reliable

_DEPTH = 10
_DEFAULT_PERIOD_NS = 100_000_000
"""Time between sweeps of a bag with a single sweep."""


class DriveMessage(NamedTuple):
    """A message of one pass through the bag.

    Attributes:
        time_ns: nanoseconds from the start of the drive.
        topic: its topic.
        data: the recorded bytes.
        stamp_ns: recorded header stamp; None for TF messages, which hold several stamps.
        points: number of points of a sweep; None for other messages.
        offset_ns: what this pass adds to the recorded stamps.
    """

    time_ns: int
    topic: str
    data: bytes
    stamp_ns: int | None
    points: int | None
    offset_ns: int = 0


class LoopedDrive:
    """Repeats a bag without end.

    A pass lasts from one sweep period before the first sweep to the last sweep. Each other topic contributes messages
    of the same duration, starting no earlier than the pass: messages recorded outside of it would overlap the
    neighbouring passes. The last earlier message of each latched or calibration topic is kept too.

    Args:
        reader: the open bag.
        points_topic: topic of the sweeps.
        cameras: CameraInfo topic by image topic.
        transforms: TF topics.

    Attributes:
        topics: the played topics.
        start_ns: log time of the start of the drive.
        sweep_ns: median time between sweeps.

    Raises:
        ConfigError: the bag lacks a topic or sweeps, or a message package is not installed.
    """

    def __init__(
        self, reader: BagReader, points_topic: str, cameras: Mapping[str, str], transforms: Sequence[str] = ()
    ) -> None:
        names = [points_topic, *cameras, *cameras.values(), *transforms]
        missing = [topic for topic in names if topic not in reader.topics]
        if missing:
            raise ConfigError(f"bag {reader.path} has no topic {', '.join(missing)}; it has {listed(reader.topics)}")
        self.topics = {topic: reader.topics[topic] for topic in names}
        self._check_types(reader, points_topic)
        raw = list(reader.raw(names))
        sweeps = [message.log_time_ns for message in raw if message.topic == points_topic]
        if not sweeps:
            raise ConfigError(f"bag {reader.path} has no sweep on {points_topic}")
        self.sweep_ns = int(np.median(np.diff(sweeps))) if len(sweeps) > 1 else _DEFAULT_PERIOD_NS
        # The first sweep of a pass follows the last one of the previous pass after one sweep period.
        self._period_ns = sweeps[-1] - sweeps[0] + self.sweep_ns
        self.start_ns = sweeps[0] - self.sweep_ns
        persistent = {name for name, topic in self.topics.items() if topic.latched} | set(cameras.values())
        earlier = {m.topic: m for m in raw if m.topic in persistent and m.log_time_ns < self.start_ns}
        selected = [(0, message) for message in earlier.values()]
        begin: dict[str, int] = {}
        for message in raw:
            time_ns = message.log_time_ns - self.start_ns
            if time_ns >= 0 and time_ns - begin.setdefault(message.topic, time_ns) < self._period_ns:
                selected.append((time_ns, message))
        self._messages = [_drive_message(message, time_ns, points_topic, transforms) for time_ns, message in selected]

    def _check_types(self, reader: BagReader, points_topic: str) -> None:
        if self.topics[points_topic].type != POINT_CLOUD_TYPE:
            type_ = self.topics[points_topic].type
            raise ConfigError(f"{points_topic} of bag {reader.path} is a {type_}; give a topic of {POINT_CLOUD_TYPE}")
        for name, topic in self.topics.items():
            if message_class(topic.type) is None:
                raise ConfigError(f"cannot play {name}: the package of {topic.type} is not installed")

    def messages(self, sweep_delay_ns: int = 0) -> Iterator[DriveMessage]:
        """Messages of all passes in order of time, without end; sweeps may be delayed relative to other messages."""
        # Delayed messages at the end of a pass fall into the beginning of the next one.
        ordered = [
            (divmod(m.time_ns + (sweep_delay_ns if m.points is not None else 0), self._period_ns), m)
            for m in self._messages
        ]
        ordered.sort(key=lambda item: item[0][1])
        for number in count():
            for (passes, _), message in ordered:
                if number >= passes:
                    offset_ns = (number - passes) * self._period_ns
                    yield message._replace(time_ns=message.time_ns + offset_ns, offset_ns=offset_ns)

    def publishers(self, node: Node) -> dict[str, Publisher]:
        """Create a publisher for each topic."""
        return {
            name: node.create_publisher(
                message_class(topic.type), name, latched() if topic.latched else reliable(_DEPTH)
            )
            for name, topic in self.topics.items()
        }

    def data(self, message: DriveMessage, offset_ns: int) -> bytes:
        """Serialized message with an offset added to all recorded stamps."""
        if message.stamp_ns is not None:
            return with_stamp(message.data, message.stamp_ns + offset_ns)
        transforms = deserialize_message(message.data, message_class(self.topics[message.topic].type))
        for transform in transforms.transforms:
            stamp = transform.header.stamp
            transform.header.stamp = stamp_from_ns(stamp_ns(stamp) + offset_ns, type(stamp))
        return bytes(serialize_message(transforms))


def _drive_message(message: RawMessage, time_ns: int, points_topic: str, transforms: Sequence[str]) -> DriveMessage:
    data = bytes(message.data)
    if message.topic in transforms:
        return DriveMessage(time_ns, message.topic, data, None, None)
    points = None
    if message.topic == points_topic:
        cloud = deserialize_message(data, PointCloud2)
        points = cloud.height * cloud.width
    return DriveMessage(time_ns, message.topic, data, serialized_stamp_ns(data), points)


def camera_topics(text: str) -> tuple[str, str]:
    """Parse the command line argument ``IMAGE_TOPIC:INFO_TOPIC`` of a camera."""
    image, _, info = text.partition(":")
    if not image or not info:
        raise argparse.ArgumentTypeError(f"'{text}' is not IMAGE_TOPIC:INFO_TOPIC")
    return image, info
