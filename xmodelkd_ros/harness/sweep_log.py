"""Log of sent or received messages as JSON lines, timed by the monotonic clock that all processes share."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.usable_points import MIN_RANGE_M, UsableMask, usable_mask
from xmodelkd_ros.messages.clouds import is_labelled_cloud
from xmodelkd_ros.messages.headers import stamp_ns

Key = tuple[int, int]
"""Identifies a sweep on both sides of DDS: stamp in nanoseconds, number of points."""


class SweepLog:
    """Context manager that writes one JSON object per line, unbuffered for readers; without a path nothing.

    Args:
        path: the file.
        usable: mask of the points that must have labels in labelled clouds; None to accept any.

    Raises:
        ConfigError: on entering and on writing, if the file cannot be written.
    """

    def __init__(self, path: Path | None, usable: UsableMask | None = None) -> None:
        self._path, self._usable = path, usable
        self._file: Any = None

    def __enter__(self) -> SweepLog:
        if self._path is not None:
            with self._writing():
                self._file = self._path.open("w", encoding="utf-8", buffering=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            with suppress(OSError):  # failed writes were reported when they happened
                self._file.close()

    @property
    def enabled(self) -> bool:
        """Whether the log has a file."""
        return self._path is not None

    def event(self, name: str, **details: object) -> None:
        """Write ``{"event": name}`` with further fields."""
        self._write({"event": name, **details})

    def message(self, topic: str, msg: Any, monotonic_ns: int) -> None:
        """Write topic, header stamp, number of points and time of a message; null for fields its type lacks.

        A labelled cloud whose usable points have no labels is marked.
        """
        header = getattr(msg, "header", None)
        stamp = stamp_ns(header.stamp) if header is not None else None
        if not hasattr(msg, "point_step"):
            self.row(topic, stamp, None, monotonic_ns)
            return
        lacks_labels = self._usable is not None and is_labelled_cloud(msg, self._usable) is False
        self.row(topic, stamp, msg.height * msg.width, monotonic_ns, not lacks_labels)

    def row(
        self, topic: str, stamp: int | None, points: int | None, monotonic_ns: int, is_labelled: bool = True
    ) -> None:
        """Write the same from values."""
        row = {"topic": topic, "stamp_ns": stamp, "points": points, "monotonic_ns": monotonic_ns}
        self._write(row if is_labelled else {**row, "labelled": False})

    def _write(self, row: dict[str, Any]) -> None:
        if self._file is not None:
            with self._writing():
                self._file.write(json.dumps(row) + "\n")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(f"cannot write log {self._path}: {error.strerror}") from error


def add_usable_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say which points must have labels, for :func:`usable_points`."""
    parser.add_argument("--min-range", type=float, default=MIN_RANGE_M, help="minimum range of the model, metres")
    parser.add_argument("--ego-box", type=float, nargs=6, default=(), help="the vehicle: minimum and maximum x y z")


def usable_points(options: argparse.Namespace) -> UsableMask:
    """The mask of the points that must have labels."""
    return partial(usable_mask, min_range_m=options.min_range, ego_box=options.ego_box)


def message_class(msgtype: str) -> Any:
    """Python class of a message type such as ``sensor_msgs/msg/PointCloud2``; None if its package is not installed."""
    package, _, name = msgtype.partition("/msg/")
    if not (package.isidentifier() and name.isidentifier()):  # from a bag: must not import anything else
        return None
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


class SweepLogReader:
    """Reads a :class:`SweepLog`, which may not exist yet, while another process writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        self._events: set[str] = set()
        self._clouds: dict[str, dict[Key, int]] = {}
        self._arrivals: dict[str, list[tuple[Key, int]]] = {}
        self._faults: dict[tuple[str, str], int] = {}

    def has_event(self, name: str) -> bool:
        """Whether an event was logged."""
        self._read_new()
        return name in self._events

    def fault_windows(self) -> dict[str, tuple[int, int]]:
        """Start and end of each finished fault, monotonic nanoseconds."""
        self._read_new()
        return {
            fault: (self._faults["begin", fault], end) for (event, fault), end in self._faults.items() if event == "end"
        }

    def clouds(self, topic: str) -> dict[Key, int]:
        """Monotonic time of each cloud on a topic, by stamp and number of points; the last one of duplicates.

        Labelled clouds without labels do not count.
        """
        self._read_new()
        return self._clouds.get(topic, {})

    def arrivals(self, topic: str) -> list[tuple[Key, int]]:
        """Key and monotonic time of all clouds on a topic that count, in the order of the log."""
        self._read_new()
        return self._arrivals.get(topic, [])

    def _read_new(self) -> None:
        """Parse new complete lines."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._position)
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._position += len(complete)
        for entry in map(json.loads, complete.splitlines()):
            if "event" in entry:
                self._events.add(entry["event"])
                if "fault" in entry:
                    self._faults[entry["event"], entry["fault"]] = entry["monotonic_ns"]
            elif entry["points"] is not None and entry.get("labelled", True):
                key = entry["stamp_ns"], entry["points"]
                self._clouds.setdefault(entry["topic"], {})[key] = entry["monotonic_ns"]
                self._arrivals.setdefault(entry["topic"], []).append((key, entry["monotonic_ns"]))
