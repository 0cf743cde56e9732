"""The rosbags library's reader, made to read two kinds of bags that rosbag2 writes and it (0.11) does not.

A type whose definition rosbag2 does not find is recorded with the encoding ``unknown``; the library
refuses the whole bag with a KeyError. Here such definitions count as missing.

Where metadata.yaml tells the quality of service of a topic otherwise than the storage file (older,
converted and reindexed bags), the library leaves all its messages out without a word. Here topics
match by name and type.
"""

from __future__ import annotations

from collections.abc import Mapping
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


class _McapReader(McapReader):
    def __init__(self, path: RPath) -> None:
        super().__init__(path)
        self.schemas = _Schemas()


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
