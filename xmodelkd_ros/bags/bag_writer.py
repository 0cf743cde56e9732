"""Writing of rosbag2 folders and MCAP files without a ROS installation."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys.store import Typestore

from xmodelkd_ros.bags import mcap_records as mcap
from xmodelkd_ros.bags.bag import STANDARD_TYPES, STORAGE_SUFFIXES
from xmodelkd_ros.bags.storage import zstd
from xmodelkd_ros.core.errors import BagError

Storage = Literal["mcap", "sqlite3"]

_VERSION: Literal[8] = 8
"""Metadata version to write: the newest one with the QoS format that Humble to Jazzy read."""

_ZSTD_LEVEL = 1
"""zstd's usual level takes five times as long, and makes clouds hardly smaller."""

_UNLIMITED = QosTime(9223372036, 854775807)
"""An unlimited duration as rosbag2 writes it."""


class BagWriter:
    """Writes a rosbag2 folder, or a single file if the path has the storage's file suffix.

    Use it as a context manager. The bag is written to a folder ``PATH.unfinished-...`` beside its path and renamed when
    complete. If an exception leaves the ``with`` block, that folder is deleted, unless ``keep`` is set. A killed
    process leaves it behind; :mod:`xmodelkd_ros.bags.recover` converts it to a bag.

    Args:
        path: the folder to create, or the ``.mcap`` (``.db3``) file.
        storage: ``mcap`` or ``sqlite3``.
        keep: keep an unfinished bag, for recordings that cannot be repeated.
        compressed: compress the chunks of an MCAP file (zstd).

    Raises:
        BagError: on entering, if the path exists or cannot be created.
    """

    def __init__(self, path: Path, storage: Storage = "mcap", keep: bool = False, *, compressed: bool = False) -> None:
        self.path = path
        self._keep, self._compressed = keep, compressed
        self._storage = StoragePlugin[storage.upper()]
        self._suffix = STORAGE_SUFFIXES[storage]
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        if self.path.exists():
            kind = "folder" if self.path.is_dir() else "file"
            raise BagError(f"{self.path} exists already; remove it or choose another {kind}")
        if self._storage is StoragePlugin.SQLITE3 and set("#?%") & set(str(self.path)):
            # The rosbags library gives SQLite the path as a URI, in which these end or change it.
            raise BagError(
                f"cannot write bag {self.path}: SQLite files with #, ? or % in their path; write MCAP instead"
            )
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished = Path(tempfile.mkdtemp(prefix=f"{self.path.name}.unfinished-", dir=self.path.parent))
            self._folder = self._unfinished / self.path.stem
            self._writer = Writer(self._folder, version=_VERSION, storage_plugin=self._storage)
            if self._compressed:
                self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            try:
                self._writer.open()
                if isinstance(self._writer.storage, McapWriter):
                    _add_checksums(self._writer.storage)
                    if self._compressed:
                        self._writer.storage.compressor = partial(zstd.compress, level=_ZSTD_LEVEL)
            except BaseException:
                shutil.rmtree(self._unfinished)
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
                shutil.rmtree(self._unfinished)

    @property
    def _file(self) -> Path:
        """The storage file of the unfinished bag."""
        return self._folder / (self._folder.name + self._suffix)

    @property
    def topics(self) -> dict[str, str]:
        """Message types of the topics added so far, by name."""
        return {name: connection.msgtype for name, connection in self._connections.items()}

    def add_topic(self, name: str, msgtype: str, latched: bool = False, types: Typestore = STANDARD_TYPES) -> None:
        """Add a topic; required before writing to it.

        Args:
            name: the topic's name.
            msgtype: a message type, such as ``sensor_msgs/msg/PointCloud2``.
            latched: offer it as transient local, depth 1, so that late subscribers get the last message on playback.
            types: where the type is defined; by default, the standard ones.

        Raises:
            BagError: the type is not defined there, or the topic was added before.
        """
        if msgtype not in types.types:
            raise BagError(f"cannot write topic '{name}': message type {msgtype} is unknown")
        if name in self._connections:
            raise BagError(f"topic '{name}' was added before")
        self._connections[name] = self._writer.add_connection(
            name, msgtype, typestore=types, offered_qos_profiles=[_qos(latched)]
        )

    def write(self, topic: str, log_time_ns: int, message: Any) -> None:
        """Write a message of the rosbags library's classes; errors as in :meth:`write_raw`."""
        self.write_raw(topic, log_time_ns, STANDARD_TYPES.serialize_cdr(message, self._connections[topic].msgtype))

    def write_raw(self, topic: str, log_time_ns: int, data: bytes | memoryview) -> None:
        """Write a message given as CDR bytes.

        Raises:
            BagError: the disk is full or fails.
        """
        if self._storage is StoragePlugin.MCAP:
            log_time_ns %= 1 << 64  # as rosbag2 writes times before 1970
        with self._writing():
            self._writer.write(self._connections[topic], log_time_ns, data)

    def flush(self) -> None:
        """Hand all messages to the operating system, so that they survive a kill of this process. MCAP only.

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
        """Convert disk errors to a one-line BagError."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            hint = f"; 'xmodelkd recover {self._unfinished} OUT' saves what was recorded" if self._keep else ""
            reason = getattr(error, "strerror", None) or error
            raise BagError(f"cannot write bag {self.path}: {reason}{hint}") from error


def _add_checksums(storage: McapWriter) -> None:
    """Let a writer store the CRC of each chunk: the library writes 0, with which readers cannot notice damage."""
    close_chunk = storage.close_chunk

    def close_chunk_with_checksum() -> None:
        begin, crc = storage.bio.tell(), zlib.crc32(storage.chunk.bio.getbuffer())
        close_chunk()
        end = storage.bio.tell()
        storage.bio.seek(begin + mcap.HEAD.size + mcap.CHUNK_CRC_AT)
        storage.bio.write(crc.to_bytes(4, "little"))
        storage.bio.seek(end)

    storage.close_chunk = close_chunk_with_checksum  # type: ignore[method-assign]


def _qos(latched: bool) -> Qos:
    """Reliable QoS, which best-effort subscribers accept too."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_UNLIMITED,
        lifespan=_UNLIMITED,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_UNLIMITED,
        avoid_ros_namespace_conventions=False,
    )
