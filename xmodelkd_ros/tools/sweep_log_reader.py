"""What players and recorders note while they run, as JSON lines; read while they do."""

from __future__ import annotations

import json
from pathlib import Path

Key = tuple[int, int]
"""A sweep on both sides of DDS: stamp in nanoseconds, number of points."""


class SweepLogReader:
    """The notes of one program (:class:`xmodelkd_ros.node.sweep_log.SweepLog`), read as they come.

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
