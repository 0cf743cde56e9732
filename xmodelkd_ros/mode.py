"""When a teacher is too slow for the sweeps that come. Times come in as arguments, so that tests drive them."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

_WINDOW = 20
"""Sweeps that are looked at together."""
_SHARE = 0.9
"""Of the sweep period, that a teacher may take for nine sweeps in ten."""
_REST_S = 10.0
"""How long the student labels instead, before the teacher is tried again."""


class TeacherPace:
    """Lets a teacher work as long as it keeps up.

    A teacher that takes longer than the sweep period would leave every other sweep without labels. So when its 90th
    percentile over 20 sweeps is above 0.9 of the period, it rests for 10 s and the student labels. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._took_s: deque[float] = deque(maxlen=_WINDOW)
        self._arrivals_s: deque[float] = deque(maxlen=_WINDOW + 1)
        self._rests_until_s = -np.inf

    def arrived(self, now_s: float) -> None:
        """A sweep came in."""
        with self._lock:
            self._arrivals_s.append(now_s)

    def took(self, seconds: float, now_s: float) -> bool:
        """The teacher labelled a sweep in so many seconds; whether it has to rest from now on."""
        period_s = self.period_s
        self._took_s.append(seconds)
        too_slow = len(self._took_s) == _WINDOW and np.quantile(self._took_s, 0.9) > _SHARE * period_s
        if too_slow:
            self.rest(now_s)
        return bool(too_slow)

    def rest(self, now_s: float) -> None:
        """Rest from now on: a sweep was lost because the one before was not done."""
        self._took_s.clear()
        self._rests_until_s = now_s + _REST_S

    def rests(self, now_s: float) -> bool:
        """Whether the student labels now."""
        return bool(now_s < self._rests_until_s)

    @property
    def period_s(self) -> float:
        """Time from sweep to sweep; infinite until two have come."""
        with self._lock:
            arrivals = list(self._arrivals_s)
        return float(np.median(np.diff(arrivals))) if len(arrivals) > 1 else np.inf
