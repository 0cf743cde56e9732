"""SQLite files (.db3) of killed recorders and of all ROS 2 distributions; the user's files are never changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from test.example_bags import CLOUD_TYPE, START_NS, storage_file, sweep, write_bag
from xmodelkd_ros.bags.bag import STANDARD_TYPES, BagReader
from xmodelkd_ros.bags.recover import recover
from xmodelkd_ros.core.errors import BagError

TOPICS = {
    "Dashing": "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
    "serialization_format TEXT NOT NULL)",
    "Foxy": "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
    "serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL)",
}
MESSAGES = (
    "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, "
    "data BLOB NOT NULL)"
)


def cloud(index: int, points: int = 200) -> bytes:
    return bytes(STANDARD_TYPES.serialize_cdr(sweep(index, points), CLOUD_TYPE))


def create(path: Path, distribution: str = "Foxy") -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(TOPICS[distribution])
    connection.execute(MESSAGES)
    row = (1, "/points", CLOUD_TYPE, "cdr", "")[: 4 if distribution == "Dashing" else 5]
    connection.execute(f"INSERT INTO topics VALUES ({','.join('?' * len(row))})", row)
    return connection


def insert(connection: sqlite3.Connection, index: int, points: int = 200) -> None:
    row = (1, START_NS + index, cloud(max(index, 0), points))
    connection.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)


def killed(write: Callable[[], None]) -> None:
    """Run a writer in a child process that is then killed."""
    child = os.fork()
    if child == 0:
        try:
            write()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def record_in_wal_mode(path: Path) -> Path:
    """Five messages, of which the recorder had moved two to the database when it was killed."""

    def write() -> None:
        connection = create(path)
        connection.execute("PRAGMA journal_mode=WAL")
        for index in range(5):
            insert(connection, index)
            if index == 1:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    killed(write)
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0
    return path


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def read_times(path: Path) -> tuple[list[int], list[str]]:
    with BagReader(path) as bag:
        read = [message.log_time_ns - START_NS for message in bag.messages(["/points"])]
        assert bag.topics["/points"].count == len(read)
        assert (bag.start_ns - START_NS, bag.end_ns - START_NS) == (min(read), max(read))
        return read, bag.notes


@pytest.mark.parametrize("shm", [True, False])
def test_reads_write_ahead_log_of_killed_recorder(tmp_path: Path, shm: bool):
    path = record_in_wal_mode(tmp_path / "bag.db3")
    if not shm:
        (tmp_path / "bag.db3-shm").unlink()
    before = contents(tmp_path)
    tmp_path.chmod(0o500)
    try:
        times, notes = read_times(path)
    finally:
        tmp_path.chmod(0o700)
    assert times == [0, 1, 2, 3, 4] and contents(tmp_path) == before
    (note,) = notes
    assert "bag.db3 was not closed" in note and "3 of its 5 messages were read from bag.db3-wal" in note


def test_reads_folder_with_write_ahead_log(tmp_path: Path):
    """rosbag2 had written no metadata.yaml before it was killed."""
    record_in_wal_mode(tmp_path / "bag_0.db3")
    times, notes = read_times(tmp_path)
    assert times == [0, 1, 2, 3, 4]
    assert "metadata.yaml is missing; bag_0.db3 is read" in notes[0] and "from bag_0.db3-wal" in notes[1]


def test_recovers_write_ahead_log(tmp_path: Path):
    path = record_in_wal_mode(tmp_path / "bag.db3")
    before = contents(tmp_path)
    assert recover(path, tmp_path / "out" / "saved.mcap") == 5
    shutil.rmtree(tmp_path / "out")
    assert contents(tmp_path) == before


def test_says_that_write_ahead_log_is_missing(tmp_path: Path):
    path = record_in_wal_mode(tmp_path / "bag.db3")
    (tmp_path / "bag.db3-wal").unlink()
    times, notes = read_times(path)
    assert times == [0, 1]
    assert notes == [
        "bag.db3 was not closed, and bag.db3-wal is missing: it may hold the last messages; put it there again"
    ]


def test_says_that_a_copy_without_its_log_may_lack_messages(tmp_path: Path):
    path = record_in_wal_mode(tmp_path / "bag.db3")
    (tmp_path / "copy").mkdir()
    shutil.copy(path, tmp_path / "copy" / "bag.db3")
    times, notes = read_times(tmp_path / "copy" / "bag.db3")
    assert times == [0, 1]
    assert len(notes) == 1 and "if its recorder was killed, bag.db3-wal beside the original holds more" in notes[0]


def test_takes_back_half_a_transaction_of_killed_recorder(tmp_path: Path):
    """A hot journal: the database holds parts of a transaction that was not committed."""
    path = tmp_path / "bag.db3"

    def write() -> None:
        connection = create(path)
        connection.execute("PRAGMA journal_mode=DELETE")
        for index in range(2):
            insert(connection, index)
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN")
        for index in range(2, 60):
            insert(connection, index, 2000)

    killed(write)
    assert (tmp_path / "bag.db3-journal").stat().st_size > 0
    before = contents(tmp_path)
    times, notes = read_times(path)
    assert times == [0, 1] and contents(tmp_path) == before
    assert len(notes) == 1 and "was taken back by bag.db3-journal" in notes[0]


@pytest.mark.parametrize("distribution", TOPICS)
def test_reads_files_of_old_distributions(tmp_path: Path, distribution: str):
    connection = create(tmp_path / "bag.db3", distribution)
    for index in (2, 0, 1):
        insert(connection, index)
    connection.close()
    assert read_times(tmp_path / "bag.db3") == ([0, 1, 2], [])


def test_reads_times_of_recording_of_zero_and_below(tmp_path: Path):
    connection = create(tmp_path / "bag.db3")
    for index in (-START_NS, -START_NS - 7, -START_NS):
        insert(connection, index)
    connection.close()
    assert read_times(tmp_path / "bag.db3") == ([-START_NS - 7, -START_NS, -START_NS], [])


def test_equal_times_of_recording_are_said(tmp_path: Path):
    connection = create(tmp_path / "bag.db3")
    for _ in range(2):
        insert(connection, -START_NS)
    connection.close()
    note = "all messages have the same time of recording, 0 ns: they play at once"
    assert read_times(tmp_path / "bag.db3") == ([-START_NS, -START_NS], [note])


def test_link_to_file_finds_its_log(tmp_path: Path):
    path = record_in_wal_mode(tmp_path / "bag.db3")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "drive.db3").symlink_to(path)
    assert read_times(tmp_path / "links" / "drive.db3")[0] == [0, 1, 2, 3, 4]


def test_kept_journal_that_is_no_longer_needed_is_no_news(tmp_path: Path):
    connection = create(tmp_path / "bag.db3")
    connection.execute("PRAGMA journal_mode=PERSIST")
    insert(connection, 0)
    connection.close()
    assert (tmp_path / "bag.db3-journal").stat().st_size > 0
    assert read_times(tmp_path / "bag.db3") == ([0], [])


def test_message_without_topic_is_noted(tmp_path: Path):
    connection = create(tmp_path / "bag.db3")
    insert(connection, 0)
    connection.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (9, 1, x'00')")
    connection.close()
    assert read_times(tmp_path / "bag.db3") == ([0], ["bag.db3: 1 messages are not read: their topic is not defined"])


def test_recovers_truncated_file_up_to_the_cut(tmp_path: Path):
    file = storage_file(write_bag(tmp_path / "bag", "sqlite3", sweeps=10, points=4000))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BagError, match="'xmodelkd recover'"), BagReader(file):
        pass
    said: list[str] = []
    saved = recover(file, tmp_path / "saved.mcap", said.append)
    assert 4 <= saved <= 6
    assert len(said) == 1 and "it is damaged after" in said[0]
    with BagReader(tmp_path / "saved.mcap") as bag:
        assert [bytes(m.message.data) for m in bag.messages(["/points"])] == [
            bytes(sweep(index, 4000).data) for index in range(saved - 1)
        ]


@pytest.mark.parametrize("points", [30, 200, 2000])
def test_recovers_only_whole_messages_of_a_file_cut_within_a_page(tmp_path: Path, points: int):
    """SQLite itself takes zeros for the rest of the page."""
    whole = storage_file(write_bag(tmp_path / "whole", "sqlite3", 20, points))
    with BagReader(whole) as bag:
        written = {(message.topic, message.log_time_ns, bytes(message.data)) for message in bag.raw()}
    data, cut_file, total = whole.read_bytes(), tmp_path / "cut.db3", 0
    for part in (0.8, 0.85, 0.9, 0.96, 0.99):
        cut_file.write_bytes(data[: int(part * len(data)) | 1])
        said: list[str] = []
        saved = tmp_path / f"saved_{part}.mcap"
        count = recover(cut_file, saved, said.append)
        with BagReader(saved) as bag:
            read = {(message.topic, message.log_time_ns, bytes(message.data)) for message in bag.raw()}
        assert len(read) == count and read <= written
        assert count == len(written) or f"it is damaged after {count} messages" in said[0]
        total += count
    assert total > 2 * len(written)


@pytest.mark.parametrize("row", ["1, 7, NULL", "1, NULL, x'00'", "1, 'soon', x'00'", "1, 7, 'text'", "1, 7.5, x'00'"])
def test_row_without_time_or_data_is_left_out_with_a_note(tmp_path: Path, row: str):
    connection = sqlite3.connect(tmp_path / "bag.db3", isolation_level=None)
    connection.execute(TOPICS["Foxy"])
    connection.execute(MESSAGES.replace(" NOT NULL", ""))
    connection.execute("INSERT INTO topics VALUES (1, '/points', ?, 'cdr', '')", (CLOUD_TYPE,))
    for index in range(3):
        insert(connection, index)
    connection.execute(f"INSERT INTO messages(topic_id, timestamp, data) VALUES ({row})")
    connection.close()
    note = "bag.db3: 1 messages are not read: their rows have no time or no data"
    assert read_times(tmp_path / "bag.db3") == ([0, 1, 2], [note])
    said: list[str] = []
    assert recover(tmp_path / "bag.db3", tmp_path / "saved.mcap", said.append) == 3 and said == [note]
