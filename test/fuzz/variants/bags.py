"""One drive in all forms of a bag: storages, indexes, splits, killed recorders and wrong metadata."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter

from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, InvariantError, Limits, Target, ensure
from test.fuzz.targets.bags import short_drive
from xmodelkd_ros.bags.bag import STANDARD_TYPES, BagReader
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.errors import XModelKDError

Raw = tuple[str, str, int, bytes]
"""Topic, type, time of recording and CDR bytes of a message."""
_TABLES = (
    "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
    "serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL)",
    "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, "
    "data BLOB NOT NULL)",
)


class BagForms(FolderTarget):
    """All forms hold the same messages, which are read in order of time, with no error.

    A note or an error is required where messages are missing because the recorder was killed.
    """

    name = "bag_forms"
    limits = Limits(seconds=5.0, memory=64 << 20, traced=False)

    def __enter__(self) -> Target:
        super().__enter__()
        self._messages: list[Raw] = sorted(short_drive(), key=lambda message: message[2])
        return self

    def seed_input(self) -> Any:
        return {"storage": "mcap", "splits": 0, "order": "time", "seed": 0, "options": {}, "killed": False}

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        form: dict[str, Any] = {
            "storage": mutator.pick(("mcap", "mcap", "mcap", "sqlite3")),
            "splits": mutator.pick((0, 1, 2, 3)),
            "order": mutator.pick(("time", "reversed", "shuffled")),
            "seed": mutator.below(1 << 30),
        }
        if form["storage"] == "mcap":
            form["options"] = {
                "compression": mutator.pick(list(CompressionType)),
                "index_types": mutator.pick((IndexType.ALL, IndexType.NONE, IndexType.CHUNK, IndexType.MESSAGE)),
                "chunk_size": mutator.pick((1, 2000, 1 << 20)),
                "use_chunking": mutator.chance(0.7),
                **{name: mutator.chance(0.6) for name in ("use_statistics", "use_summary_offsets", "repeat_channels")},
            }
        form["killed"] = form["splits"] < 2 and mutator.chance(0.25)
        if form["splits"]:
            form["metadata"] = {key: mutator.below(3) for key in ("duration", "start", "count", "files", "counts")}
            form["metadata"]["file"] = not form["killed"] and mutator.chance(0.8)
        return form, 10_000

    def execute(self, value: Any) -> None:
        path, complete = self._write(value)
        try:
            with BagReader(path) as reader:
                found = [(topic, at_ns, bytes(data)) for topic, at_ns, data in reader.raw()]
                ends, notes = (reader.start_ns, reader.end_ns), list(reader.notes)
        except XModelKDError as error:
            if value.get("killed"):
                raise
            raise InvariantError(f"refused without need: {error}"[:200].replace(str(self.folder), "")) from error
        wanted = [(topic, at_ns, data) for topic, _, at_ns, data in self._messages]
        ensure([at_ns for _, at_ns, _ in found] == sorted(at_ns for _, at_ns, _ in found), "not in order of time")
        ensure(set(found) <= set(wanted), "messages that nobody wrote")
        ensure(len(found) == len(set(found)), "messages are read twice")
        if len(found) < len(wanted):
            ensure(not complete, "messages are lost that the files hold")
            ensure(notes, "messages are lost without a note")
        else:
            ensure(ends == (wanted[0][1], wanted[-1][1]), "start or end is wrong")

    def _write(self, form: Any) -> tuple[Path, bool]:
        """The bag, and whether its files hold every message."""
        root = self.folder / "bag"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        messages, mutator = list(self._messages), Mutator.of("order", form["seed"], 0)
        if form["order"] == "reversed":
            messages.reverse()
        elif form["order"] == "shuffled":
            mutator.random.shuffle(messages)
        count = max(form["splits"], 1)
        parts = [messages[number::count] if form["seed"] % 2 else _block(messages, number, count)
                 for number in range(count)]  # fmt: skip
        suffix = ".mcap" if form["storage"] == "mcap" else ".db3"
        files = [root / f"bag_{number}{suffix}" for number in range(count)]
        complete = True
        for file, part in zip(files, parts, strict=True):
            if form["storage"] == "mcap":
                complete &= _write_mcap(file, part, form["options"], form["killed"])
            else:
                _write_sqlite(file, part, form["killed"])
        if form["splits"] and form["metadata"]["file"]:
            self._write_metadata(root, files, parts, form)
        return (files[0] if form["splits"] == 0 else root), complete

    def _write_metadata(self, root: Path, files: Sequence[Path], parts: Sequence[Sequence[Raw]], form: Any) -> None:
        """metadata.yaml as rosbag2 writes it, with entries that say something else or are missing."""
        reference = self.folder / "reference"
        shutil.rmtree(reference, ignore_errors=True)
        with BagWriter(reference, form["storage"]) as bag:
            for topic, kind in dict.fromkeys((topic, kind) for topic, kind, _, _ in self._messages):
                bag.add_topic(topic, kind)
            for topic, _, at_ns, data in self._messages:
                bag.write_raw(topic, at_ns, data)
        metadata = yaml.safe_load((reference / "metadata.yaml").read_text())
        info, wrong = metadata["rosbag2_bagfile_information"], form["metadata"]
        names = [file.name for file in files]
        info["relative_file_paths"] = names[::-1] if form["order"] == "reversed" else names
        if wrong["duration"]:
            info["duration"]["nanoseconds"] = 1 if wrong["duration"] == 1 else 0
        if wrong["start"] == 1:
            info["starting_time"]["nanoseconds_since_epoch"] += 10**9
        if wrong["count"]:
            info["message_count"] = len(parts[0]) if wrong["count"] == 1 else 0
        if wrong["counts"] == 1:
            for topic in info["topics_with_message_count"]:
                topic["message_count"] = 0
        if wrong["files"] == 1:
            info.pop("files", None)
        elif wrong["files"] == 2:
            info.pop("compression_format", None), info.pop("compression_mode", None)
        (root / "metadata.yaml").write_text(yaml.safe_dump(metadata, sort_keys=False))


def _block(messages: list[Raw], number: int, count: int) -> list[Raw]:
    size = -(-len(messages) // count)
    return messages[number * size : (number + 1) * size]


def _write_mcap(path: Path, messages: Sequence[Raw], options: Any, killed: bool) -> bool:
    """An MCAP file; returns whether it holds every message: a killed recorder's last chunk is lost."""
    with path.open("wb") as file:
        writer = McapWriter(file, **options)
        writer.start("ros2", "test")
        channels: dict[str, int] = {}
        for topic, kind, at_ns, data in messages:
            if topic not in channels:
                text = STANDARD_TYPES.generate_msgdef(kind, ros_version=2)[0].encode()
                schema = writer.register_schema(kind, "ros2msg", text)
                channels[topic] = writer.register_channel(topic, "cdr", schema, {"offered_qos_profiles": ""})
            writer.add_message(channels[topic], at_ns, data, at_ns)
        if not killed:
            writer.finish()
    return not killed or not options.get("use_chunking", True)


def _write_sqlite(path: Path, messages: Sequence[Raw], killed: bool) -> None:
    """A .db3 file; that of a killed recorder is in WAL mode, and the log beside it holds most messages."""
    writing = path.with_suffix(".writing")
    connection = sqlite3.connect(writing, isolation_level=None)
    if killed:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
    for statement in _TABLES:
        connection.execute(statement)
    topics = list(dict.fromkeys((topic, kind) for topic, kind, _, _ in messages))
    for number, (topic, kind) in enumerate(topics, 1):
        connection.execute("INSERT INTO topics VALUES (?, ?, ?, 'cdr', '')", (number, topic, kind))
    for number, (topic, kind, at_ns, data) in enumerate(messages):
        row = (topics.index((topic, kind)) + 1, at_ns, data)
        connection.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)
        if killed and number == 1:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("", "-wal"):
        source = writing.with_name(writing.name + suffix)
        if source.exists():
            shutil.copy(source, path.with_name(path.name + suffix))
    connection.close()
    for file in path.parent.glob(f"{writing.name}*"):
        file.unlink()
