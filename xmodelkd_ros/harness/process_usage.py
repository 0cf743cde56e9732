"""What a process takes of the machine, from the kernel (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ProcessUsage:
    """What a process holds at a moment.

    Attributes:
        memory_mb: resident memory, 10^6 bytes.
        handles: open files and sockets.
        threads: their number.
    """

    memory_mb: float
    handles: int
    threads: int


def process_usage(pid: int) -> ProcessUsage | None:
    """What a process holds now; None if it is gone."""
    folder = Path("/proc") / str(pid)
    try:
        pages = int((folder / "statm").read_text().split()[1])
        return ProcessUsage(pages * _PAGE / 1e6, len(os.listdir(folder / "fd")), len(os.listdir(folder / "task")))
    except (OSError, IndexError):  # it ends while it is looked at
        return None
