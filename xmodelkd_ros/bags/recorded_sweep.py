"""A sweep of a bag, and the firing times of its points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.messages.point_times import has_position, point_times

_MIN_TURN_S = 1e-6
"""With a smaller range of times, all points count as simultaneous, as for a flash LiDAR."""
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
        own_truth: (N,) uint8 ground-truth ids in the bag's own label set; None without ground truth.
    """

    message: Any
    stamp_ns: int
    log_time_ns: int
    cloud: PointCloud
    truth: NDArray[np.uint8] | None
    decode_ms: float
    own_truth: NDArray[np.uint8] | None = None


def point_times_s(sweep: RecordedSweep, note: Callable[[str], None] = lambda _: None) -> NDArray[np.float32]:
    """(N,) firing times in seconds relative to the sweep's stamp; zeros if the cloud does not tell them.

    Args:
        sweep: the sweep.
        note: callback for a line about times that are missing, unusable, or in an inferred unit.
    """
    times = point_times(sweep.message, sweep.cloud.xyz, sweep.stamp_ns)
    if times.note:
        note(times.note)
    return times.seconds


def scan_time_s(cloud: PointCloud, times_s: NDArray[np.float32], selected: NDArray[np.bool_]) -> float:
    """Time at which the LiDAR scans some of its points: the circular mean of their firing times over a turn.

    A direction at the seam of the turn is scanned twice; the time nearer to the stamp is returned.

    Args:
        cloud: N points; times of points without a position (not finite, or all zero) are ignored.
        times_s: (N,) firing times in seconds relative to the stamp.
        selected: (N,) mask of the points; at least one is set.
    """
    usable = has_position(cloud.xyz)
    times_s, selected = times_s[usable], selected[usable]
    begin, turn = float(times_s.min()), float(np.ptp(times_s))
    if turn < _MIN_TURN_S:
        return begin
    angle = (times_s[selected] - begin) * (2 * np.pi / turn)
    mean = np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()) % (2 * np.pi)
    once = begin + float(mean) / (2 * np.pi) * turn
    times = (time for time in (once - turn, once, once + turn) if -_SEAM < (time - begin) / turn < 1 + _SEAM)
    return min(times, key=abs)
