"""Usable points of a sweep: those with a position from which a model labels them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.labels import IGNORE

MAX_RANGE_M = 1000.0
"""Points beyond are invalid; no vehicle LiDAR has this range. Networks were never trained with such values, which would
corrupt the labels of the whole neighbourhood in the range image."""
MIN_RANGE_M = 0.5
"""Minimum range of a model that states none."""

_LABELLED_SHARE = 0.99
"""Minimum share of labelled usable points for a sweep to count as labelled."""


def distances_m(xyz: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) distances of (N, 3) points from the origin, metres; NaN or infinite if the position is."""
    x, y, z = (np.ascontiguousarray(xyz[:, axis]) for axis in range(3))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.sqrt(x * x + y * y + z * z))


def usable_mask(
    xyz: NDArray[np.float32],
    min_range_m: float = MIN_RANGE_M,
    ego_box: Sequence[float] | None = None,
    distance: NDArray[np.float32] | None = None,
) -> NDArray[np.bool_]:
    """(N,) which points are finite, between the two ranges, and not part of the vehicle.

    Args:
        xyz: (N, 3) positions in metres.
        min_range_m: closer points (zeros for missing returns, returns from the vehicle itself) are not usable; nor are
            those beyond ``MAX_RANGE_M``.
        ego_box: smallest x, y, z and largest x, y, z of a box around the vehicle; points inside are not usable. None
            or six zeros for no box.
        distance: (N,) result of :func:`distances_m`, if known.
    """
    distance = distances_m(xyz) if distance is None else distance
    with np.errstate(invalid="ignore"):
        usable: NDArray[np.bool_] = (distance >= min_range_m) & (distance <= MAX_RANGE_M)
        if ego_box is not None and any(ego_box):
            low, high = np.asarray(ego_box[:3], np.float32), np.asarray(ego_box[3:], np.float32)
            inside = np.ones(len(xyz), np.bool_)
            for axis in range(3):
                inside &= (xyz[:, axis] >= low[axis]) & (xyz[:, axis] <= high[axis])
            usable &= ~inside
    return usable


def is_labelled(usable: NDArray[np.bool_], label: NDArray[np.uint8]) -> bool:
    """Whether at least 99 % of the usable points have a label; True for a sweep without usable points.

    Args:
        usable: (N,) result of :func:`usable_mask`.
        label: (N,) ids of the points.
    """
    labelled = np.count_nonzero(usable & (label != IGNORE))
    return bool(labelled >= _LABELLED_SHARE * np.count_nonzero(usable))
