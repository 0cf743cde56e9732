"""Header stamp of serialized messages (CDR, little endian), without deserializing them."""

from __future__ import annotations

import struct

_STAMP = struct.Struct("<iI")
_STAMP_AT = 4
"""Offset of the stamp: the CDR encapsulation header."""
_AFTER_STAMP = _STAMP_AT + _STAMP.size
_S = 1_000_000_000


def serialized_stamp_ns(data: bytes) -> int:
    """Header stamp of a message that begins with a header, in nanoseconds."""
    seconds, nanoseconds = _STAMP.unpack_from(data, _STAMP_AT)
    return int(seconds) * _S + int(nanoseconds)


def with_stamp(data: bytes, stamp_ns: int) -> bytes:
    """Copy of a message that begins with a header, with another stamp."""
    return data[:_STAMP_AT] + _STAMP.pack(*divmod(stamp_ns, _S)) + data[_AFTER_STAMP:]
