"""Beam tables: estimating the elevations of a LiDAR's beams from its sweeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import SensorError

_BIN_DEG = 0.01
_MIN_BEAM_SHARE = 0.15
"""A peak of the elevation histogram is a beam if its prominence exceeds this share of the median peak's."""


def elevations_deg(xyz: NDArray[np.float32]) -> NDArray[np.float64]:
    """Elevation of each of (N, 3) finite points above the sensor's x-y plane, degrees."""
    x, y, z = xyz.astype(np.float64).T
    elevations: NDArray[np.float64] = np.degrees(np.arctan2(z, np.hypot(x, y)))
    return elevations


def fit_beams(elevations: NDArray[np.float64], beams: int | None = None) -> tuple[float, ...]:
    """Estimate the elevations of the beams, degrees, descending, from the points of a few sweeps.

    The beams are the most prominent peaks of the elevation histogram, refined by one-dimensional k-means.
    Use sweeps of a standing vehicle: motion compensation blurs the beams.

    Args:
        elevations: (N,) degrees.
        beams: number of beams, or None to count the peaks.

    Raises:
        SensorError: there are no points, or fewer distinct peaks than ``beams``.
    """
    values = np.sort(elevations)
    if values.size == 0:
        raise SensorError("the sweeps have no valid points to estimate beams from")
    peaks, prominence = _peaks(values)
    if beams is None:
        order = np.argsort(-prominence)
        typical = np.median(prominence[order[: max(1, len(order) // 2)]])
        chosen = np.flatnonzero(prominence > _MIN_BEAM_SHARE * typical)
    else:
        chosen = np.argsort(-prominence)[:beams]
    if beams is not None and len(chosen) < beams:
        raise SensorError(
            f"only {len(chosen)} of {beams} beams can be distinguished; use more sweeps of a standing vehicle"
        )
    return tuple(float(round(v, 3)) for v in _k_means(values, np.sort(peaks[chosen]))[::-1])


def fit_rings(elevations: NDArray[np.float64], ring: NDArray[np.integer]) -> tuple[float, ...]:
    """Median elevation (degrees) of each ring number from 0 to the largest.

    Raises:
        SensorError: a ring number has no points.
    """
    order = np.argsort(ring, kind="stable")
    numbers, starts = np.unique(ring[order], return_index=True)
    if numbers.size == 0 or not np.array_equal(numbers, np.arange(numbers[-1] + 1)):
        raise SensorError("some ring numbers have no points; use more sweeps")
    return tuple(float(round(np.median(part), 3)) for part in np.split(elevations[order], starts[1:]))


def _peaks(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Elevations of the local maxima of the histogram, and their prominences."""
    edges = np.arange(values[0] - 0.5, values[-1] + 0.5, _BIN_DEG)
    counts = np.histogram(values, edges)[0].astype(np.float64)
    kernel = np.exp(-0.5 * (np.arange(-12, 13) / 3.0) ** 2)
    # The square root raises weak beams (few returns from the sky) relative to strong ones.
    density = np.sqrt(np.convolve(counts, kernel / kernel.sum(), "same"))
    maxima = np.flatnonzero((density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])) + 1
    return edges[maxima] + _BIN_DEG / 2, _prominence(density, maxima)


def _prominence(density: NDArray[np.float64], maxima: NDArray[np.intp]) -> NDArray[np.float64]:
    """Topographic prominence: height of each maximum above the higher of the two valleys next to it."""
    result = np.empty(len(maxima))
    for i, peak in enumerate(maxima):
        higher = np.flatnonzero(density > density[peak])
        left, right = higher[higher < peak], higher[higher > peak]
        valleys = []
        if left.size:
            valleys.append(density[left[-1] : peak].min())
        if right.size:
            valleys.append(density[peak : right[0]].min())
        result[i] = density[peak] - (max(valleys) if valleys else 0.0)
    return result


def _k_means(values: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lloyd's algorithm on sorted values; clusters without points do not move."""
    total = np.r_[0.0, np.cumsum(values)]
    for _ in range(100):
        cuts = np.r_[0, np.searchsorted(values, (centres[1:] + centres[:-1]) / 2), len(values)]
        counts = np.diff(cuts)
        moved = np.where(counts > 0, np.diff(total[cuts]) / np.maximum(counts, 1), centres)
        if np.abs(moved - centres).max() < 1e-5:
            break
        centres = moved
    return centres
