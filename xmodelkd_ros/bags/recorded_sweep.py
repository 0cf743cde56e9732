"""A sweep of a bag, and the firing times of its points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import CloudError
from xmodelkd_ros.messages.clouds import has_field, read_field

_TIME_FIELDS = ("time", "t", "timestamp", "offset_time")
_MIN_TURN_S = 1e-6
"""With a smaller range of times, all points count as simultaneous, as for a flash LiDAR."""
_MAX_SWEEP_S = 1.0
_MIN_EPOCH_NS = 1e14
"""Larger timestamps are nanoseconds since 1970, smaller ones seconds."""
_SEAM = 0.1
"""Fraction of a revolution at its start that also counts as the end of the previous one, and vice versa."""


@dataclass(frozen=True, eq=False)
class RecordedSweep:
    """A sweep as recorded.

    Attributes:
        message: the recorded PointCloud2.
        stamp_ns: its stamp.
        log_time_ns: its time of recording.
        cloud: its points.
        truth: (N,) uint8 ground-truth ids in the requested label set, 255 where unknown; None without ground truth.
        decode_ms: time to convert the message to arrays.
    """

    message: Any
    stamp_ns: int
    log_time_ns: int
    cloud: PointCloud
    truth: NDArray[np.uint8] | None
    decode_ms: float


def point_times_s(sweep: RecordedSweep) -> NDArray[np.float32]:
    """(N,) firing times in seconds relative to the sweep's stamp; zeros if the cloud has no time field.

    Drivers write them to a field ``time`` (seconds), ``t`` or ``offset_time`` (nanoseconds) relative to the stamp, or
    ``timestamp`` (seconds or nanoseconds since 1970).

    Raises:
        CloudError: the values are not plausible times of a sweep.
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
            in_ns = len(times) > 0 and np.nanmax(times) > _MIN_EPOCH_NS
            times = (times - sweep.stamp_ns) * 1e-9 if in_ns else times - sweep.stamp_ns * 1e-9
    valid = times[np.isfinite(sweep.cloud.xyz).all(axis=1)]
    if len(valid) and not np.abs(valid).max() <= _MAX_SWEEP_S:
        raise CloudError(
            f"sweep at {sweep.stamp_ns} ns: its points have times up to {np.abs(valid).max():.3g} s from its stamp; "
            "record clouds with 'time' in seconds, or without"
        )
    return times.astype(np.float32)


def scan_time_s(cloud: PointCloud, times_s: NDArray[np.float32], selected: NDArray[np.bool_]) -> float:
    """Time at which the LiDAR scans some of its points: the circular mean of their firing times over a turn.

    A direction at the seam of the turn is scanned twice; the time nearer to the stamp is returned.

    Args:
        cloud: N points; times of points without a position are ignored.
        times_s: (N,) firing times in seconds relative to the stamp.
        selected: (N,) mask of the points; at least one is set.
    """
    usable = np.isfinite(cloud.xyz).all(axis=1)
    times_s, selected = times_s[usable], selected[usable]
    begin, turn = float(times_s.min()), float(np.ptp(times_s))
    if turn < _MIN_TURN_S:
        return begin
    angle = (times_s[selected] - begin) * (2 * np.pi / turn)
    mean = np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()) % (2 * np.pi)
    once = begin + float(mean) / (2 * np.pi) * turn
    times = (time for time in (once - turn, once, once + turn) if -_SEAM < (time - begin) / turn < 1 + _SEAM)
    return min(times, key=abs)
