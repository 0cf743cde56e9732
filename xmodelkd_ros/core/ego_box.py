"""Box around the vehicle's own returns, proposed from points that stay at the same place in all sweeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_VOXEL_M = 0.2
_MARGIN_M = 0.1
_AHEAD_M = 4.0
"""Reach of a vehicle's body from the LiDAR, forwards and backwards."""
_BESIDE_M = 1.3
_STANDING_AHEAD_M, _STANDING_BESIDE_M = 2.5, 1.1
"""The same while the vehicle stands, when surroundings stay too: a car's roof and bonnet."""
_ABOVE_M = 0.8
_OVER_GROUND_M = 0.4
"""The ground around the vehicle stays at the same place too; a body is above it."""
_MIN_SHARE = 0.9
"""Share of the sweeps in which a voxel must have a point."""
_MIN_VOXELS = 4
_MIN_SWEEPS = 3
_MIN_RANGE_M = 0.1
"""Closer positions are no returns."""


def propose_ego_box(sweeps: Sequence[NDArray[np.floating]], moved: bool) -> tuple[float, ...]:
    """Box of the returns that are at the same place in all sweeps: minimum corner, then maximum corner, metres.

    Args:
        sweeps: (N, 3) points of each sweep, in the sensor's frame (x forward, z up).
        moved: whether the vehicle moved. If not, its surroundings stay at the same place too, and only points where a
            car's roof and bonnet are count.

    Returns:
        Six numbers; empty if nothing stays.
    """
    if len(sweeps) < _MIN_SWEEPS:
        return ()
    ahead, beside = (_AHEAD_M, _BESIDE_M) if moved else (_STANDING_AHEAD_M, _STANDING_BESIDE_M)
    near = []
    for xyz in sweeps:
        kept = xyz[(np.abs(xyz) < 50).all(axis=1)]  # also without NaN
        kept = kept[np.linalg.norm(kept, axis=1) >= _MIN_RANGE_M]
        lowest = _ground_m(kept) + _OVER_GROUND_M
        body = (np.abs(kept[:, 0]) < ahead) & (np.abs(kept[:, 1]) < beside)
        near.append(kept[body & (kept[:, 2] < _ABOVE_M) & (kept[:, 2] > lowest)])
    voxels = [np.unique(np.floor(points / _VOXEL_M).astype(np.int64), axis=0) for points in near]
    found, count = np.unique(np.concatenate(voxels), axis=0, return_counts=True)
    staying = found[count >= _MIN_SHARE * len(sweeps)]
    if len(staying) < _MIN_VOXELS:
        return ()
    low, high = staying.min(axis=0) * _VOXEL_M, (staying.max(axis=0) + 1) * _VOXEL_M
    # Voxels are coarse: shrink to the points, then add a margin for noise and for the body's movement.
    points = np.concatenate(near)
    inside = points[((points >= low) & (points <= high)).all(axis=1)]
    low, high = inside.min(axis=0) - _MARGIN_M, inside.max(axis=0) + _MARGIN_M
    return tuple(round(float(v), 2) for v in (*low, *high))


def _ground_m(xyz: NDArray[np.floating]) -> float:
    """Height of the ground around the vehicle: median over 10 degree sectors of low points 5 to 15 m away."""
    rho = np.hypot(xyz[:, 0], xyz[:, 1])
    around = xyz[(rho > 5) & (rho < 15) & (xyz[:, 2] < 1)]
    sector = np.floor(np.degrees(np.arctan2(around[:, 1], around[:, 0])) / 10)
    lows = [np.percentile(around[sector == number, 2], 10) for number in np.unique(sector)]
    return float(np.median(lows)) if lows else -np.inf
