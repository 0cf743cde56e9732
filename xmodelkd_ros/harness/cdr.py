"""Messages as the bytes that DDS carries (CDR, little endian): those that begin with a header, and their stamp."""

from __future__ import annotations

import struct

_STAMP = struct.Struct("<iI")
_STAMP_AT = 4
"""Bytes before the stamp: CDR's own."""
_AFTER_STAMP = _STAMP_AT + _STAMP.size
_WORD = struct.Struct("<I")
_S = 1_000_000_000


def serialized_stamp_ns(data: bytes) -> int:
    """The stamp, in nanoseconds."""
    seconds, nanoseconds = _STAMP.unpack_from(data, _STAMP_AT)
    return int(seconds) * _S + int(nanoseconds)


def stamped(data: bytes, stamp_ns: int) -> bytes:
    """The message with another stamp."""
    return data[:_STAMP_AT] + _STAMP.pack(*divmod(stamp_ns, _S)) + data[_AFTER_STAMP:]


def serialized_points(data: bytes) -> int:
    """The number of points of a PointCloud2: height and width follow the header's ``frame_id``, aligned to four."""
    after_frame = _AFTER_STAMP + _WORD.size + _WORD.unpack_from(data, _AFTER_STAMP)[0]
    height_at = after_frame + -after_frame % _WORD.size
    return int(_WORD.unpack_from(data, height_at)[0] * _WORD.unpack_from(data, height_at + _WORD.size)[0])
