"""Sweeps that were published and never got here, by what the middleware says of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PUBLISHERS = 64
"""That are remembered, however many come and go."""


class LostSweeps:
    """Counts them.

    A subscription that is served too slowly loses the oldest sweeps of its queue, and says nothing of it; but the
    numbers that a publisher gives its messages have gaps then. What is lost on the way in fragments is an event of the
    subscription, and a gap as well. So the larger of both counts. ROS distributions that do not say which publisher a
    message is of (before Kilted) have the events alone.
    """

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._gaps = self._events = self._told = 0

    def received(self, info: Mapping[str, Any]) -> int:
        """How many more are known to be lost now that a message came.

        Args:
            info: rclpy's ``MessageInfo`` of it.
        """
        number, publisher = info.get("publication_sequence_number"), info.get("publisher_gid")
        if number is None or publisher is None:
            return 0
        before = self._numbers.pop(publisher["data"], None)
        self._numbers[publisher["data"]] = number  # the last one is the latest
        if len(self._numbers) > _PUBLISHERS:
            del self._numbers[next(iter(self._numbers))]
        self._gaps += max(number - before - 1, 0) if before is not None else 0
        return self._news()

    def reported(self, count: int) -> int:
        """How many more are known to be lost now that an event told of so many."""
        self._events += count
        return self._news()

    def _news(self) -> int:
        known = max(self._gaps, self._events)
        news, self._told = known - self._told, known
        return news
