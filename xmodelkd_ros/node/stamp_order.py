"""Order check of sweep stamps."""

from __future__ import annotations

from xmodelkd_ros.segmentation.image_matching import JUMP_NS

_ACCEPT_AFTER = 3
"""Number of consecutive older sweeps with increasing stamps that count as a clock that was set back a little."""


class StampOrder:
    """Decides which sweeps are in stamp order.

    A stamp equal to the newest one is in order: some drivers leave all stamps at zero, and two synchronised LiDARs
    may share the topic.
    """

    def __init__(self) -> None:
        self._newest_ns: int | None = None
        self._refused_ns: list[int] = []

    def accept(self, stamp_ns: int) -> bool:
        """Whether a sweep is in order; if so, its stamp becomes the newest one."""
        if self._newest_ns is not None and 0 < self._newest_ns - stamp_ns <= JUMP_NS:
            rising = self._refused_ns and stamp_ns > self._refused_ns[-1]
            self._refused_ns = [*self._refused_ns, stamp_ns] if rising else [stamp_ns]
            if len(self._refused_ns) < _ACCEPT_AFTER:
                return False
        self._newest_ns, self._refused_ns = stamp_ns, []
        return True
