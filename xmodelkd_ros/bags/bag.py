"""Reading of rosbag2 folders and MCAP files without a ROS installation, and the standard message types.

Bags contain the definitions of their message types. A topic with a non-standard type and no definition is skipped with
a note.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, cast

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    QosDurability,
)
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from xmodelkd_ros.bags.rosbags_patches import TolerantReader, UnfinishedReader
from xmodelkd_ros.core.errors import BagError, listed, one_line, short_line
from xmodelkd_ros.messages.clouds import MessageTypes

POINT_CLOUD_TYPE = "sensor_msgs/msg/PointCloud2"

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
    """Reads a rosbag2 folder (sqlite3 or MCAP) or a single ``.mcap`` or ``.db3`` file.

    Use it as a context manager.

    Args:
        path: the bag.
        unfinished: also accept a truncated MCAP file, and read it up to its last complete chunk.

    Attributes:
        path: the bag.
        topics: the readable topics by name.
        notes: one line for each skipped topic, with the reason.

    Raises:
        BagError: on entering, if the bag is missing, damaged, or empty.
    """

    def __init__(self, path: Path, unfinished: bool = False) -> None:
        self.path = path
        self._reader_class = UnfinishedReader if unfinished else TolerantReader
        self.topics: dict[str, Topic] = {}
        self.notes: list[str] = []
        self._connections: dict[str, list[Connection]] = {}
        self._typestores: dict[str, Typestore | None] = {}

    def __enter__(self) -> BagReader:
        _check_path(self.path)
        with _reading(self.path):
            self._reader = self._reader_class(self.path)
            self._reader.open()
        if self._reader.message_count == 0:
            self._reader.close()
            raise BagError(f"bag {self.path} is empty: it holds no messages")
        for connection in self._reader.connections:
            self._add(connection)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reader.close()

    def _add(self, connection: Connection) -> None:
        ext = cast(ConnectionExtRosbag2, connection.ext)
        name, msgtype, count = connection.topic, connection.msgtype, connection.msgcount
        if ext.serialization_format != "cdr":
            self._note(f"{name} skipped: its serialization is '{ext.serialization_format}', not cdr")
            return
        if connection.msgdef.format is MessageDefinitionFormat.NONE and msgtype not in STANDARD_TYPES.types:
            self._note(f"{name} skipped: message type {msgtype} is unknown, and the bag does not define it")
            return
        latched = any(q.durability is QosDurability.TRANSIENT_LOCAL for q in ext.offered_qos_profiles)
        if name in self.topics:
            # Several publishers of one topic.
            count += self.topics[name].count
            latched |= self.topics[name].latched
        self.topics[name] = Topic(name, msgtype, count, latched)
        self._connections.setdefault(name, []).append(connection)

    def _note(self, text: str) -> None:
        self.notes.append(short_line(text))  # names in a damaged bag may contain line breaks

    @property
    def start_ns(self) -> int:
        """Time of recording of the first message."""
        return self._reader.start_time

    @property
    def end_ns(self) -> int:
        """Time of recording of the last message."""
        return self._reader.end_time - 1

    def points_topic(self, name: str = "") -> str:
        """The topic of the sweeps; without a name, the bag must have exactly one PointCloud2 topic.

        Raises:
            BagError: no such topic, or several without a name; the message lists the candidates.
        """
        candidates = [t for t in self.topics.values() if t.type == POINT_CLOUD_TYPE and t.count > 0]
        if not candidates:
            raise BagError(f"bag {self.path} has no PointCloud2 topic with messages; it has {self._listing()}")
        names = [t.name for t in candidates]
        listing = listed(f"{t.name} ({t.count} sweeps)" for t in candidates)
        if name and name not in names:
            raise BagError(f"bag {self.path} has no PointCloud2 messages on '{name}'; it has {listing}")
        if not name and len(names) > 1:
            raise BagError(f"bag {self.path} has several PointCloud2 topics, name one: {listing}")
        return name or names[0]

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
        for connection, log_time_ns, data in self._read(topics, start_ns, stop_ns):
            yield RawMessage(connection.topic, log_time_ns, data)

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """Decoded messages in the order of recording; topics without a usable definition are skipped with a note.

        Arguments and errors are those of :meth:`raw`.
        """
        for connection, log_time_ns, data in self._read(topics, start_ns, stop_ns):
            typestore = self._typestore(connection)
            if typestore is None:
                continue
            try:
                message = typestore.deserialize_cdr(data, connection.msgtype)
            except SerdeError as error:
                where = f"bag {self.path}: message on {connection.topic} at {log_time_ns} ns"
                raise BagError(f"{where} does not decode: {one_line(error)}") from error
            yield Message(connection.topic, log_time_ns, message)

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
    ) -> Iterator[tuple[Connection, int, bytes]]:
        names = self.topics.keys() if topics is None else topics
        missing = [name for name in names if name not in self.topics]
        if missing:
            raise BagError(f"bag {self.path} has no readable topic '{missing[0]}'; it has {self._listing()}")
        connections = [c for name in names for c in self._connections[name]]
        if not connections:
            return
        with _reading(self.path):
            yield from self._reader.messages(connections, start_ns, stop_ns)

    def _listing(self) -> str:
        return listed(f"{t.name} ({t.type})" for t in self.topics.values()) or "no readable topics"

    def _typestore(self, connection: Connection) -> Typestore | None:
        """Decoder of a connection: by the bag's definition, else by the standard one, else None."""
        msgtype = connection.msgtype
        if msgtype not in self._typestores:
            try:
                self._typestores[msgtype] = _embedded_types(connection)
            except Exception:  # the parser raises many kinds of errors on foreign text; the note reports them
                standard = msgtype in STANDARD_TYPES.types
                self._typestores[msgtype] = STANDARD_TYPES if standard else None
                instead = "read with the standard one" if standard else "skipped"
                self._note(f"{connection.topic} {instead}: the bag's definition of {msgtype} is not usable")
        return self._typestores[msgtype]


def _embedded_types(connection: Connection) -> Typestore:
    """The types that the bag defines for a connection; the standard ones if it defines none or the type is fixed."""
    if connection.msgdef.format is MessageDefinitionFormat.NONE or connection.msgtype in _PARSED_TYPES:
        return STANDARD_TYPES
    typestore = get_typestore(Stores.EMPTY)
    typestore.register(_parse(connection.msgdef, connection.msgtype))
    typestore.get_msgdef(connection.msgtype)
    return typestore


def _parse(msgdef: MessageDefinition, msgtype: str) -> Any:
    if msgdef.format is MessageDefinitionFormat.MSG:
        return get_types_from_msg(msgdef.data, msgtype)
    # rosbag2 concatenates IDL files, each below a ruler and a line "IDL: name".
    types: dict[str, Any] = {}
    for part in filter(None, msgdef.data.split("=" * 80 + "\n")):
        types.update(get_types_from_idl(part.split("\n", 1)[1] if part.startswith("IDL: ") else part))
    return types


def _check_path(path: Path) -> None:
    if not os.path.exists(path):  # also False for invalid file names
        raise BagError(f"bag {path} does not exist; give the path of a rosbag2 folder or an .mcap file")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        raise BagError(
            f"{path} is not a rosbag2 folder: it has no metadata.yaml; name the .mcap or .db3 file itself, "
            "or run 'ros2 bag reindex'"
        )
    if path.is_file() and path.suffix not in STORAGE_SUFFIXES.values():
        raise BagError(f"{path} is not a bag; give a rosbag2 folder, an .mcap or a .db3 file")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert any error of the library on a damaged file (its own, struct's, SQLite's) to a one-line BagError."""
    try:
        yield
    except Exception as error:
        raise BagError(
            f"cannot read bag {path}: {one_line(error)}; if the file was cut short, copy it again or repair it "
            "('xmodelkd recover', 'ros2 bag reindex')"
        ) from error
