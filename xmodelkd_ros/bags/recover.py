"""Recovery of unfinished and damaged recordings, left by a killed process, a full disk or a failing one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.bag_files import storage_files
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.errors import BagError


def recover(path: Path, out: Path, on_progress: Callable[[str], None] = lambda line: None) -> int:
    """Copy every message that can still be read from storage files of any kind; returns their number.

    Args:
        path: such a file, or a folder with such files at any depth, as an unfinished recording leaves it.
        out: the bag to write.
        on_progress: callback for a line about each topic and each part of a file that cannot be copied.

    Raises:
        BagError: nothing can be recovered, or ``out`` exists or cannot be written.
    """
    folders = [path, *sorted(sub for sub in path.rglob("*") if sub.is_dir())] if path.is_dir() else []
    files = [file for folder in folders for file in storage_files(folder)] if folders else [path]
    if not files:
        raise BagError(f"{path} holds no .mcap or .db3 file; recordings in other formats cannot be recovered")
    with BagWriter(out) as writer:
        return sum(_copy(file, writer, on_progress) for file in files)


def _copy(file: Path, writer: BagWriter, on_progress: Callable[[str], None]) -> int:
    count = 0
    with BagReader(file, damaged=True) as reader:
        for topic in [topic for topic in reader.topics.values() if topic.name not in writer.topics]:
            try:
                writer.add_topic(topic.name, topic.type, topic.latched)
            except BagError as error:
                on_progress(str(error))
        for message in reader.raw(writer.topics & reader.topics.keys()):
            writer.write_raw(*message)
            count += 1
        for note in reader.notes:
            on_progress(note)
    return count
