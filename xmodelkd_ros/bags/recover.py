"""Recovery of unfinished and damaged recordings, left by a killed process, a full disk or a failing one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from xmodelkd_ros.bags.bag import STANDARD_TYPES, BagReader
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
    counts, problems = [], []
    with BagWriter(out) as writer:
        for file in files:
            with ExitStack() as stack:
                try:
                    reader = stack.enter_context(BagReader(file, damaged=True))
                except BagError as error:
                    problems.append(str(error))
                    continue
                counts.append(_copy(reader, writer, on_progress))
        if not counts:
            raise BagError(problems[0])
    for problem in problems:
        on_progress(problem)
    return sum(counts)


def _copy(reader: BagReader, writer: BagWriter, on_progress: Callable[[str], None]) -> int:
    count, copied = 0, []
    for topic in reader.topics.values():
        known = writer.topics.get(topic.name)
        try:
            if known is None:
                types = reader.types(topic.name)
                writer.add_topic(topic.name, topic.type, topic.latched, STANDARD_TYPES if types is None else types)
            elif known != topic.type:
                raise BagError(f"cannot write topic '{topic.name}' of {reader.path} as {topic.type}: it is a {known}")
            copied.append(topic.name)
        except BagError as error:
            on_progress(str(error))
    for message in reader.raw(copied):
        writer.write_raw(*message)
        count += 1
    for note in reader.notes:
        on_progress(note)
    return count
