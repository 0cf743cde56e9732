"""Termination of a child process when its parent dies."""

from __future__ import annotations

import os
import threading
import time

_POLL_PERIOD_S = 1.0


def exit_when_parent_dies(parent: int) -> None:
    """Exit this process soon after its parent has died, even if the parent was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_PERIOD_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()
