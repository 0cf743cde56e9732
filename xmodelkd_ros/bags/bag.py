"""Reading and writing rosbag2 folders and MCAP files without a ROS installation.

Bags recorded elsewhere carry the definitions of their message types; where one is missing and the
type is not a standard one, the topic is skipped and a note says so.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, cast

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from xmodelkd_ros.bags.rosbags_patches import TolerantReader, UnfinishedReader
from xmodelkd_ros.core.errors import BagError, listed, one_line, short_line
from xmodelkd_ros.messages.clouds import MessageTypes

POINT_CLOUD_TYPE = "sensor_msgs/msg/PointCloud2"

_STANDARD_TYPES = get_typestore(Stores.ROS2_KILTED)

_READ_HERE = (
    POINT_CLOUD_TYPE,
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "tf2_msgs/msg/TFMessage",
    "std_msgs/msg/String",
)
"""Types that this package looks into. All distributions of ROS 2 define them alike, so what a bag says of them can only
be the same, or damaged."""

Storage = Literal["mcap", "sqlite3"]

_SUFFIXES = {"mcap": ".mcap", "sqlite3": ".db3"}

_VERSION: Literal[8] = 8
"""Metadata version that is written: the newest with quality of service as Humble to Jazzy read it."""

_FOREVER = QosTime(9223372036, 854775807)
"""An unlimited duration as rosbag2 writes it."""


def message_class(msgtype: str) -> Any:
    """The rosbags library's class of a standard message type such as ``sensor_msgs/msg/PointCloud2``."""
    return _STANDARD_TYPES.types[msgtype]


ROSBAGS_TYPES = MessageTypes(message_class(POINT_CLOUD_TYPE), message_class("sensor_msgs/msg/PointField"))
"""The classes :mod:`xmodelkd_ros.messages.clouds` constructs for a bag."""


@dataclass(frozen=True)
class Topic:
    """A topic of a bag.

    Attributes:
        name: the topic's name.
        type: its message type, such as ``sensor_msgs/msg/PointCloud2``.
        count: messages on it.
        latched: offered as transient local: who comes late still gets the last message.
    """

    name: str
    type: str
    count: int
    latched: bool


class RawMessage(NamedTuple):
    """A message as it lies in the bag: topic, time of recording in nanoseconds, CDR bytes."""

    topic: str
    log_time_ns: int
    data: bytes


class Message(NamedTuple):
    """A decoded message: topic, time of recording in nanoseconds, object with the attributes of its ROS type."""

    topic: str
    log_time_ns: int
    message: Any


class BagReader:
    """Reads a rosbag2 folder (sqlite3 or MCAP) or a single ``.mcap`` or ``.db3`` file.

    Use it as a context manager.

    Args:
        path: the bag.
        unfinished: take an MCAP file without its end, too, up to its last whole chunk.

    Attributes:
        path: the bag.
        topics: the readable topics by name.
        notes: one line for each topic that is skipped, with the reason.

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
        if connection.msgdef.format is MessageDefinitionFormat.NONE and msgtype not in _STANDARD_TYPES.types:
            self._note(f"{name} skipped: message type {msgtype} is unknown, and the bag does not define it")
            return
        latched = any(q.durability is QosDurability.TRANSIENT_LOCAL for q in ext.offered_qos_profiles)
        if name in self.topics:
            # One topic, recorded from several publishers.
            count += self.topics[name].count
            latched |= self.topics[name].latched
        self.topics[name] = Topic(name, msgtype, count, latched)
        self._connections.setdefault(name, []).append(connection)

    def _note(self, text: str) -> None:
        self.notes.append(short_line(text))  # names in a damaged bag may hold line breaks

    @property
    def start_ns(self) -> int:
        """Time of recording of the first message."""
        return self._reader.start_time

    @property
    def end_ns(self) -> int:
        """Time of recording of the last message."""
        return self._reader.end_time - 1

    def points_topic(self, wanted: str = "") -> str:
        """The topic that holds the sweeps.

        Args:
            wanted: its name; without, the bag must have one PointCloud2 topic only.

        Raises:
            BagError: there is none, or the choice is not clear; the message lists the candidates.
        """
        candidates = [t for t in self.topics.values() if t.type == POINT_CLOUD_TYPE and t.count > 0]
        if not candidates:
            raise BagError(f"bag {self.path} has no PointCloud2 topic with messages; it has {self._listing()}")
        names = [t.name for t in candidates]
        listing = listed(f"{t.name} ({t.count} sweeps)" for t in candidates)
        if wanted and wanted not in names:
            raise BagError(f"bag {self.path} has no PointCloud2 messages on '{wanted}'; it has {listing}")
        if not wanted and len(names) > 1:
            raise BagError(f"bag {self.path} has several PointCloud2 topics, name one: {listing}")
        return wanted or names[0]

    def raw(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[RawMessage]:
        """Messages as CDR bytes in the order of recording.

        Args:
            topics: names of the topics to read; None for all readable ones.
            start_ns: earliest time of recording.
            stop_ns: the first time of recording that is left out.

        Raises:
            BagError: a topic is not in the bag, or the bag is damaged.
        """
        for connection, log_time_ns, data in self._read(topics, start_ns, stop_ns):
            yield RawMessage(connection.topic, log_time_ns, data)

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """Decoded messages in the order of recording; what has no usable definition is skipped with a note.

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
            BagError: there is none that can be read, or as :meth:`raw` raises it.
        """
        found = next(self.messages([topic], start_ns, stop_ns), None)
        if found is None:
            raise BagError(f"bag {self.path}: no message on {topic} can be read; record it again, or leave it out")
        return found

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
        """What decodes a connection: the bag's own definition, else the standard one, else nothing."""
        msgtype = connection.msgtype
        if msgtype not in self._typestores:
            try:
                self._typestores[msgtype] = _embedded_types(connection)
            except Exception:  # the parser's errors on foreign text are of many kinds; the note tells of them
                standard = msgtype in _STANDARD_TYPES.types
                self._typestores[msgtype] = _STANDARD_TYPES if standard else None
                instead = "read with the standard one" if standard else "skipped"
                self._note(f"{connection.topic} {instead}: the bag's definition of {msgtype} is not usable")
        return self._typestores[msgtype]


def _embedded_types(connection: Connection) -> Typestore:
    """The types that the bag defines for one connection, or the standard ones if it defines none, or cannot differ."""
    if connection.msgdef.format is MessageDefinitionFormat.NONE or connection.msgtype in _READ_HERE:
        return _STANDARD_TYPES
    typestore = get_typestore(Stores.EMPTY)
    typestore.register(_parse(connection.msgdef, connection.msgtype))
    typestore.get_msgdef(connection.msgtype)
    return typestore


def _parse(msgdef: MessageDefinition, msgtype: str) -> Any:
    if msgdef.format is MessageDefinitionFormat.MSG:
        return get_types_from_msg(msgdef.data, msgtype)
    # rosbag2 joins IDL files, each below a ruler and a line "IDL: name".
    types: dict[str, Any] = {}
    for part in filter(None, msgdef.data.split("=" * 80 + "\n")):
        types.update(get_types_from_idl(part.split("\n", 1)[1] if part.startswith("IDL: ") else part))
    return types


def _check_path(path: Path) -> None:
    if not os.path.exists(path):  # also of a name that no file can have
        raise BagError(f"bag {path} does not exist; give the path of a rosbag2 folder or an .mcap file")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        raise BagError(
            f"{path} is not a rosbag2 folder: it has no metadata.yaml; name the .mcap or .db3 file itself, "
            "or run 'ros2 bag reindex'"
        )
    if path.is_file() and path.suffix not in _SUFFIXES.values():
        raise BagError(f"{path} is not a bag; give a rosbag2 folder, an .mcap or a .db3 file")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever the library meets in a damaged file (its own, struct's, SQLite's errors) into one line."""
    try:
        yield
    except Exception as error:
        raise BagError(
            f"cannot read bag {path}: {one_line(error)}; if the file was cut short, copy it again or repair it "
            "('xmodelkd recover', 'ros2 bag reindex')"
        ) from error


class BagWriter:
    """Writes a rosbag2 folder, or a single file where the path ends as the storage's files do.

    Use it as a context manager. Until it is complete the bag lies in a folder ``PATH.unfinished-...`` beside its place.
    One that was begun and not finished, because an exception left the ``with`` block, is taken away, unless ``keep``
    says otherwise. A process that is killed leaves the folder behind: :mod:`xmodelkd_ros.bags.recover` makes a bag of it.

    Args:
        path: the folder to create, or the ``.mcap`` (``.db3``) file.
        storage: ``mcap`` or ``sqlite3``.
        keep: leave what was written of a bag that is not finished: a recording cannot be made again.

    Raises:
        BagError: on entering, if the path exists or cannot be created.
    """

    def __init__(self, path: Path, storage: Storage = "mcap", keep: bool = False) -> None:
        self.path = path
        self._keep = keep
        self._storage = StoragePlugin[storage.upper()]
        self._suffix = _SUFFIXES[storage]
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        if self.path.exists():
            raise BagError(f"{self.path} exists already; remove it or choose another folder")
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._workplace = Path(tempfile.mkdtemp(prefix=f"{self.path.name}.unfinished-", dir=self.path.parent))
            self._folder = self._workplace / self.path.stem
            self._writer = Writer(self._folder, version=_VERSION, storage_plugin=self._storage)
            try:
                self._writer.open()
            except BaseException:
                shutil.rmtree(self._workplace)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        complete = False
        try:
            with self._writing():
                self._writer.__exit__(kind, error, traceback)
                if error is None:
                    (self._file if self.path.suffix == self._suffix else self._folder).rename(self.path)
                    complete = True
        finally:
            if complete or not self._keep:
                shutil.rmtree(self._workplace)

    @property
    def _file(self) -> Path:
        """The storage file of a bag that is not complete."""
        return self._folder / (self._folder.name + self._suffix)

    @property
    def topics(self) -> Set[str]:
        """Names of those that were announced."""
        return self._connections.keys()

    def add_topic(self, name: str, msgtype: str, latched: bool = False) -> None:
        """Announce a topic before writing to it.

        Args:
            name: the topic's name.
            msgtype: a standard message type, such as ``sensor_msgs/msg/PointCloud2``.
            latched: offered as transient local, depth 1, so that a player keeps the last message for who comes late.

        Raises:
            BagError: the type is not a standard one, or the topic was announced before.
        """
        if msgtype not in _STANDARD_TYPES.types:
            raise BagError(f"cannot write topic '{name}': message type {msgtype} is unknown")
        if name in self._connections:
            raise BagError(f"topic '{name}' was announced before")
        self._connections[name] = self._writer.add_connection(
            name, msgtype, typestore=_STANDARD_TYPES, offered_qos_profiles=[_quality_of_service(latched)]
        )

    def write(self, topic: str, log_time_ns: int, message: Any) -> None:
        """Write a message of the rosbags library's classes; errors as in :meth:`write_raw`."""
        self.write_raw(topic, log_time_ns, _STANDARD_TYPES.serialize_cdr(message, self._connections[topic].msgtype))

    def write_raw(self, topic: str, log_time_ns: int, data: bytes | memoryview) -> None:
        """Write a message that is CDR bytes already.

        Raises:
            BagError: the disk is full or fails.
        """
        with self._writing():
            self._writer.write(self._connections[topic], log_time_ns, data)

    def flush(self) -> None:
        """Hand what was written to the operating system: from now on it outlives this process. For MCAP only.

        Raises:
            BagError: the disk is full or fails.
        """
        storage = self._writer.storage
        assert isinstance(storage, McapWriter)
        with self._writing():
            if storage.chunk.msgs:
                storage.close_chunk()
            storage.bio.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn errors of the disk into one line."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            kept = f"; 'xmodelkd recover {self._workplace} OUT' saves what was recorded" if self._keep else ""
            why = getattr(error, "strerror", None) or error
            raise BagError(f"cannot write bag {self.path}: {why}{kept}") from error


def _quality_of_service(latched: bool) -> Qos:
    """Reliable, which serves best-effort subscribers too."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )
