"""JSON lines about messages: which sweep was sent or received when, by the clock that all processes share."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.messages.headers import stamp_ns

Key = tuple[int, int]
"""A sweep on both sides of DDS: stamp in nanoseconds, number of points."""


class SweepLog:
    """Writes one JSON object per line, each at once, so that other processes can follow. Use it as a context manager.

    Args:
        path: the file, overwritten; None to write nothing.

    Raises:
        ConfigError: on entering, and on writing, if the file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
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
            with suppress(OSError):  # lines that could not be written, which was said then
                self._file.close()

    @property
    def enabled(self) -> bool:
        """Whether there is a file to write to."""
        return self._path is not None

    def event(self, name: str, **more: object) -> None:
        """Write ``{"event": name}``, and what more there is to say of it."""
        self._write({"event": name, **more})

    def message(self, topic: str, msg: Any, monotonic_ns: int) -> None:
        """Write topic, header stamp, number of points and time of a message; null for what its type does not have."""
        header = getattr(msg, "header", None)
        stamp = stamp_ns(header.stamp) if header is not None else None
        self.row(topic, stamp, msg.height * msg.width if hasattr(msg, "point_step") else None, monotonic_ns)

    def row(self, topic: str, stamp: int | None, points: int | None, monotonic_ns: int) -> None:
        """The same, of a message that is not at hand."""
        self._write({"topic": topic, "stamp_ns": stamp, "points": points, "monotonic_ns": monotonic_ns})

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


def message_class(msgtype: str) -> Any:
    """The class in rclpy of a message type such as ``sensor_msgs/msg/PointCloud2``, or None if not installed."""
    package, _, name = msgtype.partition("/msg/")
    if not (package.isidentifier() and name.isidentifier()):  # a bag may name anything, which must not be imported
        return None
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


class SweepLogReader:
    """The notes of one program (:class:`xmodelkd_ros.harness.sweep_log.SweepLog`), read as they come.

    Args:
        path: the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        self._events: set[str] = set()
        self._clouds: dict[str, dict[Key, int]] = {}
        self._arrivals: dict[str, list[tuple[Key, int]]] = {}
        self._faults: dict[tuple[str, str], int] = {}

    def has_event(self, name: str) -> bool:
        """Whether an event was logged."""
        self._read_on()
        return name in self._events

    def windows(self) -> dict[str, tuple[int, int]]:
        """Monotonic nanoseconds of the begin and the end of each fault that is over."""
        self._read_on()
        return {
            fault: (self._faults["begin", fault], end) for (event, fault), end in self._faults.items() if event == "end"
        }

    def clouds(self, topic: str) -> dict[Key, int]:
        """Monotonic time of each cloud on a topic, by stamp and number of points; of equal ones that of the last."""
        self._read_on()
        return self._clouds.get(topic, {})

    def arrivals(self, topic: str) -> list[tuple[Key, int]]:
        """Stamp and number of points of all clouds on a topic, as they came, and the monotonic time."""
        self._read_on()
        return self._arrivals.get(topic, [])

    def _read_on(self) -> None:
        """Take in the lines that are complete and new."""
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
            elif entry["points"] is not None:
                key = entry["stamp_ns"], entry["points"]
                self._clouds.setdefault(entry["topic"], {})[key] = entry["monotonic_ns"]
                self._arrivals.setdefault(entry["topic"], []).append((key, entry["monotonic_ns"]))
