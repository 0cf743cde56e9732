"""How every command of the training side ends."""

from __future__ import annotations

import sys
from collections.abc import Callable

from xmodelkd_ros.core.atomic_write import writing
from xmodelkd_ros.core.errors import XModelKDError

_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run_command(work: Callable[[], str]) -> int:
    """Do the work of a command and print what it says; an error is one line on stderr.

    Returns:
        The exit code, 0 on success only.
    """
    try:
        with writing():
            print(work())
    except XModelKDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    return 0
