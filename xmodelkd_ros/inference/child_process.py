"""End a child process together with its parent."""

from __future__ import annotations

import os
import threading
import time

_LOOK_PERIOD_S = 1.0


def exit_when_parent_dies(parent: int) -> None:
    """Have this process end soon after its parent, which may be killed and then says nothing.

    Args:
        parent: number of the parent's process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_PERIOD_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()
