"""Shared by all commands: progress bars, notes, one-line errors with exit codes, numeric arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any, TypeVar

from xmodelkd_ros.core.atomic_write import disk_errors
from xmodelkd_ros.core.errors import XModelKDError, one_line

N = TypeVar("N", int, float)

_INTERRUPTED = 130
"""Exit code after Ctrl-C, by the convention of shells."""


_OWN = ("xmodelkd_ros", "training", "test", "__main__")
_ROS = ("rclpy", "ament_index_python", "lifecycle_msgs", "rcl_interfaces")
"""Packages of ROS, besides those of messages."""
_DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "rclpy": "ros-kilted-rclpy ros-kilted-rmw-fastrtps-cpp",
    "rosbags": "rosbags~=0.11.0",
    "rosbags.image": "rosbags-image",
    "yaml": "PyYAML",
}
"""Names of distributions that differ from those of their modules, and versions that the package needs."""


_printed: set[str] | None = None
"""Notes that the running command has printed; None outside of a command."""


def progress(steps: Any, total: int, title: str) -> Any:
    """A progress bar over sweeps on stderr; none if stderr is not a terminal."""
    from tqdm import tqdm  # not installed on vehicles, where the node imports this module

    return tqdm(steps, title, total, unit=" sweeps", file=sys.stderr, disable=None, leave=False)


def print_notes(notes: Iterable[str]) -> None:
    """Print notes for the user on stderr, each once in a command."""
    for note in dict.fromkeys(notes):
        if _printed is None or note not in _printed:
            print(f"note: {note}", file=sys.stderr)
        if _printed is not None:
            _printed.add(note)


@contextmanager
def _each_note_once() -> Iterator[None]:
    """Print no note twice, such as those on a bag that is opened for several purposes."""
    global _printed
    outer, _printed = _printed, set()
    try:
        yield
    finally:
        _printed = outer


def print_warnings(warnings: Iterable[str]) -> None:
    """Print warnings about the input on stderr."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


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


def probability(text: str) -> float:
    """Parse a number from 0 to 1 (an argparse type)."""
    value = _number(float, text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
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

    So does a library that is not installed or cannot be imported.

    Returns:
        What ``work`` returns, 1 after such an error, 130 after Ctrl-C.
    """
    try:
        with disk_errors(), _each_note_once():
            return work()
    except XModelKDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        library = failed_import(error)
        if library is None:
            raise
        print(f"error: {library} {import_advice(library, error)}", file=sys.stderr)
        return 1


def failed_import(error: BaseException) -> str | None:
    """Module of another project whose import raised the error; None if no import did.

    A damaged installation may raise anything while its modules are executed.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>"]
    executed = [str(frame.f_globals.get("__name__", "")) for frame in frames]
    named = [error.name] if isinstance(error, ImportError) and error.name else []
    return next((name for name in (*executed, *named) if name and name.split(".")[0] not in _OWN), None)


def import_advice(module: str, error: BaseException | None = None) -> str:
    """What is wrong with a library that failed to import, and the command that mends it.

    Args:
        module: name of the module.
        error: what the import raised; None if it is not installed.
    """
    top = module.split(".")[0]
    name = module if module in _DISTRIBUTIONS else top
    of_ros = top in _ROS or top.endswith("_msgs")
    distribution = _DISTRIBUTIONS.get(name, f"ros-kilted-{top.replace('_', '-')}" if of_ros else name)
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    if absent and absent.split(".")[0] != top:
        return f"needs {absent}, which {import_advice(absent)}"
    if error is None or absent in (name, top):
        source = "source /opt/ros/$ROS_DISTRO/setup.bash' or '" if of_ros else ""
        return f"is not installed; run '{source}pip install {distribution}'"
    why = f"{type(error).__name__}: {one_line(error)}" if isinstance(error, Exception) else repr(error)
    if of_ros:
        version = ".".join(map(str, sys.version_info[:2]))
        return f"cannot be imported ({why}); the ROS installation may be for another Python than {version}"
    return f"cannot be imported ({why}); run 'pip install --force-reinstall {distribution}'"


def run_command(work: Callable[[], str]) -> int:
    """Run a command and print the text that it returns; exit codes as in :func:`exit_code`, 0 on success."""

    def print_result() -> int:
        print(work())
        return 0

    return exit_code(print_result)
