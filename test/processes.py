"""Processes by id, from /proc."""

import contextlib
import os
import signal
import time
from pathlib import Path

ENDED_WITHIN_S = 3.0
"""How soon children must be gone after their parent has died."""


def state_and_parent(pid):
    """State and parent of a process; none of one that has exited."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:2]
    except OSError:
        return "", 0
    return state, int(parent)


def works(pid):
    """Whether a process exists and is not a zombie."""
    return state_and_parent(pid)[0] not in ("", "Z")


def children_of(parent):
    """Ids of a process's children."""
    numbers = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in numbers if state_and_parent(pid)[1] == parent]


def left_after(pids, seconds=ENDED_WITHIN_S):
    """Those processes that still run after some seconds; they are killed, so that a failed test leaves none."""
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if works(pid)]) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left
