"""What a block of code costs: time of the processor, and memory at its peak."""

from __future__ import annotations

import gc
import os
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

_PEAK_RESIDENT = b"5"
"""What, written to ``clear_refs``, makes the peak of the resident memory start anew (Linux, proc(5))."""


@dataclass
class Cost:
    """What something took.

    Attributes:
        milliseconds: of all threads of this process.
        peak: bytes more than before, at the worst moment: what Python and numpy asked for, touched or not, or what all
            libraries together made resident, whichever is more.
    """

    milliseconds: float = 0.0
    peak: int = 0


@contextmanager
def measured() -> Iterator[Cost]:
    """The cost of a block, known when it is left."""
    cost = Cost()
    resident = _restart_peak()
    tracemalloc.reset_peak()
    traced = tracemalloc.get_traced_memory()[0]  # 0 if nothing is traced
    start = time.process_time()
    try:
        yield cost
    finally:
        cost.milliseconds = (time.process_time() - start) * 1e3
        asked = tracemalloc.get_traced_memory()[1] - traced
        cost.peak = max(asked, _status_bytes("VmHWM") - resident, 0)


@contextmanager
def tracing() -> Iterator[None]:
    """Note what Python and numpy ask for; without, only resident memory counts."""
    gc.freeze()  # what is there now stays, and need not be looked through again and again
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def _restart_peak() -> int:
    """Bytes that are resident now; the peak starts from here."""
    os.write(_opened("clear_refs", os.O_WRONLY), _PEAK_RESIDENT)
    return _status_bytes("VmRSS")


def address_space() -> int:
    """Bytes of this process's address space."""
    return _status_bytes("VmSize")


def _status_bytes(name: str) -> int:
    text = os.pread(_opened("status", os.O_RDONLY), 8192, 0)
    start = text.index(name.encode()) + len(name) + 1
    return int(text[start : text.index(b"kB", start)]) * 1024


@cache
def _opened(name: str, flags: int) -> int:
    """A file of the kernel about this process, open as long as it lives: opening would take longer than the rest."""
    return os.open(f"/proc/self/{name}", flags)
