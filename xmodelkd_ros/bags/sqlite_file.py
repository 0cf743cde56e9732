"""Reading of rosbag2's SQLite files (``.db3``) of all ROS 2 distributions, without changing them.

A recorder that was killed may leave committed messages in a write-ahead log (``-wal``), or half a transaction and the
journal to take it back. SQLite applies both to a temporary copy here, never to the user's file.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from xmodelkd_ros.bags.storage import Channel, Entry, is_latched, ros_type
from xmodelkd_ros.core.errors import BagError, one_line

MAGIC = b"SQLite format 3\0"
_WAL, _SHM, _JOURNAL = "-wal", "-shm", "-journal"
_VERSION_BYTES = slice(18, 20)
"""Both are 2 in the file's head if it was written with a write-ahead log."""
_DEFINITION_FORMATS = ("ros2msg", "ros2idl")
_PAGE_BYTES = slice(16, 18)
"""Size of a page in the file's head, big-endian; 1 means 65536."""
_WHOLE = "typeof(timestamp) = 'integer' AND typeof(data) = 'blob'"
"""Condition for rows with a time and data, which not every writer's table demands."""
_Summary = list[tuple[int, int, int, int]]
"""Topic id, number of messages, earliest and latest time."""


class SqliteFile:
    """An open SQLite file; a :class:`xmodelkd_ros.bags.storage.StorageFile`.

    Attributes:
        may_lack_log: whether it was written with a log, which is not there: the recorder closed it, or the file was
            copied without.

    Args:
        path: the file.
        damaged: read a truncated or damaged file up to the damage, with a note, instead of failing.

    Raises:
        BagError: the file has no messages table, or its log cannot be copied.
        sqlite3.Error: it is damaged.
    """

    def __init__(self, path: Path, damaged: bool = False) -> None:
        self.path, self._damaged = path, damaged
        self.counts: dict[Channel, int] = {}
        self.notes: list[str] = []
        self.start_ns = self.end_ns = 0
        self.may_lack_log = False
        self._folder: TemporaryDirectory[str] | None = None
        self._connection: sqlite3.Connection | None = None
        self._channels: dict[int, Channel] = {}
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and delete its copy."""
        if self._connection is not None:
            self._connection.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _open(self) -> None:
        logs = [log for log in map(self._beside, (_WAL, _JOURNAL)) if _is_log(log)]
        if logs:
            self._connection = self._connect(self._copied(logs), "mode=rw")
        elif self._damaged and (cut := self._bytes_of_last_page()):
            # SQLite would take zeros for the rest of that page, and so for a part of a message.
            copy = self._copied([])
            os.truncate(copy, copy.stat().st_size - cut)
            self._connection = self._connect(copy, "immutable=1")
        else:
            self._connection = self._connect(self.path, "immutable=1")
        if self._damaged:
            # Otherwise SQLite refuses a file that is shorter than its head claims.
            self._query("PRAGMA writable_schema=ON")
        self._read_topics()
        summary = self._summary()
        for topic_id, count, start_ns, end_ns in summary:
            if topic_id not in self._channels:
                self._note(f"{count} messages are not read: their topic is not defined")
                continue
            self.start_ns = min(self.start_ns, start_ns) if any(self.counts.values()) else start_ns
            self.end_ns = max(self.end_ns, end_ns) if any(self.counts.values()) else end_ns
            channel = self._channels[topic_id]
            self.counts[channel] += count
        self._note_logs(logs)

    def _beside(self, suffix: str) -> Path:
        file = self.path.resolve()  # of a link, as SQLite does
        return file.with_name(file.name + suffix)

    def _bytes_of_last_page(self) -> int:
        """Length of the page in which the file was cut; 0 if it ends with a whole page."""
        with self.path.open("rb") as file:
            size = int.from_bytes(file.read(_PAGE_BYTES.stop)[_PAGE_BYTES], "big")
        return self.path.stat().st_size % (65536 if size < 512 else size)

    @staticmethod
    def _connect(path: Path, how: str) -> sqlite3.Connection:
        # The generators of a reader may move to another thread.
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, check_same_thread=False)
        connection.text_factory = lambda text: text.decode(errors="replace")
        return connection

    def _query(self, sql: str, values: tuple[int, ...] = ()) -> sqlite3.Cursor:
        assert self._connection is not None
        return self._connection.execute(sql, values)

    def _copied(self, logs: list[Path]) -> Path:
        """A copy of the file and its logs, if any, in a temporary folder."""
        self._folder = TemporaryDirectory(prefix="xmodelkd-bag-")
        copy = Path(self._folder.name, self.path.resolve().name)
        try:
            for source in (self.path.resolve(), *logs):
                shutil.copyfile(source, copy.with_name(source.name))
        except OSError as error:
            raise BagError(
                f"{' and '.join([self.path.name, *(log.name for log in logs)])} cannot be copied to {copy.parent}: "
                f"{error.strerror}; set TMPDIR to a folder with more space"
            ) from error
        return copy

    def _read_topics(self) -> None:
        tables = {name for (name,) in self._query("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise BagError(f"{self.path.name} is no bag: it has no table of topics and messages")
        definitions: dict[str, tuple[str, str]] = {}
        if "message_definitions" in tables:  # since Iron
            columns = "topic_type, encoding, encoded_message_definition"
            for msgtype, encoding, text in self._query(f"SELECT {columns} FROM message_definitions"):
                if encoding in _DEFINITION_FORMATS:
                    definitions[msgtype] = (encoding, str(text))
        has_qos = "offered_qos_profiles" in {row[1] for row in self._query("PRAGMA table_info(topics)")}  # since Foxy
        columns = f"id, name, type, serialization_format, {'offered_qos_profiles' if has_qos else 'NULL'}"
        for topic_id, name, msgtype, encoding, qos in self._query(f"SELECT {columns} FROM topics"):
            latched = is_latched(str(name), qos)
            definition = definitions.get(msgtype, ("", ""))
            channel = Channel(str(name), ros_type(str(msgtype)), str(encoding), *definition, latched)
            self._channels[topic_id] = channel
            self.counts[channel] = 0

    def _summary(self) -> _Summary:
        if self._damaged:
            times: dict[int, list[int]] = {}
            for topic_id, log_time_ns, _ in self._readable():
                times.setdefault(topic_id, []).append(log_time_ns)
            return [(topic_id, len(some), min(some), max(some)) for topic_id, some in times.items()]
        what = "topic_id, COUNT(*), MIN(timestamp), MAX(timestamp)"
        summary = self._query(f"SELECT {what} FROM messages WHERE {_WHOLE} GROUP BY topic_id").fetchall()
        (rows,) = self._query("SELECT COUNT(*) FROM messages").fetchone()
        self._note_partial(rows - sum(count for _, count, *_ in summary))
        return summary

    def _readable(self) -> Iterator[tuple[int, int, bytes]]:
        """Topic id, time and data of the messages in the order of writing, up to the first damage."""
        rows, count, partial = self._query("SELECT topic_id, timestamp, data FROM messages ORDER BY rowid"), 0, 0
        try:
            for topic_id, log_time_ns, data in rows:
                if type(log_time_ns) is int and type(data) is bytes:
                    yield topic_id, log_time_ns, data
                    count += 1
                else:
                    partial += 1
        except sqlite3.DatabaseError as error:
            self._note(f"it is damaged after {count} messages: {one_line(error)}; the rest is not read")
        self._note_partial(partial)

    def _note_partial(self, count: int) -> None:
        if count:
            self._note(f"{count} messages are not read: their rows have no time or no data")

    def _note(self, text: str) -> None:
        note = f"{self.path.name}: {text}"
        if note not in self.notes:
            self.notes.append(note)

    def _note_logs(self, logs: list[Path]) -> None:
        name = self.path.name
        if self._beside(_WAL) in logs:
            added = sum(self.counts.values()) - self._count_without_log()
            self.notes.append(
                f"{name} was not closed: its recorder was killed, or still runs; {added} of its "
                f"{sum(self.counts.values())} messages were read from {name}{_WAL}, in a temporary copy"
            )
        elif logs:
            self.notes.append(
                f"{name} was not closed: its recorder was killed; the last transaction, which is incomplete, was taken "
                f"back by {name}{_JOURNAL}, in a temporary copy"
            )
        elif self._beside(_SHM).exists() and not self._beside(_WAL).exists():
            self.notes.append(
                f"{name} was not closed, and {name}{_WAL} is missing: it may hold the last messages; put it there again"
            )
        elif not self._beside(_WAL).exists():
            with self.path.open("rb") as file:
                self.may_lack_log = file.read(_VERSION_BYTES.stop)[_VERSION_BYTES] == b"\x02\x02"

    def _count_without_log(self) -> int:
        """Number of messages in the file itself."""
        try:
            connection = self._connect(self.path, "immutable=1")
            try:
                (count,) = connection.execute("SELECT COUNT(*) FROM messages").fetchone()
            finally:
                connection.close()
        except sqlite3.Error:  # even the tables may be in the log only
            return 0
        return int(count)

    def entries(self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None) -> Iterator[Entry]:
        """Messages on some channels from ``start_ns`` until before ``stop_ns``, in the order of time.

        Raises:
            sqlite3.Error: the file is damaged.
        """
        wanted = {topic_id: channel for topic_id, channel in self._channels.items() if channel in channels}
        if self._damaged:  # all of them, in the order of writing
            yield from (
                Entry(t, wanted[topic_id], data) for topic_id, t, data in self._readable() if topic_id in wanted
            )
            return
        conditions, values = [f"topic_id IN ({','.join('?' * len(wanted))})", _WHOLE], list(wanted)
        for bound, sign in ((start_ns, ">="), (stop_ns, "<")):
            if bound is not None:
                conditions.append(f"timestamp {sign} ?")
                values.append(bound)
        where = f"FROM messages WHERE {' AND '.join(conditions)} ORDER BY timestamp, rowid"
        for row, topic_id, log_time_ns, data in self._rows(where, tuple(values)):
            # Without the index, SQLite would sort the rows with their data in memory.
            if row is not None:
                (data,) = self._query("SELECT data FROM messages WHERE rowid = ?", (row,)).fetchone()
            yield Entry(log_time_ns, wanted[topic_id], data)

    def _rows(self, where: str, values: tuple[int, ...]) -> sqlite3.Cursor:
        """Row number, topic, time and data of messages; the row number or the data is None."""
        plan = self._query(f"EXPLAIN QUERY PLAN SELECT data {where}", values).fetchall()
        is_sorted = not any("TEMP B-TREE" in row[-1] for row in plan)
        columns = "NULL, topic_id, timestamp, data" if is_sorted else "rowid, topic_id, timestamp, NULL"
        return self._query(f"SELECT {columns} {where}", values)


def _is_log(path: Path) -> bool:
    """Whether a log exists and holds something; a journal that is kept for reuse begins with a zero."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.read(1) not in (b"", b"\0")
