"""What Fast DDS leaves in shared memory when a process is killed: 34 MB of each with the shipped profile."""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path

_FOLDER = Path("/dev/shm")
_LOCK = re.compile(r"(fastdds|fastrtps)_[0-9a-f]{16}_el")
"""Name of the file that a process holds locked as long as it lives, beside its segment."""
_YOUNG_S = 5.0
"""A lock file is made a moment before it is locked."""


def remove_stale_segments(folder: Path = _FOLDER) -> None:
    """Remove the segments of processes that are no more, as Fast DDS's own ``fastdds shm clean`` does.

    Without it each restart after a crash takes memory that only a reboot gives back.

    Args:
        folder: where the segments are; it need not be there.
    """
    with suppress(OSError):
        for lock in [Path(entry.path) for entry in os.scandir(folder) if _LOCK.fullmatch(entry.name)]:
            with suppress(OSError):
                if _is_left(lock):
                    lock.with_name(lock.name.removesuffix("_el")).unlink(missing_ok=True)
                    lock.unlink()


def _is_left(lock: Path) -> bool:
    if time.time() - lock.stat().st_mtime <= _YOUNG_S:
        return False  # not even tried: a process that finds its own new lock taken has no shared memory
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
