"""Random values, and mutations of bytes, JSON and lists."""

from __future__ import annotations

import copy
import json
import math
import struct
from collections.abc import Callable, MutableSequence, Sequence
from random import Random
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

REALS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 1e-6, 255.0, 1e6, -1e6, 1e18, -1e18, 1e30, 3.4028234e38, -3.4028234e38, 1e308, -1e308),
    *(math.nan, math.inf, -math.inf, 1e-45, -1e-45, 1.1e-38, 5e-324, 2.2e-308, 2.0**31, 2.0**53, 2.0**64),
)
"""Zeros, ordinary numbers, extremes of float32 and float64, denormals, NaN and infinities."""

TEXTS = (
    *("", " ", "x", "/", ".", "..", "../x", "../../../../etc/passwd", "/etc/passwd", "~", "~nobody/x", "link", "a/b"),
    *("\n", "two\nlines", "tab\t", "nul\0", "\x1b[31m", "ä", "名", "😀", "nan", "NaN", "inf", "-1", "0", "1e999"),
    *("label", "intensity", "ring", "x", "rgb8", "mono8", "jpeg", "lidar", "drive13", "x" * 300, "é" * 5000),
)
"""Path traversal, multi-line text, control characters, numbers as text, meaningful names."""

DEEP, DIGITS = "#deep#", "#digits#"
_AS_TEXT = {DEEP: "[" * 100_000, DIGITS: "9" * 5_000}
"""Valid JSON that :mod:`json` does not write: lists nested 100,000 deep, and a number of 5,000 digits."""


class Mutator:
    """Generates and mutates values.

    Args:
        random: source of all decisions; hypothesis provides one that it can shrink.
    """

    def __init__(self, random: Random) -> None:
        self.random = random

    @classmethod
    def of(cls, target: str, seed: int, number: int) -> Mutator:
        """Mutator of an input, determined by target, seed and number."""
        return cls(Random(f"{target} {seed} {number}"))

    def chance(self, share: float) -> bool:
        """True with probability ``share``."""
        return self.random.random() < share

    def pick(self, values: Sequence[T]) -> T:
        """Random element."""
        return values[self.random.randrange(len(values))]

    def below(self, end: int) -> int:
        """Random integer in [0, end); 0 if that is empty."""
        return self.random.randrange(end) if end > 0 else 0

    def integer(self, bits: int, signed: bool = False) -> int:
        """Integer of a type: small, near a power of two, extreme, or uniform."""
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        kind = self.below(4)
        if kind == 0:
            value = self.below(20)
        elif kind == 1:
            value = (1 << self.below(bits + 1)) + self.below(3) - 1
        elif kind == 2:
            value = self.pick((low, high, high - 1, -1))
        else:
            value = low + self.random.getrandbits(bits)
        return min(max(value, low), high)

    def real(self) -> float:
        """Float: ordinary, an edge case, or of random bits."""
        kind = self.below(3)
        if kind == 0:
            return self.random.uniform(-100, 100)
        if kind == 1:
            return self.pick(REALS)
        return float(struct.unpack("<d", self.random.randbytes(8))[0])

    def text(self) -> str:
        """Text: an edge case or random bytes."""
        if self.chance(0.8):
            return self.pick(TEXTS)
        return self.random.randbytes(self.below(20)).decode("utf-8", "replace")

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        """(count,) values of random bits, or, for half of the float arrays, ordinary values and edge cases."""
        kind = np.dtype(dtype)
        if kind.kind == "f" and self.chance(0.5):
            with np.errstate(over="ignore"):
                return np.array([self.real() for _ in range(count)], np.float64).astype(kind)
        return np.frombuffer(self.random.randbytes(count * kind.itemsize), kind).copy()

    # --- mutations of bytes ------------------------------------------------------------------------------------------

    def mutate_bytes(self, data: bytes, max_mutations: int = 3) -> bytes:
        """Bytes with one to ``max_mutations`` mutations."""
        for _ in range(1 + self.below(max_mutations)):
            data = self.pick(_BYTE_MUTATIONS)(self, data)
        return data

    def _flip(self, data: bytes) -> bytes:
        mutated = bytearray(data)
        for _ in range(self.pick((1, 1, 2, 8)) if mutated else 0):
            mutated[self._location(len(mutated))] ^= 1 << self.below(8)
        return bytes(mutated)

    def _cut(self, data: bytes) -> bytes:
        return data[: self._location(len(data) + 1)]

    def _overwrite(self, data: bytes) -> bytes:
        """Overwrite a number, as in a header."""
        size = self.pick((1, 2, 4, 8))
        value = self.integer(8 * size).to_bytes(size, self.pick(("little", "big")))
        at = self._location(max(len(data) - size, 0) + 1)
        return data[:at] + value + data[at + size :]

    def _blank(self, data: bytes) -> bytes:
        start, end = self._stretch(data)
        return data[:start] + self.pick((b"\0", b"\xff")) * (end - start) + data[end:]

    def _remove(self, data: bytes) -> bytes:
        start, end = self._stretch(data)
        return data[:start] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._stretch(data)
        return data[:end] + data[start:]

    def _insert(self, data: bytes) -> bytes:
        at = self.below(len(data) + 1)
        return data[:at] + self.random.randbytes(1 + self.below(16)) + data[at:]

    def _location(self, length: int) -> int:
        """Random position, with a preference for headers and footers."""
        near = min(length, 64)
        return self.pick((self.below(length), self.below(length), self.below(near), length - near + self.below(near)))

    def _stretch(self, data: bytes) -> tuple[int, int]:
        start = self.below(len(data) + 1)
        return start, min(start + 1 + self.below(self.pick((4, 64, 4096))), len(data))

    # --- mutations of JSON -------------------------------------------------------------------------------------------

    def json_value(self, depth: int = 0) -> Any:
        """Random JSON value, including NaN and infinity, which Python's parser accepts."""
        kind = self.below(9 if depth < 3 else 7)
        if kind < 2:
            return self.pick((None, True, False, DEEP, DIGITS))
        if kind < 4:
            return self.real()
        if kind < 5:
            return self.integer(self.pick((8, 32, 64, 2000)), signed=True)
        if kind < 7:
            return self.text()
        values = [self.json_value(depth + 1) for _ in range(self.below(4))]
        return values if kind == 7 else {self.text(): value for value in values}

    def mutate_json(self, value: Any, max_mutations: int = 2) -> Any:
        """Copy of a JSON value with one to ``max_mutations`` mutations."""
        holder = [copy.deepcopy(value)]
        for _ in range(1 + self.below(max_mutations)):
            self._mutate_node(holder)
        return holder[0]

    def _mutate_node(self, holder: Any) -> None:
        """Descend to a random node of a container and mutate it."""
        at: Any = 0
        while self._is_container(holder[at]) and self.chance(0.8):
            holder = holder[at]
            at = self.pick(list(holder) if isinstance(holder, dict) else range(len(holder)))
        kind = self.below(6)
        if kind == 0 and isinstance(holder, dict):
            holder[self.text()] = holder.pop(at)
        elif kind == 1 and (isinstance(holder, dict) or len(holder) > 1):
            del holder[at]
        elif kind == 2 and isinstance(holder, list):
            holder.insert(at, copy.deepcopy(holder[at]))
        elif kind == 3 and isinstance(holder[at], (int, float)):
            value = holder[at]
            holder[at] = self.pick((-value, value + 1, 1000 * value, value / 3 if abs(value) < 1e9 else None, [value]))
        else:
            holder[at] = self.json_value()

    @staticmethod
    def _is_container(value: Any) -> bool:
        return isinstance(value, (dict, list)) and len(value) > 0

    def json_text(self, value: Any) -> bytes:
        """JSON text of a value, with byte mutations in one of eight cases."""
        text = json.dumps(value)
        for mark, meant in _AS_TEXT.items():
            text = text.replace(f'"{mark}"', meant)
        data = text.encode()
        return self.mutate_bytes(data) if self.chance(0.125) else data

    # --- mutations of lists ------------------------------------------------------------------------------------------

    def mutate_list(self, values: MutableSequence[T], new: Callable[[], T], fault_of: Callable[[T], T]) -> None:
        """Mutate a list in place: insert, delete, duplicate or mutate an entry."""
        at, kind = self.below(len(values)), self.below(5)
        if not values or kind == 0:
            values.insert(at, new())
        elif kind == 1:
            del values[at]
        elif kind == 2:
            values.insert(at, copy.deepcopy(values[at]))
        else:
            values[at] = fault_of(values[at])


_BYTE_MUTATIONS = (
    *(Mutator._flip, Mutator._flip, Mutator._cut, Mutator._overwrite, Mutator._overwrite),
    *(Mutator._blank, Mutator._remove, Mutator._repeat, Mutator._insert),
)
