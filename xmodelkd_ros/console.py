"""How commands talk and end: progress, notes, one-line errors, exit codes, numbers as arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tqdm import tqdm

from xmodelkd_ros.core.atomic_write import disk_errors
from xmodelkd_ros.core.errors import XModelKDError

_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def progress(steps: Any, total: int, what: str) -> Any:
    """A progress bar on stderr; none where that is not a terminal."""
    return tqdm(steps, what, total, unit=" sweeps", file=sys.stderr, disable=None, leave=False)


def print_notes(notes: Iterable[str]) -> None:
    """Notes for the user on stderr, each once."""
    for note in dict.fromkeys(notes):
        print(f"note: {note}", file=sys.stderr)


def positive(text: str) -> float:
    """A number above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def count(text: str) -> int:
    """A whole number above zero."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def run_command(work: Callable[[], str]) -> int:
    """Do the work of a command and print what it says; an error is one line on stderr.

    Returns:
        The exit code, 0 on success only.
    """
    try:
        with disk_errors():
            print(work())
    except XModelKDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    return 0
