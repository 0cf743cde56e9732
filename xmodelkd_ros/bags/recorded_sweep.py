"""A sweep of a bag, and when each of its points was fired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import CloudError
from xmodelkd_ros.messages.clouds import has_field, read_field

_TIME_FIELDS = ("time", "t", "timestamp", "offset_time")
_SHORTEST_TURN_S = 1e-6
"""Points of a sweep that differ by less were all taken at once, as a flash LiDAR does."""
_LONGEST_SWEEP_S = 1.0
_NANOSECONDS = 1e14
"""No time since 1970 is as many seconds."""
_SEAM = 0.1
"""Share of a turn before its begin and after its end that is both."""


@dataclass(frozen=True, eq=False)
class RecordedSweep:
    """A sweep as recorded.

    Attributes:
        message: as it was recorded.
        stamp_ns: its stamp.
        log_time_ns: when it was recorded.
        cloud: its points.
        truth: (N,) uint8 true ids in the set asked for, 255 where there is none; None without truth.
        decode_ms: time it took to turn the message into arrays.
    """

    message: Any
    stamp_ns: int
    log_time_ns: int
    cloud: PointCloud
    truth: NDArray[np.uint8] | None
    decode_ms: float


def point_times_s(sweep: RecordedSweep) -> NDArray[np.float32]:
    """(N,) when each point was fired, seconds from the sweep's stamp; zero where the cloud does not say it.

    Drivers write them into a field ``time`` (seconds), ``t`` or ``offset_time`` (nanoseconds) from the stamp, or
    ``timestamp`` (seconds since 1970, or nanoseconds).

    Raises:
        CloudError: these are no times of a sweep.
    """
    name = next((field for field in _TIME_FIELDS if has_field(sweep.message, field)), None)
    if name is None:
        return np.zeros(len(sweep.cloud), np.float32)
    values: NDArray[Any] = read_field(sweep.message, name)
    if values.dtype.kind in "iu":
        times = values * 1e-9
    else:
        times = values.astype(np.float64)
        if name == "timestamp":
            in_ns = len(times) > 0 and np.nanmax(times) > _NANOSECONDS
            times = (times - sweep.stamp_ns) * 1e-9 if in_ns else times - sweep.stamp_ns * 1e-9
    valid = times[np.isfinite(sweep.cloud.xyz).all(axis=1)]
    if len(valid) and not np.abs(valid).max() <= _LONGEST_SWEEP_S:
        raise CloudError(
            f"sweep at {sweep.stamp_ns} ns: its points have times up to {np.abs(valid).max():.3g} s from its stamp; "
            "record clouds with 'time' in seconds, or without"
        )
    return times.astype(np.float32)


def scan_time_s(cloud: PointCloud, times_s: NDArray[np.float32], seen: NDArray[np.bool_]) -> float:
    """When in a turn the LiDAR passes over some of its points: their mean on the circle.

    Where the turn begins and ends it passes twice, and the one nearer to the stamp counts.

    Args:
        cloud: N points; what has no position may have any time.
        times_s: (N,) their times, seconds from the stamp.
        seen: (N,) which of them it is about; at least one.
    """
    usable = np.isfinite(cloud.xyz).all(axis=1)
    times_s, seen = times_s[usable], seen[usable]
    begin, turn = float(times_s.min()), float(np.ptp(times_s))
    if turn < _SHORTEST_TURN_S:
        return begin
    angle = (times_s[seen] - begin) * (2 * np.pi / turn)
    mean = np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()) % (2 * np.pi)
    once = begin + float(mean) / (2 * np.pi) * turn
    times = (time for time in (once - turn, once, once + turn) if -_SEAM < (time - begin) / turn < 1 + _SEAM)
    return min(times, key=abs)
