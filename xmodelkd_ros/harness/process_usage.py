"""Memory, file descriptors and threads of a process, from ``/proc`` (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ProcessUsage:
    """Resources of a process at one moment.

    Attributes:
        memory_mb: resident memory, 10^6 bytes.
        handles: open file descriptors.
        threads: number of threads.
    """

    memory_mb: float
    handles: int
    threads: int


def process_usage(pid: int) -> ProcessUsage | None:
    """Current resources of a process; None if it has ended."""
    folder = Path("/proc") / str(pid)
    try:
        pages = int((folder / "statm").read_text().split()[1])
        return ProcessUsage(pages * _PAGE / 1e6, len(os.listdir(folder / "fd")), len(os.listdir(folder / "task")))
    except (OSError, IndexError):  # ended meanwhile
        return None
