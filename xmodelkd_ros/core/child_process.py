"""Termination of a child process when its parent dies, in whatever way."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PARENT = "XMODELKD_PARENT_PID"
_POLL_PERIOD_S = 0.2
_GRACE_S = 3.0
_PR_SET_PDEATHSIG = 1


def parent_variable() -> dict[str, str]:
    """Environment variable that makes a child process call :func:`stop_with_parent` for this process."""
    return {_PARENT: str(os.getpid())}


def stop_with_parent() -> None:
    """Stop this process when the parent that asked for it by :func:`parent_variable` dies; without one, do nothing.

    The process receives SIGINT, so that it ends in order, also if it is suspended; after 3 s it exits all the same.
    """
    parent = os.environ.pop(_PARENT, "")  # not for the children of this process
    if parent.isdecimal():
        _watch(int(parent), graceful=True)


def exit_when_parent_dies(parent: int) -> None:
    """Exit this process soon after its parent has died, even if the parent was killed."""
    _watch(parent, graceful=False)


def _watch(parent: int, graceful: bool) -> None:
    """Watch the parent's process id: the signal that Linux sends is bound to the thread that started this process."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_PERIOD_S)
        if graceful:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(_GRACE_S)
        os._exit(1)

    _resume_when_parent_dies()
    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _resume_when_parent_dies() -> None:
    """Let Linux send SIGCONT at the parent's death, since the watching thread of a suspended process does not run."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)
