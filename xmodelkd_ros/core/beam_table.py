"""Beam tables: estimating the elevations of a LiDAR's beams from its sweeps, without beam numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.sensor import gaps_deg, nearest

_BIN_DEG = 0.01
_SMOOTHING_BINS = (3.0, 1.5)
"""Standard deviations of the histogram's smoothing: the usual one, and one for beams less than 0.1 degrees apart."""
_MIN_BEAM_SHARE = 0.1
"""A peak of the elevation histogram may be a beam if its prominence exceeds this share of the typical peak's."""
_MIN_STEP = 2.0
"""Prominences fall by at least this factor from the weakest beam to the strongest peak that is none."""
_MAX_NOISE_SHARE = 0.4
"""Prominence of a peak that is no beam, at most, as a share of the typical peak's."""
MAX_SPREAD = 0.25
"""Spread of the clusters relative to their distance above which they are no separate beams (0.37 if evenly spread)."""
_FAR_M = 20.0
_USUAL_HEIGHT_M = 1.8
_SAMPLE = 50_000


@dataclass(frozen=True, eq=False)
class Origin:
    """Where beams start: metres above the sensor's origin, and outwards from its axis.

    In the HDL-64E (and in clouds whose origin is not the optical centre) all beams start about 0.2 m above the origin,
    so that the elevation of a point of one beam depends on its range.
    """

    height_m: float = 0.0
    radius_m: float = 0.0

    def elevations_deg(self, xyz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Elevations of (N, 3) points seen from this origin."""
        rho = np.hypot(xyz[:, 0], xyz[:, 1]) - self.radius_m
        return np.asarray(np.degrees(np.arctan2(xyz[:, 2] - self.height_m, np.maximum(rho, 1e-3))))


def seen_deg(tangent: NDArray[np.float64], height_m: float, radius_m: float = 0.0) -> NDArray[np.float64]:
    """Elevation, seen from the sensor's origin, of beams that start elsewhere.

    It depends on the range: taken where the beam meets the ground, for a LiDAR at a car's usual height, or at 20 m.

    Args:
        tangent: tangents of the beams' own elevations.
        height_m: where the beams start above the origin.
        radius_m: where they start outwards of it.
    """
    rho = np.minimum(_FAR_M, _USUAL_HEIGHT_M / np.maximum(-tangent, 1e-3))
    return np.asarray(np.degrees(np.arctan2(tangent * (rho - radius_m) + height_m, rho)))


def elevations_deg(xyz: NDArray[np.floating]) -> NDArray[np.float64]:
    """Elevation of each of (N, 3) finite points above the sensor's x-y plane, degrees."""
    return Origin().elevations_deg(xyz.astype(np.float64))


def find_origin(xyz: NDArray[np.float64]) -> Origin:
    """The origin from which the histogram of elevations is sharpest, within 0.3 m of the sensor's."""
    if len(xyz) > _SAMPLE:
        xyz = xyz[np.random.default_rng(0).choice(len(xyz), _SAMPLE, replace=False)]
    best = Origin()
    for _ in range(2):
        heights = [Origin(h, best.radius_m) for h in np.round(np.arange(-0.3, 0.301, 0.02), 2)]
        best = max(heights, key=lambda origin: _sharpness(origin.elevations_deg(xyz)))
        radii = [Origin(best.height_m, r) for r in np.round(np.arange(-0.3, 0.301, 0.05), 2)]
        best = max(radii, key=lambda origin: _sharpness(origin.elevations_deg(xyz)))
    plain = Origin()
    gain = _sharpness(best.elevations_deg(xyz)) / max(_sharpness(plain.elevations_deg(xyz)), 1e-12)
    return best if gain > 1.1 else plain


def _sharpness(elevations: NDArray[np.float64]) -> float:
    counts = np.histogram(elevations, np.arange(-90, 90.01, 0.02))[0].astype(np.float64)
    return float((counts**2).sum() / max(counts.sum() ** 2, 1.0))


def fit_beams(elevations: NDArray[np.float64], beams: int | None = None) -> tuple[float, ...]:
    """Estimate the elevations of the beams, degrees, descending, from the points of a few sweeps.

    The beams are the most prominent peaks of the elevation histogram, refined by one-dimensional k-means.

    Args:
        elevations: (N,) degrees.
        beams: number of beams, or None to count the peaks.

    Raises:
        SensorError: there are no points, peaks and noise are not told apart, or fewer peaks than ``beams``.
    """
    values = np.sort(elevations)
    if values.size == 0:
        raise SensorError("the sweeps have no valid points to estimate beams from")
    peaks, prominence, count = _clearest_peaks(values)
    count = beams or count
    if not count:
        raise SensorError(
            f"the number of beams is not clear: {_range_of_counts(prominence)} peaks of elevation stand out"
        )
    if len(peaks) < count:
        raise SensorError(
            f"only {len(peaks)} of {beams} beams can be distinguished; use more sweeps of a standing vehicle"
        )
    chosen = np.sort(peaks[np.argsort(-prominence)[:count]])
    centres = _k_means(values, chosen)
    spread = cluster_spread(values, centres)
    if spread > MAX_SPREAD:
        raise SensorError(
            f"{count} beams cannot be separated: they spread over {spread:.0%} of their distance; use raw clouds "
            "(not motion-compensated) of a standing vehicle, in the sensor's own frame"
        )
    return tuple(float(round(v, 3)) for v in centres[::-1])


def cluster_spread(values: NDArray[np.float64], centres: NDArray[np.float64]) -> float:
    """Median over the clusters of their robust standard deviation, relative to the distance to the next cluster."""
    if len(centres) < 2:
        return 0.0
    index = nearest(centres, values)
    deviation = np.abs(values - centres[index])
    distance = gaps_deg(centres)
    order = np.argsort(index, kind="stable")
    numbers, starts = np.unique(index[order], return_index=True)
    parts = np.split(deviation[order], starts[1:])
    return float(np.median([1.4826 * np.median(part) / distance[n] for n, part in zip(numbers, parts, strict=True)]))


def _clearest_peaks(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Elevations of the peaks, prominences and number of beams, at the smoothing that tells beams from noise best."""
    best_step, best = -1.0, None
    for smoothing in _SMOOTHING_BINS:
        peaks, prominence = _peaks(values, smoothing)
        count, step = _count(prominence)
        if step > best_step:
            best_step, best = step, (peaks, prominence, count)
    assert best is not None
    return best


def _count(prominence: NDArray[np.float64]) -> tuple[int, float]:
    """Number of peaks above the largest relative step of the sorted prominences, and that step.

    The number is 0 without such a step: weak beams and noise look alike.
    """
    falling = np.sort(prominence)[::-1]
    typical = float(np.median(falling[: max(1, len(falling) // 2)]))
    following = np.r_[falling[1:], 0.0]
    steps = falling / np.maximum(following, 0.02 * typical)
    allowed = (falling >= _MIN_BEAM_SHARE * typical) & (following <= _MAX_NOISE_SHARE * typical)
    steps[~allowed] = 0.0
    count = int(np.argmax(steps)) + 1
    step = float(steps[count - 1])
    return (count if step >= _MIN_STEP else 0), step


def _range_of_counts(prominence: NDArray[np.float64]) -> str:
    typical = float(np.median(np.sort(prominence)[len(prominence) // 2 :]))
    least, most = (int((prominence >= share * typical).sum()) for share in (0.3, _MIN_BEAM_SHARE))
    return f"{least} to {most}"


def _peaks(values: NDArray[np.float64], smoothing: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Elevations of the local maxima of the histogram of sorted values, and their prominences."""
    edges, density = density_of(values, smoothing)
    maxima = np.flatnonzero((density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])) + 1
    return edges[maxima] + _BIN_DEG / 2, _prominence(density, maxima)


def density_of(values: NDArray[np.float64], smoothing: float = 3.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges of the elevation histogram of sorted values, and the square root of its smoothed counts.

    The square root raises weak beams (few returns from the sky) relative to strong ones.

    Args:
        values: degrees, ascending.
        smoothing: standard deviation of the Gaussian kernel, in bins.
    """
    edges = np.arange(values[0] - 0.5, values[-1] + 0.5, _BIN_DEG)
    counts = np.histogram(values, edges)[0].astype(np.float64)
    kernel = np.exp(-0.5 * (np.arange(-12, 13) / smoothing) ** 2)
    return edges, np.sqrt(np.convolve(counts, kernel / kernel.sum(), "same"))


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
