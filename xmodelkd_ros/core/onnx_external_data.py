"""Detection of external weight files in ONNX networks, without the ``onnx`` package, which vehicles lack.

ONNX files are protocol buffers (https://protobuf.dev/programming-guides/encoding); the field numbers are from
onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

_PARTS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
"""Per message kind: number and kind of the fields that may contain a tensor."""
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""Field numbers of a tensor stored in another file."""
_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)


def has_external_data(network: bytes) -> bool:
    """Whether an ONNX file refers to weights in other files. False for data that is not ONNX."""
    pending = [("model", memoryview(network))]
    try:
        while pending:
            kind, message = pending.pop()
            for number, value in _fields(message):
                if kind == "tensor":
                    if number in (_EXTERNAL_DATA, _DATA_LOCATION) and value:
                        return True
                elif number in _PARTS[kind] and isinstance(value, memoryview):
                    pending.append((_PARTS[kind][number], value))
    except (IndexError, ValueError):
        return False
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value (bytes or integer) of each field, without fixed-width fields and groups, which ONNX lacks."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, value
        elif wire == _BYTES:
            size, position = _varint(message, position)
            if position + size > len(message):
                raise ValueError("a field extends beyond its message")
            yield number, message[position : position + size]
            position += size
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        elif wire not in (_GROUP, _END_GROUP):
            raise ValueError("not a protocol buffer")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Decode a varint (seven bits per byte, lowest first); returns the value and the end position."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
