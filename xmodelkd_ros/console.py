"""Shared by all commands: progress bars, notes, one-line errors with exit codes, numeric arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from xmodelkd_ros.core.atomic_write import disk_errors
from xmodelkd_ros.core.errors import XModelKDError

N = TypeVar("N", int, float)

_INTERRUPTED = 130
"""Exit code after Ctrl-C, by the convention of shells."""


def progress(steps: Any, total: int, title: str) -> Any:
    """A progress bar over sweeps on stderr; none if stderr is not a terminal."""
    from tqdm import tqdm  # not installed on vehicles, where the node imports this module

    return tqdm(steps, title, total, unit=" sweeps", file=sys.stderr, disable=None, leave=False)


def print_notes(notes: Iterable[str]) -> None:
    """Print notes for the user on stderr, each once."""
    for note in dict.fromkeys(notes):
        print(f"note: {note}", file=sys.stderr)


def positive_float(text: str) -> float:
    """Parse a finite number above zero (an argparse type)."""
    value = _number(float, text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def non_negative_float(text: str) -> float:
    """Parse a finite number, zero or above (an argparse type)."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def positive_int(text: str) -> int:
    """Parse an integer above zero (an argparse type)."""
    value = _number(int, text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return value


def _number(parse: Callable[[str], N], text: str) -> N:
    """Parse a number; zero, which is not positive, for any other text."""
    try:
        return parse(text)
    except ValueError:
        return parse("0")


def exit_code(work: Callable[[], int]) -> int:
    """Run a program's work; an error that this package raises on purpose becomes one line on stderr.

    Returns:
        What ``work`` returns, 1 after such an error, 130 after Ctrl-C.
    """
    try:
        with disk_errors():
            return work()
    except XModelKDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED


def run_command(work: Callable[[], str]) -> int:
    """Run a command and print the text that it returns; exit codes as in :func:`exit_code`, 0 on success."""

    def print_result() -> int:
        print(work())
        return 0

    return exit_code(print_result)
