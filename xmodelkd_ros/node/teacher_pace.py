"""Detection of a teacher that is too slow for the sweep rate. Times are arguments, so that tests control them."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

_WINDOW = 20
"""Number of sweeps in the statistics."""
_MAX_P90 = 0.9
"""Maximum 90th percentile of the teacher's duration, in sweep periods."""
_MAX_SINGLE = 3.0
"""Maximum duration for a single sweep, in sweep periods."""
_REST_S, _MAX_REST_S = 10.0, 300.0
"""Duration of the first rest, and the maximum."""


class TeacherPace:
    """Decides when a teacher that cannot keep up with the sweep rate rests.

    A teacher slower than the sweep period makes more and more sweeps queue. It rests for 10 s, while the student
    labels, when its 90th percentile over 20 sweeps exceeds 0.9 of the period or one sweep takes more than three
    periods. After each further failure of the second kind it rests twice as long, up to five minutes, so that a
    machine where it can never keep up does not delay sweeps again and again. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._durations_s: deque[float] = deque(maxlen=_WINDOW)
        self._arrivals_s: deque[float] = deque(maxlen=_WINDOW + 1)
        self._rest_s = _REST_S
        self._rest_until_s = -np.inf

    def add_arrival(self, now_s: float) -> None:
        """Record that a sweep arrived."""
        with self._lock:
            self._arrivals_s.append(now_s)

    def add_duration(self, seconds: float, now_s: float) -> bool:
        """Record how long the teacher took for a sweep; returns whether it rests from now on."""
        with self._lock:
            period_s = self._period_s()
            self._durations_s.append(seconds)
            full = len(self._durations_s) == _WINDOW
            far_too_slow = seconds > _MAX_SINGLE * period_s
            too_slow = far_too_slow or (full and bool(np.quantile(self._durations_s, 0.9) > _MAX_P90 * period_s))
            if full and not too_slow:
                self._rest_s = _REST_S
            if too_slow:
                self._rest(now_s)
                self._rest_s = min(2 * self._rest_s, _MAX_REST_S) if far_too_slow else _REST_S
        return too_slow

    def rest(self, now_s: float) -> None:
        """Rest from now on, after a sweep was dropped because the previous one was not finished."""
        with self._lock:
            self._rest(now_s)

    def _rest(self, now_s: float) -> None:
        self._durations_s.clear()
        self._rest_until_s = now_s + self._rest_s

    def is_resting(self, now_s: float) -> bool:
        """Whether the teacher rests, so that the student labels."""
        return bool(now_s < self._rest_until_s)

    @property
    def period_s(self) -> float:
        """Median sweep period; infinite before the second sweep."""
        with self._lock:
            return self._period_s()

    def _period_s(self) -> float:
        return float(np.median(np.diff(self._arrivals_s))) if len(self._arrivals_s) > 1 else np.inf
