"""Sweeps that were published and never got here, by what the middleware says of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PUBLISHERS = 64
"""That are remembered, however many come and go."""


class LostSweepCounter:
    """Counts them.

    A subscription that is served too slowly loses the oldest sweeps of its queue, and says nothing of it; but the
    numbers that a publisher gives its messages have gaps then. What is lost on the way in fragments is an event of the
    subscription, and a gap as well, one of them first: what one has told of is not told of again by the other. ROS
    distributions that do not say which publisher a message is of (before Kilted) have the events alone.
    """

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._by_events = self._by_gaps = 0
        """What one has told of, and the other has not yet."""

    def received(self, info: Mapping[str, Any]) -> int:
        """How many more are known to be lost now that a message came.

        Args:
            info: rclpy's ``MessageInfo`` of it.
        """
        number: int | None = info.get("publication_sequence_number")
        publisher = info.get("publisher_gid")
        if number is None or publisher is None:
            return 0
        before = self._numbers.pop(publisher["data"], None)
        self._numbers[publisher["data"]] = number  # the last one is the latest
        if len(self._numbers) > _PUBLISHERS:
            del self._numbers[next(iter(self._numbers))]
        if before is None:  # what was lost of another publisher before is no gap of this one
            self._by_events = 0
            return 0
        gap = max(number - before - 1, 0)
        known = min(gap, self._by_events)
        self._by_events -= known
        self._by_gaps += gap - known
        return gap - known

    def reported(self, count: int) -> int:
        """How many more are known to be lost now that an event told of so many."""
        known = min(count, self._by_gaps)
        self._by_gaps -= known
        self._by_events += count - known
        return count - known
