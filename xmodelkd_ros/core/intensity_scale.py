"""Scale of a LiDAR's intensities, recognised from the values, and whether it is the expected one.

Drivers publish fractions (KITTI, CARLA), percent, 8 bits (Velodyne, Hesai, RoboSense, Livox, nuScenes), photon counts
of 12 or 16 bits (Ouster), decibels, or nothing but zeros. A model that was trained on another scale labels wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

MIN_VALUES = 400
"""Fewer values do not show a scale."""

MEASURED_INTENSITY = "configure the driver to publish measured values in field intensity"
"""What mends intensities without information."""

_SAME_SHARE = 0.995
MISSING_SHARE = 0.1
"""Share of NaN and infinite intensities above which none are used: a network would read those as black."""
_NEGATIVE_SHARE = 0.01
_ABOVE_SHARE = 0.002
"""Share of values above a scale's limit that corrupt points do not reach."""
_INTEGER_SHARE = 0.99
_CLIPPED_SHARE = 0.003
"""Share of values at 100 from which they are clipped there, if the values just below are rarer than that."""
_TOLERANCE = 2.5
"""Ratio of the limits of two scales above which they differ: smaller than that of 100 and 255."""
_DIM, _BRIGHT = 20.0, 4.0
"""The same for the 99th percentile of scales without a limit, which depends on the scene."""


@dataclass(frozen=True)
class IntensityScale:
    """A recognised scale.

    Attributes:
        kind: ``none`` (no values), ``constant`` (or NaN for more than a tenth of the points), ``negative`` (such as
            decibels), ``fraction`` (0 to 1), ``percent``, ``byte`` (0 to 255), or ``wide`` (more than 8 bits).
        limits: intensity of dark and of bright surfaces. Limits of the scale rather than percentiles of the values,
            which depend on the scene; only wide and negative scales, which are rarely exhausted, have percentiles.
        seen: description of the values, for messages.
        p99: 99th percentile of the values.
        highest: 99.9th percentile of the values: the largest one that is not a corrupt point.
    """

    kind: str
    limits: tuple[float, float]
    seen: str
    p99: float = 0.0
    highest: float = 0.0

    def mismatch(self, expected: tuple[float, float]) -> str:
        """Why the values do not fit the expected limits; empty if they do, or if there are no values."""
        low, high = expected
        if self.kind == "constant":
            return self.seen
        if self.kind == "negative":
            return f"{self.seen}, which looks like decibels, or bytes read as signed" if low >= 0 else ""
        if self.kind == "none":
            return ""
        if high <= 0:
            return f"{self.seen}, none negative"
        factors = {"fraction": high, "percent": max(high / 100, 100 / high)}
        differs = factors.get(self.kind, 0) > _TOLERANCE
        if self.kind in ("byte", "wide"):
            differs = self.kind == "wide" or self.highest > _TOLERANCE * high
        if high > 255:  # a percentile, see limits
            differs = self.p99 * _DIM < high or self.p99 > _BRIGHT * high
        name = {"fraction": "0 to 1", "percent": "0 to 100", "byte": "0 to 255", "wide": "more than 8 bits"}
        return f"{self.seen}, which looks like a scale of {name[self.kind]}" if differs else ""


def recognise(values: NDArray[np.floating]) -> IntensityScale:
    """Recognise the scale of the intensities of points with a usable position, best from several sweeps."""
    if not values.size:
        return IntensityScale("none", (0.0, 1.0), "no intensity")
    ordered = np.sort(values[np.isfinite(values)])
    missing = 1 - ordered.size / values.size
    if missing > MISSING_SHARE:
        seen = f"intensity is NaN or infinite for {missing:.0%} of the points"
        return replace(recognise(ordered), kind="constant", seen=seen)
    constant = _constant(ordered)
    if constant:
        seen = f"intensity is {constant} for all points, so it carries no information"
        return IntensityScale("constant", (0.0, 1.0), seen)
    p1, p50, p90, p99, highest = (float(ordered[int(q * (len(ordered) - 1))]) for q in (0.01, 0.5, 0.9, 0.99, 0.999))
    integer = bool(np.mean(ordered == np.rint(ordered)) >= _INTEGER_SHARE)
    seen = f"intensity has median {p50:.3g} and 99th percentile {p99:.4g} ({'integers' if integer else 'not integers'})"
    if _share_below(ordered, 0) >= _NEGATIVE_SHARE:
        return IntensityScale("negative", (p1, p99), f"{seen} and negative values", p99, highest)
    if p90 <= 1 and not integer:
        return IntensityScale("fraction", (0.0, 1.0), seen, p99, highest)
    if 1 - _share_below(ordered, 255.5) >= _ABOVE_SHARE:
        return IntensityScale("wide", (0.0, p99), seen, p99, highest)
    # Velodyne's integers are clipped at 100 too: larger ones are retroreflectors, which a street may lack.
    if not integer and _is_clipped_at_100(ordered, highest):
        return IntensityScale("percent", (0.0, 100.0), f"{seen}, clipped at 100", p99, highest)
    return IntensityScale("byte", (0.0, 255.0), seen, p99, highest)


def _constant(ordered: NDArray[np.floating]) -> str:
    """The one value that (almost) all points have, or the only two; empty if there are more."""
    starts = np.r_[0, np.flatnonzero(np.diff(ordered)) + 1]
    counts = np.diff(np.r_[starts, len(ordered)])
    if counts.max() >= _SAME_SHARE * len(ordered):
        return f"{ordered[starts[counts.argmax()]]:.4g}"
    if len(counts) == 2 and len(ordered) >= MIN_VALUES:
        return f"{ordered[0]:.4g} or {ordered[-1]:.4g}"
    return ""


def _is_clipped_at_100(ordered: NDArray[np.floating], highest: float) -> bool:
    at, below = 1 - _share_below(ordered, 99.5), _share_below(ordered, 99.5) - _share_below(ordered, 95)
    return 99.5 <= highest <= 100.5 and at >= max(_CLIPPED_SHARE, below)


def _share_below(ordered: NDArray[np.floating], limit: float) -> float:
    return float(np.searchsorted(ordered, limit)) / len(ordered)
