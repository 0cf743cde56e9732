"""Count of messages that were published but never received, from sequence numbers and middleware events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_PUBLISHERS = 64
"""Number of publishers whose sequence numbers are stored."""


class LostMessageCounter:
    """Counts lost messages from two sources without counting any twice.

    A subscription that is served too slowly drops the oldest messages of its queue without an event, which leaves gaps
    in the publisher's sequence numbers. Messages lost in transport cause both an event and a gap, in either order. ROS
    distributions before Kilted do not identify the publisher of a message; there only events count.
    """

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._only_events = self._only_gaps = 0
        """Losses that one source has counted and the other has not confirmed yet."""

    def add_message(self, info: Mapping[str, Any]) -> int:
        """Number of newly detected losses after a message."""
        number: int | None = info.get("publication_sequence_number")
        publisher = info.get("publisher_gid")
        if number is None or publisher is None:
            return 0
        before = self._numbers.pop(publisher["data"], None)
        self._numbers[publisher["data"]] = number  # at the end: the most recent publisher
        if len(self._numbers) > _MAX_PUBLISHERS:
            del self._numbers[next(iter(self._numbers))]
        if before is None:  # earlier events concern other publishers, so they match no gap of this one
            self._only_events = 0
            return 0
        gap = max(number - before - 1, 0)
        counted = min(gap, self._only_events)
        self._only_events -= counted
        self._only_gaps += gap - counted
        return gap - counted

    def add_event(self, count: int) -> int:
        """Number of newly detected losses after an event that reports ``count`` lost messages."""
        counted = min(count, self._only_gaps)
        self._only_gaps -= counted
        self._only_events += count - counted
        return count - counted
