"""Usable points of a sweep: those with a position from which a model labels them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import IGNORE

MAX_RANGE_M = 1000.0
"""Points beyond are invalid; no vehicle LiDAR has this range. Networks were never trained with such values, which would
corrupt the labels of the whole neighbourhood in the range image."""
MIN_RANGE_M = 0.5
"""Minimum range of a model that states none."""

UsableMask = Callable[[NDArray[np.float32]], NDArray[np.bool_]]
"""(N,) mask of the usable ones of (N, 3) points."""

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
        usable &= ~inside_box(xyz, ego_box)
    return usable


def is_labelled(usable: NDArray[np.bool_], label: NDArray[np.uint8]) -> bool:
    """Whether at least 99 % of the usable points have a label; True for a sweep without usable points.

    Args:
        usable: (N,) result of :func:`usable_mask`.
        label: (N,) ids of the points.
    """
    labelled = np.count_nonzero(usable & (label != IGNORE))
    return bool(labelled >= _LABELLED_SHARE * np.count_nonzero(usable))


def inside_box(xyz: NDArray[np.float32], ego_box: Sequence[float]) -> NDArray[np.bool_]:
    """Mask of the (N, 3) points inside a box, given as in :func:`checked_ego_box`; its faces belong to it."""
    low, high = np.asarray(ego_box, np.float32).reshape(2, 3)
    inside = np.ones(len(xyz), np.bool_)
    with np.errstate(invalid="ignore"):
        for axis in range(3):  # one axis at a time: a third of the time of (N, 3) comparisons
            inside &= (xyz[:, axis] >= low[axis]) & (xyz[:, axis] <= high[axis])
    return inside


def without_box(cloud: PointCloud, ego_box: Sequence[float]) -> PointCloud:
    """The cloud with NaN as the position of the points inside a box, so that they count as invalid; same length."""
    if not ego_box:
        return cloud
    xyz = cloud.xyz.copy()
    xyz[inside_box(cloud.xyz, ego_box)] = np.nan
    return PointCloud(xyz, cloud.intensity, cloud.ring, cloud.height, cloud.width)


def checked_ego_box(values: Sequence[float], name: str = "ego_box") -> tuple[float, ...]:
    """The box around the vehicle itself: x, y, z (metres) of its minimum corner, then of its maximum corner.

    Args:
        values: six numbers, or none; six zeros stand for no box.
        name: name of the setting in messages.

    Returns:
        The six numbers; empty for no box.

    Raises:
        ConfigError: the values are not two corners, the minimum corner first.
    """
    box = np.asarray(tuple(values), np.float64)
    if box.size == 0 or (box.size == 6 and not box.any()):
        return ()
    if box.size != 6 or not np.isfinite(box).all() or not (box[:3] < box[3:]).all():
        raise ConfigError(
            f"{name} is {[round(float(v), 6) for v in box[:8]]}; give x y z of the minimum corner, then x y z of the "
            "maximum corner, each smaller than its counterpart (metres; six zeros: no box)"
        )
    return tuple(float(v) for v in box)


def checked_min_range(value: float, name: str = "min_range") -> float:
    """Minimum range in metres, 0 for the model's own.

    Raises:
        ConfigError: it is negative, not finite, or not below ``MAX_RANGE_M``.
    """
    if not 0 <= value < MAX_RANGE_M:
        raise ConfigError(f"{name} is {value}; give metres from 0 (the model's own) to below {MAX_RANGE_M:.0f}")
    return float(value)
