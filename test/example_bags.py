"""Helpers that write and read bags in tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, BagReader, Message, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import BagError
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.messages.headers import stamp_from_ns

CLOUD_TYPE, TEXT_TYPE = "sensor_msgs/msg/PointCloud2", "std_msgs/msg/String"
START_NS = 1_557_540_000_123_456_789
WHEEL = get_types_from_msg("std_msgs/Header header\nfloat32[4] speed\n", "acme_msgs/msg/Wheel")
STORAGES = pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
SUFFIX = {"mcap": ".mcap", "sqlite3": ".db3"}


def sweep(index: int, points: int = 200) -> Any:
    rng = np.random.default_rng(index)
    cloud = PointCloud(rng.normal(size=(points, 3)).astype(np.float32), rng.random(points, np.float32))
    stamp = stamp_from_ns(START_NS + index, message_class("builtin_interfaces/msg/Time"))
    header = message_class("std_msgs/msg/Header")(stamp=stamp, frame_id="lidar")
    return truth_to_msg(cloud, rng.integers(0, 13, points).astype(np.uint8), header, ROSBAGS_TYPES)


def text(words: str) -> Any:
    return message_class(TEXT_TYPE)(data=words)


def write_bag(path: Path, storage: str = "mcap", sweeps: int = 3, points: int = 200, topic: str = "/points") -> Path:
    with BagWriter(path, storage) as bag:
        bag.add_topic(topic, CLOUD_TYPE)
        bag.add_topic("/label_info_json", TEXT_TYPE, latched=True)
        bag.write("/label_info_json", START_NS, text("{}"))
        for i in range(sweeps):
            bag.write(topic, START_NS + i, sweep(i, points))
    return path


def storage_file(bag: Path) -> Path:
    return next(p for p in bag.iterdir() if p.suffix in SUFFIX.values())


def write_foreign(path: Path, storage: str) -> Path:
    """A bag with a custom message type and a sweep, written without BagWriter."""
    types = get_typestore(Stores.ROS2_HUMBLE)
    types.register(WHEEL)
    with Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        wheel = writer.add_connection("/wheel", "acme_msgs/msg/Wheel", typestore=types)
        cloud = writer.add_connection("/points", CLOUD_TYPE, typestore=types)
        message = types.types["acme_msgs/msg/Wheel"](header=sweep(0).header, speed=np.arange(4, dtype=np.float32))
        writer.write(wheel, 1, types.serialize_cdr(message, "acme_msgs/msg/Wheel"))
        writer.write(cloud, 2, types.serialize_cdr(sweep(0), CLOUD_TYPE))
    return path


def read_all(path: Path) -> int:
    with BagReader(path) as bag:
        return sum(1 for _ in bag.messages())


def assert_one_line(error: pytest.ExceptionInfo[BagError], path: Path) -> None:
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def changed_copy(bag: Path, out: Path, change: Callable[[Message], Any]) -> Path:
    """Copy a bag, each message as a function returns it; it leaves out those for which it returns None."""
    with BagReader(bag) as reader, BagWriter(out) as writer:
        messages = list(reader.messages())
        for message in messages:
            content = change(message)
            if content is None:
                continue
            topic = reader.topics[message.topic]
            if topic.name not in writer.topics:
                writer.add_topic(topic.name, topic.type, topic.latched)
            writer.write(topic.name, message.log_time_ns, content)
    return out


def without_topics(bag: Path, out: Path, *words: str) -> Path:
    """Copy a bag without the topics that have one of some words in their names."""
    return changed_copy(bag, out, lambda m: None if any(word in m.topic for word in words) else m.message)


def on_tai(bag: Path, out: Path) -> Path:
    """Copy a bag with images 37 s ahead."""

    def shift(message: Message) -> Any:
        if "image" in message.topic:
            message.message.header.stamp.sec += 37
        return message.message

    return changed_copy(bag, out, shift)


def with_damaged_jpegs(bag: Path, out: Path) -> Path:
    """Copy a bag with JPEG images whose content is overwritten after their first bytes."""

    def damage(message: Message) -> Any:
        if hasattr(message.message, "format"):
            message.message.data = message.message.data.copy()
            message.message.data[20:] = 0
        return message.message

    return changed_copy(bag, out, damage)
