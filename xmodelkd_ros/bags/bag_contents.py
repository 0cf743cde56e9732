"""The messages of all storage files of a bag, merged by time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from xmodelkd_ros.bags import mcap_records, sqlite_file
from xmodelkd_ros.bags.bag_files import BagFiles
from xmodelkd_ros.bags.mcap_file import McapFile
from xmodelkd_ros.bags.sqlite_file import SqliteFile
from xmodelkd_ros.bags.storage import ZSTD_MAGIC, Channel, Entry, Source, StorageFile, merged, unpack_zstd, zstd
from xmodelkd_ros.core.errors import BagError, one_line


class BagContents:
    """The open storage files of a bag.

    Files that overlap in time are merged. A message that several files hold is read once. A file that cannot be opened
    is noted, unless it is the only one.

    Args:
        files: the files.
        damaged: read damaged files as far as possible.

    Attributes:
        counts: number of messages by channel.
        start_ns: earliest time of recording.
        end_ns: latest time of recording.
        notes: one line about each irregularity.

    Raises:
        BagError: no file can be opened.
    """

    def __init__(self, files: BagFiles, damaged: bool) -> None:
        self._notes = list(files.notes)
        self.counts: dict[Channel, int] = {}
        self._damaged = damaged
        self._files: list[StorageFile] = []
        with ExitStack() as stack:
            for path in files.paths:
                self._open(path, len(files.paths) > 1, stack)
            self._stack = stack.pop_all()
        for file in self._files:
            for channel, count in file.counts.items():
                self.counts[channel] = self.counts.get(channel, 0) + count
        holding = [file for file in self._files if any(file.counts.values())]
        self.start_ns = min((file.start_ns for file in holding), default=0)
        self.end_ns = max((file.end_ns for file in holding), default=0)
        count = sum(self.counts.values())
        self._has_overlaps = bool(_overlaps(holding))
        if self._has_overlaps:
            with self._stack:
                self._leave_out_duplicates()
                self._stack = self._stack.pop_all()
        for file in self._files:
            # With metadata.yaml the recorder was not killed.
            if files.claimed is None and isinstance(file, SqliteFile) and file.may_lack_log:
                name = file.path.name
                self._notes.append(
                    f"{name} was recorded with a write-ahead log, which is not here: if its recorder was killed, "
                    f"{name}-wal beside the original holds more messages; copy it too"
                )
        if files.claimed is not None and count < files.claimed:
            self._notes.append(f"metadata.yaml claims {files.claimed} messages, the storage files hold {count}")

    @property
    def notes(self) -> list[str]:  # noqa: D102
        return self._notes + [note for file in self._files for note in file.notes]

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def _open(self, path: Path, is_split: bool, stack: ExitStack) -> None:
        try:
            file = _opened(path, self._damaged, self._notes, stack)
        except Exception as error:  # of SQLite, decompressors and the system
            if not is_split:
                raise
            self._notes.append(f"{path.name} is not read: {one_line(error)}; the other files are")
            return
        stack.callback(file.close)
        self._files.append(file)

    def entries(self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None) -> Iterator[Entry]:
        """Messages on some channels from ``start_ns`` until before ``stop_ns``, in the order of time.

        Raises:
            BagError, OSError, sqlite3.Error: a file is damaged.
        """
        entries = self._all_entries(channels, start_ns, stop_ns)
        return (entry for entry, is_duplicate in entries if not is_duplicate)

    def _all_entries(
        self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Entry, bool]]:
        """The messages, and whether another file holds the same one."""
        sources = []
        for file in self._files:
            own = [channel for channel in channels if file.counts.get(channel)]
            if own:
                sources.append(Source(file.start_ns, partial(file.entries, own, start_ns, stop_ns)))
        entries = merged(sources)
        return _marked(entries) if self._has_overlaps else ((entry, False) for _, entry in entries)

    def _leave_out_duplicates(self) -> None:
        """Find out how many messages are in several files; only topics and times that files share are read."""
        topics = Counter(topic for file in self._files for topic in {c.topic for c, n in file.counts.items() if n})
        shared = [channel for channel in self.counts if topics[channel.topic] > 1]
        files = [file for file in self._files if any(file.counts.get(channel) for channel in shared)]
        duplicates = 0
        for begin_ns, end_ns in _overlaps(files):
            for entry, is_duplicate in self._all_entries(shared, begin_ns, end_ns + 1):
                if is_duplicate:
                    self.counts[entry.channel] -= 1
                    duplicates += 1
        if duplicates:
            self._notes.append(f"{duplicates} messages are in several storage files; each is read once")


def _overlaps(files: Iterable[StorageFile]) -> list[tuple[int, int]]:
    """First and last time of each stretch that several files cover."""
    stretches: list[tuple[int, int]] = []
    latest: int | None = None
    for file in sorted(files, key=lambda file: file.start_ns):
        if latest is not None and file.start_ns <= latest:
            begin_ns, end_ns = file.start_ns, min(latest, file.end_ns)
            if stretches and begin_ns <= stretches[-1][1]:
                begin_ns, end_ns = stretches[-1][0], max(stretches.pop()[1], end_ns)
            stretches.append((begin_ns, end_ns))
        latest = file.end_ns if latest is None else max(latest, file.end_ns)
    return stretches


def _marked(entries: Iterable[tuple[int, Entry]]) -> Iterator[tuple[Entry, bool]]:
    """Entries, and whether another file holds the same topic, time and content before."""
    log_time_ns: int | None = None
    first_in: dict[tuple[str, bytes], int] = {}
    for number, entry in entries:
        if entry.log_time_ns != log_time_ns:
            log_time_ns, first_in = entry.log_time_ns, {}
        yield entry, first_in.setdefault((entry.channel.topic, entry.data), number) != number


def _opened(path: Path, damaged: bool, notes: list[str], stack: ExitStack) -> StorageFile:
    """Open a file by its first bytes; compressed files are unpacked to a temporary folder."""
    with path.open("rb") as file:
        head = file.read(len(sqlite_file.MAGIC))
    if head.startswith(mcap_records.MAGIC):
        return McapFile(path, damaged)
    if head == sqlite_file.MAGIC:
        return SqliteFile(path, damaged)
    if head.startswith(ZSTD_MAGIC):
        return _opened(_unpacked(path, notes, stack), damaged, notes, stack)
    raise BagError(f"{path.name} {'begins neither as an MCAP nor as an SQLite file' if head else 'is empty (0 bytes)'}")


def _unpacked(path: Path, notes: list[str], stack: ExitStack) -> Path:
    target = Path(stack.enter_context(TemporaryDirectory(prefix="xmodelkd-bag-")), path.stem)
    try:
        if not unpack_zstd(path, target):
            notes.append(f"{path.name} is cut short: what it holds is read; copy it again")
    except zstd.ZstdError as error:
        raise BagError(f"{path.name} does not decompress: {one_line(error)}") from error
    except OSError as error:
        reason = f"{error.strerror}; set TMPDIR to a folder with more space"
        raise BagError(f"{path.name} cannot be unpacked in {target.parent}: {reason}") from error
    return target
