"""The rosbags library's reader (0.11), made to read two kinds of bags that rosbag2 writes, and to bear damaged ones.

A type whose definition rosbag2 does not find is recorded with the encoding ``unknown``; the library
refuses the whole bag with a KeyError. Here such definitions count as missing.

Where metadata.yaml tells the quality of service of a topic otherwise than the storage file (older,
converted and reindexed bags), the library leaves all its messages out without a word. Here topics
match by name and type.

Where the length of an MCAP record is damaged, Python makes room for as many bytes before it finds that the file has not
as many. Here a file is asked for no more than it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import SEEK_END, BufferedReader, RawIOBase
from types import MappingProxyType
from typing import Any

import apsw
from rosbags.interfaces.typing import RPath
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader, Schema
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

_KNOWN_ENCODINGS = ("ros2msg", "ros2idl", "omgidl", "")


class _Schemas(dict[int, Schema]):
    """MCAP schemas by id, those of an unknown encoding without their text."""

    def __setitem__(self, key: int, schema: Schema) -> None:
        if schema.encoding not in _KNOWN_ENCODINGS:
            schema = schema._replace(encoding="", data="")
        super().__setitem__(key, schema)


class _NoLongerThanItIs(BufferedReader):
    """A file that makes no room for more bytes than it has."""

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
        assert isinstance(self.bio, BufferedReader), "open() has opened it"
        self.bio = _NoLongerThanItIs(self.bio.detach())
        super()._open()


class _Sqlite3Reader(Sqlite3Reader):
    def _open(self) -> None:
        apsw.connection_hooks.append(_hide_unknown_definitions)
        try:
            super()._open()
        finally:
            apsw.connection_hooks.remove(_hide_unknown_definitions)


def _hide_unknown_definitions(connection: apsw.Connection) -> None:
    """Put a view before the table of definitions, for this connection only: the bag is not written."""
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
