"""When a teacher is too slow for the sweeps that come. Times come in as arguments, so that tests drive them."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

_WINDOW = 20
"""Sweeps that are looked at together."""
_SHARE = 0.9
"""Of the sweep period, that a teacher may take for nine sweeps in ten."""
_HOPELESS = 3.0
"""Periods that a single sweep may take."""
_REST_S, _LONGEST_REST_S = 10.0, 300.0
"""How long the student labels instead, before the teacher is tried again."""


class TeacherPace:
    """Lets a teacher work as long as it keeps up.

    A teacher that takes longer than the sweep period leaves the student ever more sweeps to catch up with. So when its
    90th percentile over 20 sweeps is above 0.9 of the period, or one sweep took it more than three periods, it rests
    for 10 s and the student labels. Each time that it then fails at once it rests twice as long, a few minutes at most:
    on a machine where it can never keep up, sweeps are not kept waiting again and again. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._took_s: deque[float] = deque(maxlen=_WINDOW)
        self._arrivals_s: deque[float] = deque(maxlen=_WINDOW + 1)
        self._rest_s = _REST_S
        self._rests_until_s = -np.inf

    def arrived(self, now_s: float) -> None:
        """A sweep came in."""
        with self._lock:
            self._arrivals_s.append(now_s)

    def took(self, seconds: float, now_s: float) -> bool:
        """The teacher labelled a sweep in so many seconds; whether it has to rest from now on."""
        with self._lock:
            period_s = self._period_s()
            self._took_s.append(seconds)
            whole = len(self._took_s) == _WINDOW
            hopeless = seconds > _HOPELESS * period_s
            too_slow = hopeless or (whole and bool(np.quantile(self._took_s, 0.9) > _SHARE * period_s))
            if whole and not too_slow:
                self._rest_s = _REST_S
            if too_slow:
                self._rest(now_s)
                self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S) if hopeless else _REST_S
        return too_slow

    def rest(self, now_s: float) -> None:
        """Rest from now on: a sweep was lost because the one before was not done."""
        with self._lock:
            self._rest(now_s)

    def _rest(self, now_s: float) -> None:
        self._took_s.clear()
        self._rests_until_s = now_s + self._rest_s

    def rests(self, now_s: float) -> bool:
        """Whether the student labels now."""
        return bool(now_s < self._rests_until_s)

    @property
    def period_s(self) -> float:
        """Time from sweep to sweep; infinite until two have come."""
        with self._lock:
            return self._period_s()

    def _period_s(self) -> float:
        return float(np.median(np.diff(self._arrivals_s))) if len(self._arrivals_s) > 1 else np.inf
