"""CPU time and peak memory of a block of code."""

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
"""Value for ``clear_refs`` that resets the peak resident memory (Linux, proc(5))."""


@dataclass
class Cost:
    """CPU time and peak memory.

    Attributes:
        milliseconds: CPU time of all threads of this process.
        peak: bytes above the initial memory at the peak: the larger of allocations by Python and numpy, whether touched
            or not, and growth of resident memory.
    """

    milliseconds: float = 0.0
    peak: int = 0


@contextmanager
def measure_cost() -> Iterator[Cost]:
    """Measure the cost of a block; the result is set on exit."""
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
def trace_allocations() -> Iterator[None]:
    """Trace allocations of Python and numpy; otherwise only resident memory counts."""
    gc.freeze()  # existing objects persist; exclude them from collections
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def _restart_peak() -> int:
    """Reset the peak; returns the resident bytes."""
    os.write(_opened("clear_refs", os.O_WRONLY), _PEAK_RESIDENT)
    return _status_bytes("VmRSS")


def address_space() -> int:
    """Size of this process's address space, bytes."""
    return _status_bytes("VmSize")


def _status_bytes(name: str) -> int:
    text = os.pread(_opened("status", os.O_RDONLY), 8192, 0)
    start = text.index(name.encode()) + len(name) + 1
    return int(text[start : text.index(b"kB", start)]) * 1024


@cache
def _opened(name: str, flags: int) -> int:
    """File descriptor of a ``/proc/self`` file, kept open because opening takes longer than the measurement."""
    return os.open(f"/proc/self/{name}", flags)
