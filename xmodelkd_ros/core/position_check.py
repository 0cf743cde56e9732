"""Checks of positions: whether a model can use them, and unit and axes that the points suggest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.usable_points import MAX_RANGE_M, MIN_RANGE_M, UsableMask, distances_m

_MIN_USABLE = 0.1
"""Share of usable points below which hardly any point is labelled; solid-state LiDARs send NaN for most of the sky."""
_MAX_BEYOND = 0.3
"""Share of returns beyond ``MAX_RANGE_M``."""
_MAX_MEDIAN_M, _MAX_REACH_M, _MIN_REACH_M = 150.0, 400.0, 1.5
"""Median and 95th percentile of the range that no vehicle's LiDAR has."""
_MILLIMETRES_FROM = 12000.0
"""90th percentile of the range in unknown units: on the road 20 to 80 m, so it separates centimetres, millimetres."""
_STEEP, _MIN_STEEP_RANGE_M, _MAX_STEEP = 0.866, 2.0, 0.1
"""Sine of 60 degrees; points beyond this range and elevation are hardly ever seen by a LiDAR with z up (measured: below
0.5 %), and are at least 17 % of the points if another axis points up or forward."""
_MIN_POINTS = 200
"""Fewer points do not show a unit, nor axes."""
_SAME = 1e-3
"""Relative difference up to which ranges are one and the same."""
_AROUND_SENSOR = 0.5
"""Ratio of the 5th to the 95th percentile of the range: below 0.25 around a LiDAR, above this far from the origin."""
_MAX_REPEATED = 0.25
"""Share of points at one and the same range; a street has below 2 %."""


def unusable_reason(xyz: NDArray[np.float32], usable: UsableMask, min_range_m: float) -> str:
    """Why hardly any of the points of a sweep is usable; empty if enough are.

    Args:
        xyz: (N, 3) positions of the sweep, or of a sample of it.
        usable: mask of the usable ones of some points.
        min_range_m: minimum range of the model.
    """
    count = len(xyz)
    share = np.count_nonzero(usable(xyz)) / count if count else 1.0
    if share >= _MIN_USABLE:
        return ""
    distance = distances_m(xyz)
    finite, zero = np.isfinite(distance), distance == 0
    start = f"{1 - share:.0%} of the points have no usable position"
    ranges = distance[finite & ~zero]
    if len(ranges) < _MIN_USABLE * count:
        missing = [
            f"{np.mean(which):.0%} are {what}"
            for which, what in ((~finite, "NaN or infinite"), (zero, "at the origin (0, 0, 0)"))
            if which.any()
        ]
        return f"{start}: {', '.join(missing)}; check the driver (and ego_box, if set)"
    median = float(np.median(ranges))
    if median > MAX_RANGE_M:
        return f"{start}: {_large(ranges)}"
    if median < min_range_m:
        remedy = "publish metres" if median < MIN_RANGE_M else "check min_range"
        return f"{start}: median range {median:.3g}, nearer than the minimum range {min_range_m:g} m; {remedy}"
    return f"{start}: median range {median:.3g} m; check ego_box and min_range"


def suspicious_positions(xyz: NDArray[np.float32], usable: UsableMask) -> dict[str, str]:
    """Suspected faults of positions that can be used, at least in part: by kind, ``unit``, ``missing`` or ``axes``.

    Args:
        xyz: (N, 3) positions of one or more sweeps, or of samples of them.
        usable: mask of the usable ones of some points.
    """
    distance = distances_m(xyz)
    returns = distance[np.isfinite(distance) & (distance > 0)]
    if len(returns) < _MIN_POINTS:
        return {}
    beyond = returns[returns > MAX_RANGE_M]
    # One and the same large range is a driver's way to say that nothing returned.
    if len(beyond) >= _MAX_BEYOND * len(returns) and np.ptp(beyond) > _SAME * np.median(beyond):
        share = len(beyond) / len(returns)
        return {"unit": f"{share:.0%} of the points are farther than 1 km: {_large(returns)}"}
    mask = usable(xyz)
    points, ranges = xyz[mask], distance[mask]
    if len(ranges) < _MIN_POINTS:
        return {}
    repeated, share = _most_frequent(ranges)
    if share > _MAX_REPEATED:
        what = f"{share:.0%} of the points have the same range, {repeated:.3g} m"
        return {"missing": f"{what}: missing returns?; publish NaN or zeros for them, or leave them out"}
    median, reach = np.quantile(ranges, (0.5, 0.95))
    if median > _MAX_MEDIAN_M or reach > _MAX_REACH_M:
        return {"unit": _large(ranges)}
    if reach < _MIN_REACH_M:
        return {"unit": f"95 % of the points are nearer than {reach:.2g}: kilometres, or scaled?; publish metres"}
    far = ranges >= _MIN_STEEP_RANGE_M
    steep = np.abs(points[far, 2]) > _STEEP * ranges[far]
    if np.count_nonzero(far) >= _MIN_POINTS and steep.mean() > _MAX_STEEP:
        return {
            "axes": f"{steep.mean():.0%} of the points are steeper than 60 degrees: is z not up (a camera's optical "
            "frame)?; publish x forward, y left, z up, or set projection_frame to the LiDAR's frame"
        }
    return {}


def _most_frequent(ranges: NDArray[np.float32]) -> tuple[float, float]:
    """The range that most points have, and their share."""
    steps = np.rint(np.log(ranges) / _SAME).astype(np.int64)
    values, counts = np.unique(steps, return_counts=True)
    most = int(counts.argmax())
    return float(np.exp(values[most] * _SAME)), float(counts[most]) / len(ranges)


def _large(ranges: NDArray[np.float32]) -> str:
    """Ranges that are too large, what they suggest, and what mends it."""
    low, median, high = np.quantile(ranges, (0.05, 0.5, 0.95))
    seen = f"median range {median:.0f}, 95 % up to {high:.0f}"
    if low > _AROUND_SENSOR * high:
        return f"{seen}, none near the origin: a map's frame?; publish the LiDAR's own frame, or set projection_frame"
    unit = "millimetres" if np.quantile(ranges, 0.9) > _MILLIMETRES_FROM else "centimetres, or scaled"
    return f"{seen}: {unit}?; publish metres"
