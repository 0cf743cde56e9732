"""Recovery of unfinished recordings, left by a killed process or a full disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.errors import BagError


def recover(path: Path, out: Path, on_progress: Callable[[str], None] = lambda line: None) -> int:
    """Copy every message of truncated MCAP files up to the last complete chunk; returns their number.

    Args:
        path: such a file, or a folder with such files, as an unfinished recording leaves it.
        out: the bag to write.
        on_progress: callback for a line about each topic that cannot be copied.

    Raises:
        BagError: nothing can be recovered, or ``out`` exists or cannot be written.
    """
    files = sorted(path.rglob("*.mcap")) if path.is_dir() else [path]
    if not files:
        raise BagError(f"{path} holds no .mcap file; recordings in other formats cannot be recovered")
    with BagWriter(out) as writer:
        return sum(_copy(file, writer, on_progress) for file in files)


def _copy(file: Path, writer: BagWriter, on_progress: Callable[[str], None]) -> int:
    count = 0
    with BagReader(file, unfinished=True) as reader:
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
