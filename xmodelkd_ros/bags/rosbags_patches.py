"""Patches of the rosbags library's reader (0.11) for bags that it rejects or misreads.

* rosbag2 records a type whose definition it does not find with the encoding ``unknown``, and the library rejects the
  whole bag with a KeyError. Such definitions count as missing here.
* If metadata.yaml and the storage file disagree on the QoS of a topic (older, converted and reindexed bags), the
  library silently omits all its messages. Topics are matched by name and type here.
* An MCAP file whose writer was killed has neither index nor footer. On request it is read as if it ended after its last
  complete record.
* If the length of an MCAP record is damaged, Python allocates that many bytes before it notices the end of the file.
  Reads are limited to the file's size here.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Generator, Mapping
from io import SEEK_END, BufferedReader, RawIOBase
from types import MappingProxyType
from typing import Any, BinaryIO, cast

import apsw
from rosbags.interfaces import Connection
from rosbags.interfaces.typing import RPath
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader, Schema
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

_KNOWN_ENCODINGS = ("ros2msg", "ros2idl", "omgidl", "")


class _Schemas(dict[int, Schema]):
    """MCAP schemas by id; the text of those with an unknown encoding is removed."""

    def __setitem__(self, key: int, schema: Schema) -> None:
        if schema.encoding not in _KNOWN_ENCODINGS:
            schema = schema._replace(encoding="", data="")
        super().__setitem__(key, schema)


class _BoundedReader(BufferedReader):
    """A file whose reads allocate no more bytes than its size."""

    def __init__(self, raw: RawIOBase) -> None:
        super().__init__(raw)
        self._size = self.seek(0, SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > self._size:
            size = self._size
        return super().read(size)


class _McapReader(McapReader):
    def __init__(self, path: RPath) -> None:
        super().__init__(path)
        self.schemas = _Schemas()

    def _open(self) -> None:
        assert isinstance(self.bio, BufferedReader), "opened by open()"
        self.bio = _BoundedReader(self.bio.detach())
        super()._open()


class _Sqlite3Reader(Sqlite3Reader):
    def _open(self) -> None:
        apsw.connection_hooks.append(_hide_unknown_definitions)
        try:
            super()._open()
        finally:
            apsw.connection_hooks.remove(_hide_unknown_definitions)


def _hide_unknown_definitions(connection: apsw.Connection) -> None:
    """Shadow the table of definitions by a temporary view of this connection; the bag itself is not modified."""
    if connection.table_exists("main", "message_definitions"):
        connection.execute(
            "CREATE TEMP VIEW message_definitions AS "
            "SELECT * FROM main.message_definitions WHERE encoding IN ('ros2msg', 'ros2idl')"
        )


class _DirectoryReader(DirectoryReader):
    STORAGE_PLUGINS: Mapping[str, Any] = MappingProxyType({"mcap": _McapReader, "sqlite3": _Sqlite3Reader})

    def open(self) -> None:
        super().open()
        declared = {(c.topic, c.msgtype): c for c in self.connections}
        for storage in self.storages:
            storage.connections = [
                c._replace(ext=declared.get((c.topic, c.msgtype), c).ext) for c in storage.connections
            ]


class TolerantReader(Reader):
    """Reads rosbag2 folders, MCAP files and SQLite files."""

    STORAGE_PLUGINS: Mapping[str, Any] = MappingProxyType(
        {"dir": _DirectoryReader, ".mcap": _McapReader, ".db3": _Sqlite3Reader}
    )


_MAGIC_BYTES = 8
_HEAD_BYTES = 9
"""Head of a record: opcode and length of the content."""
_END = b"\x02" + (20).to_bytes(8, "little") + bytes(20) + b"\x89MCAP0\r\n"
"""A footer without index, and the magic bytes."""


class _TruncatedMcap(io.RawIOBase):
    """A truncated MCAP file, closed with this one, up to its last complete record, followed by a footer."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._complete = _complete_bytes(file)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._complete + len(_END)}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        if self._position < self._complete:
            self._file.seek(self._position)
            data = self._file.read(min(size, self._complete - self._position))
        else:
            data = _END[self._position - self._complete :][:size]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _complete_bytes(file: BinaryIO) -> int:
    """Offset of the end of the last complete record. Zeros, which file systems may leave at the end, are no record."""
    size = file.seek(0, os.SEEK_END)
    end = _MAGIC_BYTES
    while end + _HEAD_BYTES <= size:
        file.seek(end)
        head = file.read(_HEAD_BYTES)
        after = end + _HEAD_BYTES + int.from_bytes(head[1:], "little")
        if not head[0] or after > size:
            break
        end = after
    file.seek(0)
    return end


class _UnfinishedMcapReader(_McapReader):
    def _open(self) -> None:
        assert self.bio is not None
        self.bio = cast(BinaryIO, io.BufferedReader(_TruncatedMcap(self.bio)))
        super()._open()

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        # Without an index the library requires messages in order of time, which a clock step may break.
        return self.messages_scan(connections, start, stop)


class UnfinishedReader(TolerantReader):
    """Reads truncated MCAP files, too."""

    STORAGE_PLUGINS: Mapping[str, Any] = MappingProxyType(
        {**TolerantReader.STORAGE_PLUGINS, ".mcap": _UnfinishedMcapReader}
    )
