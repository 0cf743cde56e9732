"""Records of MCAP files: schemas, channels, statistics, and the content of chunks (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import lz4.frame
import numpy as np

from xmodelkd_ros.bags.storage import Channel, is_latched, ros_type, zstd
from xmodelkd_ros.core.errors import BagError, quoted

MAGIC = b"\x89MCAP0\r\n"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, STATISTICS, DATA_END = 2, 3, 4, 5, 6, 7, 11, 15
"""Opcodes."""
HEAD = struct.Struct("<BQ")
"""Head of a record: opcode and length of the content."""
MESSAGE_HEAD = struct.Struct("<HIqQ")
"""Head of a message: channel id, sequence number, log time, publish time. rosbag2's times are signed."""

TIMES = struct.Struct("<qq")
"""Begin of a chunk: earliest and latest log time."""

_SIZE_AND_CRC = struct.Struct("<QI")
"""Uncompressed size and CRC of a chunk, after the times."""
CHUNK_CRC_AT = TIMES.size + 8
"""Offset of the CRC in a chunk's content."""
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_INDEX_ENTRY = np.dtype([("log_time", "<i8"), ("offset", "<u8")])
_COUNT = np.dtype([("channel_id", "<u2"), ("count", "<u8")])
_DEFINITION_FORMATS = {"ros2msg": "ros2msg", "ros2idl": "ros2idl", "omgidl": "ros2idl"}


class Record(NamedTuple):
    """Place of a record's content in a block of bytes: opcode, first byte, byte after the last one."""

    opcode: int
    begin: int
    end: int


def records(data: bytes) -> Iterator[Record]:
    """The records of a block of bytes.

    Raises:
        BagError: a record is longer than the rest of the block.
    """
    at = 0
    while at + HEAD.size <= len(data):
        opcode, length = HEAD.unpack_from(data, at)
        begin, at = at + HEAD.size, at + HEAD.size + length
        if at > len(data):
            raise BagError(f"a record claims {length} bytes, more than its chunk holds")
        yield Record(opcode, begin, at)


class _Fields:
    """Reads the fields of a record's content one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, kind: struct.Struct) -> int:
        (value,) = kind.unpack_from(self._data, self._at)
        self._at += kind.size
        return int(value)

    def bytes(self, length: int) -> bytes:
        begin, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise BagError(f"a field of a record claims {length} bytes, more than the record holds")
        return self._data[begin : self._at]

    def text(self) -> str:
        return self.bytes(self.number(_U32)).decode(errors="replace")

    def texts(self) -> dict[str, str]:
        end = self.number(_U32) + self._at
        pairs = {}
        while self._at < end:
            key = self.text()
            pairs[key] = self.text()
        return pairs


class _Schema(NamedTuple):
    name: str
    encoding: str
    text: str


@dataclass
class Definitions:
    """Schemas and channels by id, as valid at one place of a file: ids may be reused for others later.

    Attributes:
        channels: channels by id.
        is_sound: whether each id stands for one channel, and all schemas are there.
    """

    channels: dict[int, Channel] = field(default_factory=dict)
    is_sound: bool = True
    _schemas: dict[int, _Schema] = field(default_factory=dict)

    def copy(self) -> Definitions:
        """An independent copy."""
        return Definitions(dict(self.channels), self.is_sound, dict(self._schemas))

    def read(self, opcode: int, content: bytes) -> None:
        """Add the schema or channel of a record.

        Raises:
            BagError, struct.error: the record is damaged.
        """
        fields = _Fields(content)
        number = fields.number(_U16)
        if opcode == SCHEMA:
            self._schemas[number] = _Schema(fields.text(), fields.text(), fields.text())
            return
        schema_id = fields.number(_U16)
        schema = self._schemas.get(schema_id, _Schema("", "", ""))
        topic, encoding = fields.text(), fields.text()
        latched = is_latched(topic, fields.texts().get("offered_qos_profiles"))
        definition_format = _DEFINITION_FORMATS.get(schema.encoding, "")
        text = schema.text if definition_format else ""
        channel = Channel(topic, ros_type(schema.name), encoding, definition_format, text, latched)
        self.is_sound &= self.channels.get(number, channel) == channel and schema_id in (0, *self._schemas)
        self.channels[number] = channel


def statistics(content: bytes) -> dict[int, int]:
    """Number of messages by channel id, as a statistics record claims.

    Raises:
        BagError, ValueError, struct.error: the record is damaged, or contradicts itself.
    """
    fields = _Fields(content)
    total = fields.number(_U64)
    fields.bytes(2 + 4 * 4 + 2 * 8)  # numbers of schemas, channels, attachments, metadata, chunks; start, end
    counts = np.frombuffer(fields.bytes(fields.number(_U32)), _COUNT)
    if counts["count"].sum() != total:
        raise BagError(f"statistics claim {total} messages, but {counts['count'].sum()} on the channels")
    return {int(row["channel_id"]): int(row["count"]) for row in counts if row["count"]}


def is_sound_summary(summary: bytes, footer: bytes) -> bool:
    """Whether a summary has the CRC that the footer record behind it claims; True if it claims none."""
    covered = HEAD.size + 2 * _U64.size
    (crc,) = _U32.unpack_from(footer, covered)
    return crc in (0, zlib.crc32(footer[:covered], zlib.crc32(summary)))


class IndexedTimes(NamedTuple):
    """Messages of a channel in a chunk: channel id, number, earliest and latest log time."""

    channel_id: int
    messages: int
    start_ns: int
    end_ns: int


def message_index(content: bytes) -> IndexedTimes | None:
    """The times in a message index record; None if it is empty.

    Raises:
        BagError, ValueError, struct.error: the record is damaged.
    """
    fields = _Fields(content)
    channel_id = fields.number(_U16)
    entries = np.frombuffer(fields.bytes(fields.number(_U32)), _INDEX_ENTRY)
    if not len(entries):
        return None
    times = entries["log_time"]
    return IndexedTimes(channel_id, len(entries), int(times.min()), int(times.max()))


def chunk_content(content: bytes) -> bytes:
    """The records in a chunk, decompressed.

    Raises:
        BagError: the CRC is wrong, or the compression is unknown.
        Exception: the compressed data is damaged.
    """
    size, crc = _SIZE_AND_CRC.unpack_from(content, TIMES.size)
    fields = _Fields(content)
    fields.bytes(TIMES.size + _SIZE_AND_CRC.size)
    compression = fields.text()
    data = fields.bytes(fields.number(_U64))
    if compression == "zstd":
        data = zstd.decompress(data)
    elif compression == "lz4":
        data = lz4.frame.decompress(data)
    elif compression not in ("", "none"):
        raise BagError(f"the compression {quoted(compression)} is unknown; rewrite the file with zstd or lz4")
    if len(data) < size:
        raise BagError(f"it claims {size} bytes and holds {len(data)}")
    if crc and zlib.crc32(data) != crc:
        raise BagError("its checksum (CRC) is wrong")
    return data
