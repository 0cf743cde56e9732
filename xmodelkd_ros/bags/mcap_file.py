"""Reading of MCAP files by what they hold.

Files come with and without chunks, indexes, statistics and end. The data section is therefore walked from record to
record, without reading the chunks. Their content is known from the message indexes if these agree with the statistics;
otherwise each chunk is decompressed once to see what is in it.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from xmodelkd_ros.bags import mcap_records as mcap
from xmodelkd_ros.bags.mcap_records import Definitions, IndexedTimes
from xmodelkd_ros.bags.storage import Channel, Entry, Source, merged
from xmodelkd_ros.core.errors import BagError, one_line

_FOOTER_BYTES = mcap.HEAD.size + 20
_RUN_BYTES = 1 << 20
"""Messages outside of chunks are read in blocks of about this size."""
_CACHED_BYTES = 64 << 20
"""Chunks that overlap in time are decompressed again for each message if they do not fit in this."""
_HEAD_BYTES = mcap.HEAD.size + max(mcap.TIMES.size, mcap.MESSAGE_HEAD.size)
_IN_RUN = (mcap.SCHEMA, mcap.CHANNEL, mcap.MESSAGE)


@dataclass
class _Block:
    """A chunk, or a run of messages outside of chunks.

    Attributes:
        begin: first byte in the file of its records, or of a chunk's content.
        end: byte after the last one.
        is_chunk: whether it is a chunk.
        claimed_ns: earliest and latest log time, as the chunk's head claims.
        indexed: by channel id what the message indexes behind the chunk claim, or the messages' heads.
        definitions: schemas and channels that are valid at its begin.
        channels: number of messages by channel.
        start_ns: earliest log time.
        end_ns: latest log time.
    """

    begin: int
    end: int
    is_chunk: bool
    claimed_ns: tuple[int, int] = (0, 0)
    indexed: dict[int, IndexedTimes] = field(default_factory=dict)
    definitions: Definitions = field(default_factory=Definitions)
    channels: Counter[Channel] = field(default_factory=Counter)
    start_ns: int = 0
    end_ns: int = 0

    def add(self, times: IndexedTimes) -> None:
        """Add messages of a channel that are known to lie in the block."""
        known = self.indexed.get(times.channel_id, times._replace(messages=0))
        self.indexed[times.channel_id] = times._replace(
            messages=known.messages + times.messages,
            start_ns=min(known.start_ns, times.start_ns),
            end_ns=max(known.end_ns, times.end_ns),
        )

    def indexed_ns(self) -> tuple[int, int]:
        """Earliest and latest of the indexed times."""
        return min(t.start_ns for t in self.indexed.values()), max(t.end_ns for t in self.indexed.values())

    def trust_index(self, definitions: Definitions) -> None:
        """Take the indexed times for what the block holds."""
        self.definitions = definitions
        for times in self.indexed.values():
            self.channels[definitions.channels[times.channel_id]] += times.messages
        if self.indexed:
            self.start_ns, self.end_ns = self.indexed_ns()

    def overlaps(self, start_ns: int | None, stop_ns: int | None) -> bool:
        """Whether the block may hold messages from ``start_ns`` until before ``stop_ns``."""
        return (start_ns is None or start_ns <= self.end_ns) and (stop_ns is None or self.start_ns < stop_ns)


def _agree(blocks: Iterable[_Block], claimed: Mapping[int, int], definitions: Definitions) -> bool:
    """Whether message indexes, heads of chunks, statistics and channels claim the same."""
    indexed: Counter[int] = Counter()
    for block in blocks:
        indexed.update({times.channel_id: times.messages for times in block.indexed.values()})
        if block.is_chunk and block.indexed and block.indexed_ns() != block.claimed_ns:
            return False
    return dict(indexed) == claimed and indexed.keys() <= definitions.channels.keys()


class McapFile:
    """An open MCAP file; a :class:`xmodelkd_ros.bags.storage.StorageFile`.

    Args:
        path: the file.
        damaged: skip damaged chunks with a note instead of failing, and take an unfinished file for granted.

    Raises:
        BagError: the file is damaged, or holds no complete record.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, damaged: bool = False) -> None:
        self.path, self._damaged = path, damaged
        self.counts: dict[Channel, int] = {}
        self.notes: list[str] = []
        self.start_ns = self.end_ns = 0
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._undefined, self._parts = 0, 1
        self._definitions_behind = Definitions()  # the block that was parsed last
        self._file = path.open("rb")
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            self._open()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # --- opening ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._bytes(0, len(mcap.MAGIC)) != mcap.MAGIC:
            raise BagError(f"{self.path.name} does not begin as an MCAP file")
        self._final, claimed = self._summary()
        blocks = self._walk()
        if self._parts > 1:  # the summary is that of the last part
            self._final, claimed = Definitions(), None
        if claimed is None or not _agree(blocks, claimed, self._final):
            self._scan(blocks)
        else:
            for block in blocks:
                block.trust_index(self._final)
        self._blocks = [block for block in blocks if block.channels]
        for block in self._blocks:
            for channel, count in block.channels.items():
                self.counts[channel] = self.counts.get(channel, 0) + count
        for channel in self._final.channels.values():
            self.counts.setdefault(channel, 0)
        if self._blocks:
            self.start_ns = min(block.start_ns for block in self._blocks)
            self.end_ns = max(block.end_ns for block in self._blocks)
        self._note_losses(sum((claimed or {}).values()))

    def _bytes(self, begin: int, end: int) -> bytes:
        self._file.seek(begin)
        return self._file.read(max(min(end, self._size) - begin, 0))

    def _summary(self) -> tuple[Definitions, dict[int, int] | None]:
        """Definitions and number of messages by channel id in the summary; None where it is missing or damaged."""
        definitions, counts = Definitions(), None
        end = self._size - len(mcap.MAGIC) - _FOOTER_BYTES
        footer = self._bytes(max(end, 0), self._size)
        self._has_end = end > 0 and footer[0] == mcap.FOOTER and footer.endswith(mcap.MAGIC)
        begin = int.from_bytes(footer[mcap.HEAD.size :][:8], "little")
        if not self._has_end or not 0 < begin < end:
            return definitions, None
        try:
            data = self._bytes(begin, end)
            if not mcap.is_sound_summary(data, footer):
                return Definitions(), None
            for record in mcap.records(data):
                if record.opcode in (mcap.SCHEMA, mcap.CHANNEL):
                    definitions.read(record.opcode, data[record.begin : record.end])
                elif record.opcode == mcap.STATISTICS:
                    counts = mcap.statistics(data[record.begin : record.end])
        except Exception:  # of struct, numpy or this package: such a summary is worth nothing
            return Definitions(), None
        return (definitions, counts) if definitions.is_sound else (Definitions(), None)

    def _walk(self) -> list[_Block]:
        """The chunks and runs of messages of the data section, in the order of the file."""
        blocks: list[_Block] = []
        at, run = len(mcap.MAGIC), False
        while True:
            head = self._bytes(at, at + _HEAD_BYTES)
            opcode, length = mcap.HEAD.unpack_from(head) if len(head) >= mcap.HEAD.size else (0, 0)
            begin, end = at + mcap.HEAD.size, at + mcap.HEAD.size + length
            self._complete, self._data_end = opcode in (mcap.DATA_END, mcap.FOOTER), at
            if self._complete and (following := self._following_part(at)):
                at, run = following, False
                continue
            # File systems may leave zeros at the end of a file after a crash.
            if self._complete or opcode == 0 or end > self._size:
                break
            if opcode == mcap.CHUNK and length >= mcap.TIMES.size:
                blocks.append(_Block(begin, end, True, mcap.TIMES.unpack_from(head, mcap.HEAD.size)))
            elif opcode == mcap.MESSAGE_INDEX and blocks and blocks[-1].is_chunk:
                self._read_index(blocks[-1], begin, end)
            elif opcode in _IN_RUN:
                if not run or end - blocks[-1].begin > _RUN_BYTES:
                    blocks.append(_Block(at, end, False))
                blocks[-1].end = end
                if opcode == mcap.MESSAGE and length >= mcap.MESSAGE_HEAD.size:
                    channel_id, _, log_time_ns, _ = mcap.MESSAGE_HEAD.unpack_from(head, mcap.HEAD.size)
                    blocks[-1].add(IndexedTimes(channel_id, 1, log_time_ns, log_time_ns))
            run = opcode in _IN_RUN
            at = end
        if not self._complete and self._has_end:
            self._report(f"it is damaged from byte {at} of {self._size} on")
        return blocks

    def _following_part(self, at: int) -> int:
        """First record of another MCAP file that was appended to this one (``cat a.mcap b.mcap``); 0 without one.

        Args:
            at: first byte of the record that ends the data section.
        """
        while len(head := self._bytes(at, at + mcap.HEAD.size)) == mcap.HEAD.size:
            opcode, length = mcap.HEAD.unpack(head)
            at += mcap.HEAD.size + length
            if opcode == mcap.FOOTER:
                begin = at + len(mcap.MAGIC)
                if self._bytes(at, begin + len(mcap.MAGIC)) != 2 * mcap.MAGIC:
                    break
                self._parts += 1
                return begin + len(mcap.MAGIC)
            if opcode == 0:
                break
        return 0

    def _report(self, problem: str) -> None:
        """Raise an error about damage; note it instead if damaged files are to be read."""
        text = f"{self.path.name}: {problem}"
        if not self._damaged:
            raise BagError(text)
        if f"{text}; not read" not in self.notes:
            self.notes.append(f"{text}; not read")

    def _read_index(self, block: _Block, begin: int, end: int) -> None:
        try:
            times = mcap.message_index(self._bytes(begin, end))
        except Exception:  # of struct, numpy or this package: without an index the chunk itself tells
            return
        if times is not None:
            block.add(times)

    def _scan(self, blocks: list[_Block]) -> None:
        """Find out what is in the blocks by reading them."""
        definitions = Definitions()
        for block in blocks:
            block.definitions = definitions
            times: list[int] = []
            for log_time_ns, channel, _, _ in self._messages(block):
                if channel is None:
                    self._undefined += 1
                else:
                    block.channels[channel] += 1
                    times.append(log_time_ns)
            if times:
                block.start_ns, block.end_ns = min(times), max(times)
            self._cache.clear()
            definitions = self._definitions_behind
        for number, channel in definitions.channels.items():
            self._final.channels.setdefault(number, channel)

    def _note_losses(self, claimed: int) -> None:
        count, name = sum(self.counts.values()), self.path.name
        if claimed > count + self._undefined:
            self.notes.append(f"{name}: its statistics claim {claimed} messages, it holds {count}; copy it again")
        if self._undefined:
            self.notes.append(f"{name}: {self._undefined} messages are not read: their channels are not defined")
        if self._complete:
            return
        if not count:
            raise BagError(f"{name} ends before its first complete message")
        cut = self._size - self._data_end
        if self._damaged:
            if cut and not self._has_end:  # else the damage is noted already
                self.notes.append(
                    f"{name} is cut off or unfinished: its last {cut} bytes, from byte {self._data_end} on, hold no "
                    "complete record and are lost"
                )
            return
        self.notes.append(
            f"{name} is unfinished (its recorder was killed, or it was not copied completely): its {count} complete "
            f"messages are read{f', the last {cut} bytes are not' if cut else ''}; copy it again, or make a whole bag "
            f"of it with 'xmodelkd recover {self.path} OUT'"
        )

    # --- reading ------------------------------------------------------------------------------------------------------

    def entries(self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None) -> Iterator[Entry]:
        """Messages on some channels from ``start_ns`` until before ``stop_ns``, in the order of time.

        Raises:
            BagError: a chunk is damaged.
            OSError: the file cannot be read.
        """
        wanted = frozenset(channels)
        blocks = (b for b in self._blocks if not wanted.isdisjoint(b.channels) and b.overlaps(start_ns, stop_ns))
        sources = (Source(block.start_ns, partial(self._entries, block, wanted)) for block in blocks)
        for _, entry in merged(sources):
            if stop_ns is not None and entry.log_time_ns >= stop_ns:
                return
            if start_ns is None or entry.log_time_ns >= start_ns:
                yield entry

    def _entries(self, block: _Block, wanted: frozenset[Channel]) -> Iterator[Entry]:
        messages = [(log_time_ns, c, begin, end) for log_time_ns, c, begin, end in self._messages(block) if c in wanted]
        try:
            for log_time_ns, channel, begin, end in sorted(messages, key=lambda message: message[0]):
                assert channel is not None
                yield Entry(log_time_ns, channel, self._content(block)[begin:end])
        finally:
            self._cache.pop(block.begin, None)

    def _messages(self, block: _Block) -> Iterator[tuple[int, Channel | None, int, int]]:
        """Log time, channel, and place in the content of each message of a block; None if no channel is defined."""
        try:
            yield from self._parsed(block)
        except Exception as error:  # of the decompressors, struct or this package
            kind = "the chunk" if block.is_chunk else "a record"
            self._report(f"{kind} at byte {block.begin} is damaged: {one_line(error)}")

    def _parsed(self, block: _Block) -> Iterator[tuple[int, Channel | None, int, int]]:
        self._definitions_behind = definitions = block.definitions
        data = self._content(block)
        for opcode, begin, end in mcap.records(data):
            if opcode in (mcap.SCHEMA, mcap.CHANNEL):
                if block.definitions is self._final:  # by which the messages are counted
                    continue
                if definitions is block.definitions:
                    self._definitions_behind = definitions = definitions.copy()
                definitions.read(opcode, data[begin:end])
            elif opcode == mcap.MESSAGE:
                channel_id, _, log_time_ns, _ = mcap.MESSAGE_HEAD.unpack_from(data, begin)
                channel = definitions.channels.get(channel_id) or self._final.channels.get(channel_id)
                if end - begin < mcap.MESSAGE_HEAD.size:
                    raise BagError("a message has no head")
                yield log_time_ns, channel, begin + mcap.MESSAGE_HEAD.size, end

    def _content(self, block: _Block) -> bytes:
        """The records of a block; the last ones are kept, because chunks may overlap in time."""
        data = self._cache.get(block.begin)
        if data is None:
            data = self._bytes(block.begin, block.end)
            if block.is_chunk:
                data = mcap.chunk_content(data)
            while self._cache and sum(map(len, self._cache.values())) + len(data) > _CACHED_BYTES:
                self._cache.popitem(last=False)
            self._cache[block.begin] = data
        return data
