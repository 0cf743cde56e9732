"""Cleanup of Fast DDS shared memory of killed processes: 34 MB each with the shipped profile."""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path

_FOLDER = Path("/dev/shm")
_LOCK = re.compile(r"(fastdds|fastrtps)_[0-9a-f]{16}_el")
"""Name of a lock file, which a process holds locked while it runs, beside its segment."""
_MIN_AGE_S = 5.0
"""Minimum age of a lock file: it is created a moment before it is locked."""


def remove_stale_segments(folder: Path = _FOLDER) -> None:
    """Remove the segments of dead processes, like Fast DDS's own ``fastdds shm clean``.

    Otherwise every restart after a crash leaks memory until the next reboot.
    """
    with suppress(OSError):
        for lock in [Path(entry.path) for entry in os.scandir(folder) if _LOCK.fullmatch(entry.name)]:
            with suppress(OSError):
                if _is_stale(lock):
                    lock.with_name(lock.name.removesuffix("_el")).unlink(missing_ok=True)
                    lock.unlink()


def _is_stale(lock: Path) -> bool:
    if time.time() - lock.stat().st_mtime <= _MIN_AGE_S:
        return False  # not even a trial lock: a process that finds its new lock taken runs without shared memory
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
