"""Keeping the output in stamp order."""

from __future__ import annotations

_CLOCK_JUMP_NS = 1_000_000_000
"""A stamp this much older than the newest one is a clock that jumped (a bag that loops), not a late sweep."""
_IN_A_ROW = 3
"""As many older sweeps in a row, each newer than the one before, are a clock that was set back a little."""


class StampOrder:
    """Decides which sweeps may still be published in stamp order.

    A stamp equal to the newest one is in order: some drivers leave all stamps at zero, and two
    LiDARs fired together may share the topic.
    """

    def __init__(self) -> None:
        self._newest_ns: int | None = None
        self._refused_ns: list[int] = []

    def accept(self, stamp_ns: int) -> bool:
        """Whether a sweep with this stamp is in order; if so, it is the newest from now on."""
        if self._newest_ns is not None and 0 < self._newest_ns - stamp_ns <= _CLOCK_JUMP_NS:
            rising = self._refused_ns and stamp_ns > self._refused_ns[-1]
            self._refused_ns = [*self._refused_ns, stamp_ns] if rising else [stamp_ns]
            if len(self._refused_ns) < _IN_A_ROW:
                return False
        self._newest_ns, self._refused_ns = stamp_ns, []
        return True
