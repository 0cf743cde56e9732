"""What the storage files of a bag have in common: channels, reading in order of time, zstd."""

from __future__ import annotations

import heapq
import re
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import yaml

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["ZSTD_MAGIC", "Channel", "Entry", "StorageFile", "is_latched", "merged", "ros_type", "unpack_zstd", "zstd"]

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK_BYTES = 1 << 20
_DDS_NAME = re.compile(r"(\w+)::msg::(?:dds_::)?(\w+?)_?")
_TRANSIENT_LOCAL = ("1", "transient_local")
"""Durability in QoS profiles: a number until version 8 of rosbag2's metadata, then a name."""


class Channel(NamedTuple):
    """Messages of one topic and type in a file. Equal channels of several files are one.

    Attributes:
        topic: name of the topic.
        type: message type, such as ``sensor_msgs/msg/PointCloud2``.
        encoding: serialization of the messages, such as ``cdr``.
        definition_format: ``ros2msg``, ``ros2idl``, or empty if the file does not define the type.
        definition: text of the definition.
        latched: whether it was offered as transient local.
    """

    topic: str
    type: str
    encoding: str
    definition_format: str
    definition: str
    latched: bool


class Entry(NamedTuple):
    """A message in a file: time of recording in nanoseconds, channel, serialized message."""

    log_time_ns: int
    channel: Channel
    data: bytes


class StorageFile(Protocol):
    """An open storage file.

    Attributes:
        counts: number of messages by channel.
        start_ns: earliest time of recording; 0 without messages.
        end_ns: latest time of recording; 0 without messages.
        notes: one line about each irregularity of the file.
    """

    counts: dict[Channel, int]
    start_ns: int
    end_ns: int
    notes: list[str]

    def entries(self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None) -> Iterator[Entry]:
        """Messages on some channels from ``start_ns`` until before ``stop_ns``, in the order of time."""

    def close(self) -> None:
        """Close the file."""


class Source(NamedTuple):
    """A part of a recording: time before which it has no message, function that iterates over it in order of time."""

    start_ns: int
    read: Callable[[], Iterator[Entry]]


def merged(sources: Iterable[Source]) -> Iterator[tuple[int, Entry]]:
    """Entries of all sources in order of time, each with the number of its source.

    At equal times earlier sources come first. A source is read only once its start is reached.
    """
    waiting = deque(sorted(enumerate(sources), key=lambda item: item[1].start_ns))
    heap: list[tuple[int, int, Entry, Iterator[Entry]]] = []
    while waiting or heap:
        while waiting and (not heap or waiting[0][1].start_ns <= heap[0][0]):
            number, source = waiting.popleft()
            entries = source.read()
            for entry in entries:
                heapq.heappush(heap, (entry.log_time_ns, number, entry, entries))
                break
        if heap:
            _, number, entry, entries = heap[0]
            yield number, entry
            following = next(entries, None)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (following.log_time_ns, number, following, entries))


def ros_type(name: str) -> str:
    """Name of a message type as ROS 2 spells it; other writers leave out ``msg``, or take DDS's or ROS 1's name."""
    dds = _DDS_NAME.fullmatch(name)
    package, _, rest = name.partition("/")
    if dds:
        return f"{dds[1]}/msg/{dds[2]}"
    return f"{package}/msg/{rest}" if rest and "/" not in rest else name


def is_latched(topic: str, qos_profiles: Any) -> bool:
    """Whether a topic's QoS profiles, as YAML text or a list, name transient local durability.

    Old bags have no profiles: then only ``/tf_static`` is latched.
    """
    if isinstance(qos_profiles, str):
        try:
            qos_profiles = yaml.safe_load(qos_profiles)
        except (yaml.YAMLError, RecursionError, ValueError):
            qos_profiles = None
    if not isinstance(qos_profiles, list) or not qos_profiles:
        return topic.endswith("/tf_static")
    profiles = [cast(dict[str, Any], profile) for profile in qos_profiles if isinstance(profile, dict)]
    return any(str(profile.get("durability")).lower() in _TRANSIENT_LOCAL for profile in profiles)


def unpack_zstd(source: Path, target: Path) -> bool:
    """Decompress a file; returns False if it is cut short, after writing what it holds.

    Raises:
        OSError, zstd.ZstdError: it cannot be read, written, or decompressed.
    """
    decompressor = zstd.ZstdDecompressor()
    with source.open("rb") as packed, target.open("xb") as unpacked:
        while block := packed.read(_BLOCK_BYTES):
            while block or not (decompressor.needs_input or decompressor.eof):
                if decompressor.eof:
                    decompressor = zstd.ZstdDecompressor()
                unpacked.write(decompressor.decompress(block, _BLOCK_BYTES))
                block = decompressor.unused_data if decompressor.eof else b""
    return bool(decompressor.eof)
