"""Reading of rosbag2 folders and MCAP files without a ROS installation, and the standard message types.

Bags contain the definitions of their message types. A topic with a non-standard type and no definition is skipped with
a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from xmodelkd_ros.bags.bag_contents import BagContents
from xmodelkd_ros.bags.bag_files import find_files
from xmodelkd_ros.bags.storage import ZSTD_MAGIC, Channel, zstd
from xmodelkd_ros.core.errors import BagError, listed, one_line, short_line
from xmodelkd_ros.messages.clouds import MessageTypes

POINT_CLOUD_TYPE = "sensor_msgs/msg/PointCloud2"
_CHOICE = "name one by --points-topic (in training configurations: topic)"

STANDARD_TYPES = get_typestore(Stores.ROS2_KILTED)
"""The rosbags library's standard message types."""

_PARSED_TYPES = (
    POINT_CLOUD_TYPE,
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "tf2_msgs/msg/TFMessage",
    "std_msgs/msg/String",
)
"""Types that this package parses. All ROS 2 distributions define them alike, so a bag's definition that differs is
damaged."""

STORAGE_SUFFIXES = {"mcap": ".mcap", "sqlite3": ".db3"}


def message_class(msgtype: str) -> Any:
    """The rosbags library's class of a standard message type such as ``sensor_msgs/msg/PointCloud2``."""
    return STANDARD_TYPES.types[msgtype]


ROSBAGS_TYPES = MessageTypes(message_class(POINT_CLOUD_TYPE), message_class("sensor_msgs/msg/PointField"))
"""Message classes for :mod:`xmodelkd_ros.messages.clouds` to construct for a bag."""


@dataclass(frozen=True)
class Topic:
    """A topic of a bag.

    Attributes:
        name: the topic's name.
        type: its message type, such as ``sensor_msgs/msg/PointCloud2``.
        count: number of messages.
        latched: whether it was offered as transient local.
    """

    name: str
    type: str
    count: int
    latched: bool


class RawMessage(NamedTuple):
    """A serialized message: topic, time of recording in nanoseconds, CDR bytes."""

    topic: str
    log_time_ns: int
    data: bytes


class Message(NamedTuple):
    """A decoded message: topic, time of recording in nanoseconds, object with the fields of its ROS type."""

    topic: str
    log_time_ns: int
    message: Any


class BagReader:
    """Reads a rosbag2 folder (SQLite or MCAP, compressed or not) or a single ``.mcap`` or ``.db3`` file.

    What the files hold counts, not what metadata.yaml or an index claims. Use it as a context manager.

    Args:
        path: the bag.
        damaged: read truncated and damaged files as far as possible, with notes about what is lost.

    Attributes:
        path: the bag.
        topics: the readable topics by name.
        notes: one line for each skipped topic and other irregularity; some are added while messages are read.

    Raises:
        BagError: on entering, if the bag is missing, damaged, or empty.
    """

    def __init__(self, path: Path, damaged: bool = False) -> None:
        self.path = path
        self._damaged = damaged
        self.topics: dict[str, Topic] = {}
        self._notes: list[str] = []
        self._channels: dict[str, list[Channel]] = {}
        self._typestores: dict[tuple[str, str], Typestore | None] = {}

    def __enter__(self) -> BagReader:
        with _reading(self.path):
            self._contents = BagContents(find_files(self.path), self._damaged)
        if not any(self._contents.counts.values()):
            self._contents.close()
            raise BagError("; ".join([f"bag {self.path} is empty: it holds no messages", *self._contents.notes]))
        for name in dict.fromkeys(channel.topic for channel in self._contents.counts):
            self._add(name, [channel for channel in self._contents.counts if channel.topic == name])
        clouds = max((topic.count for topic in self.topics.values() if topic.type == POINT_CLOUD_TYPE), default=0)
        if clouds > 1 and self.start_ns == self.end_ns:
            self._notes.append(f"all messages have the same time of recording, {self.start_ns} ns: they play at once")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._contents.close()

    @property
    def notes(self) -> list[str]:  # noqa: D102
        # Names in a damaged bag may contain line breaks.
        return [short_line(note) for note in dict.fromkeys((*self._contents.notes, *self._notes))]

    def _add(self, name: str, channels: list[Channel]) -> None:
        """Add a topic, of which several publishers or files may each have a channel."""
        counts = self._contents.counts
        readable = [channel for channel in channels if self._is_readable(channel)]
        if not readable:
            return
        by_type: Counter[str] = Counter()
        for channel in readable:
            by_type[channel.type] += counts[channel]
        msgtype = max(by_type, key=lambda each: by_type[each])
        for other, count in by_type.items():
            if other != msgtype and count:
                self._notes.append(f"{name}: {count} messages of type {other} are not read: the others are {msgtype}")
        readable = [channel for channel in readable if channel.type == msgtype]
        latched = any(channel.latched for channel in readable)
        self.topics[name] = Topic(name, msgtype, by_type[msgtype], latched)
        self._channels[name] = readable

    def _is_readable(self, channel: Channel) -> bool:
        name, msgtype = channel.topic, channel.type
        if channel.encoding != "cdr":
            self._notes.append(f"{name} skipped: its serialization is '{channel.encoding}', not cdr")
            return False
        if not channel.definition and msgtype not in STANDARD_TYPES.types and not self._definition(msgtype):
            self._notes.append(f"{name} skipped: message type {msgtype} is unknown, and the bag does not define it")
            return False
        return True

    def _definition(self, msgtype: str) -> Channel | None:
        """A channel that defines a type, if there is one: files of a bag may lack what others define."""
        return next((c for c in self._contents.counts if c.type == msgtype and c.definition), None)

    @property
    def start_ns(self) -> int:
        """Time of recording of the first message."""
        return self._contents.start_ns

    @property
    def end_ns(self) -> int:
        """Time of recording of the last message."""
        return self._contents.end_ns

    def points_topic(self, name: str = "") -> str:
        """The topic of the sweeps; without a name, the bag must have exactly one PointCloud2 topic.

        Raises:
            BagError: no such topic, or several without a name; the message lists the candidates.
        """
        candidates = [t for t in self.topics.values() if t.type == POINT_CLOUD_TYPE and t.count > 0]
        if not candidates:
            missing = f"bag {self.path} has no PointCloud2 topic with messages; it has {self._listing()}"
            raise BagError("; ".join([missing, *self.notes]))
        names = [t.name for t in candidates]
        listing = listed(f"{t.name} ({t.count} sweeps)" for t in candidates)
        if name and name not in names:
            raise BagError(f"bag {self.path} has no PointCloud2 messages on '{name}'; it has {listing}")
        if not name and len(names) > 1:
            raise BagError(f"bag {self.path} has several PointCloud2 topics; {_CHOICE}: {listing}")
        return name or names[0]

    def types(self, topic: str) -> Typestore | None:
        """Where the message type of a topic is defined; None if the bag's definition is not usable, with a note."""
        return self._typestore(self._channels[topic][0])

    def raw(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[RawMessage]:
        """Serialized messages in the order of recording.

        Args:
            topics: names of the topics to read; None for all readable ones.
            start_ns: earliest time of recording.
            stop_ns: end of the times of recording, exclusive.

        Raises:
            BagError: a topic is not in the bag, or the bag is damaged.
        """
        for channel, log_time_ns, data in self._read(topics, start_ns, stop_ns):
            yield RawMessage(channel.topic, log_time_ns, data)

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """Decoded messages in the order of recording; topics without a usable definition are skipped with a note.

        Arguments and errors are those of :meth:`raw`.
        """
        for channel, log_time_ns, data in self._read(topics, start_ns, stop_ns):
            typestore = self._typestore(channel)
            if typestore is None:
                continue
            try:
                message = typestore.deserialize_cdr(data, channel.type)
            except SerdeError as error:
                where = f"bag {self.path}: message on {channel.topic} at {log_time_ns} ns"
                raise BagError(f"{where} does not decode: {one_line(error)}") from error
            yield Message(channel.topic, log_time_ns, message)

    def first(self, topic: str, start_ns: int | None = None, stop_ns: int | None = None) -> Message:
        """The first message on a topic; arguments as in :meth:`raw`.

        Raises:
            BagError: no message can be read, or as :meth:`raw` raises it.
        """
        message = next(self.messages([topic], start_ns, stop_ns), None)
        if message is None:
            raise BagError(f"bag {self.path}: no message on {topic} can be read; record it again, or leave it out")
        return message

    def _read(
        self, topics: Collection[str] | None, start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        names = self.topics.keys() if topics is None else topics
        missing = [name for name in names if name not in self.topics]
        if missing:
            raise BagError(f"bag {self.path} has no readable topic '{missing[0]}'; it has {self._listing()}")
        channels = [channel for name in dict.fromkeys(names) for channel in self._channels[name]]
        with _reading(self.path):
            for log_time_ns, channel, data in self._contents.entries(channels, start_ns, stop_ns):
                # rosbag2 may compress each message. No CDR message begins like this.
                yield channel, log_time_ns, zstd.decompress(data) if data.startswith(ZSTD_MAGIC) else data

    def _listing(self) -> str:
        return listed(f"{t.name} ({t.type})" for t in self.topics.values()) or "no readable topics"

    def _typestore(self, channel: Channel) -> Typestore | None:
        """Decoder of a channel: by the bag's definition, else by the standard one, else None."""
        key = channel.type, channel.definition
        if key not in self._typestores:
            try:
                self._typestores[key] = _embedded_types(
                    channel if channel.definition else self._definition(channel.type)
                )
            except Exception:  # the parser raises many kinds of errors on foreign text; the note reports them
                standard = channel.type in STANDARD_TYPES.types
                self._typestores[key] = STANDARD_TYPES if standard else None
                instead = "read with the standard one" if standard else "skipped"
                self._notes.append(f"{channel.topic} {instead}: the bag's definition of {channel.type} is not usable")
        return self._typestores[key]


def _embedded_types(channel: Channel | None) -> Typestore:
    """The types that the bag defines for a channel; the standard ones if it defines none or the type is fixed."""
    if channel is None or channel.type in _PARSED_TYPES:
        return STANDARD_TYPES
    typestore = get_typestore(Stores.EMPTY)
    typestore.register(_parse(channel))
    typestore.get_msgdef(channel.type)
    return typestore


def _parse(channel: Channel) -> Any:
    if channel.definition_format == "ros2msg":
        return get_types_from_msg(channel.definition, channel.type)
    # rosbag2 concatenates IDL files, each below a ruler and a line "IDL: name".
    types: dict[str, Any] = {}
    for part in filter(None, channel.definition.split("=" * 80 + "\n")):
        types.update(get_types_from_idl(part.split("\n", 1)[1] if part.startswith("IDL: ") else part))
    return types


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert any error on a damaged file (this package's, struct's, SQLite's) to a one-line BagError with the path."""
    try:
        yield
    except Exception as error:
        if isinstance(error, BagError) and str(path) in str(error):
            raise
        raise BagError(
            f"cannot read bag {path}: {one_line(error)}; if the file was cut short, copy it again or repair it "
            "('xmodelkd recover', 'ros2 bag reindex')"
        ) from error
