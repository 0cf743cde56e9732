"""The processor that networks run on, and the processes that share it."""

from __future__ import annotations

import os
import platform
import threading
import time
from pathlib import Path

_LOOK_PERIOD_S = 1.0


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name, or its kind where it has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def end_with(parent: int) -> None:
    """Have this process end soon after its parent, which may be killed and then says nothing.

    Args:
        parent: number of the parent's process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_PERIOD_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()
