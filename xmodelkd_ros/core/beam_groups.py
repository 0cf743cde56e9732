"""Groups of points that might be beams (ring numbers, rows, scan lines): whether each group holds one elevation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.beam_table import seen_deg

MAX_GROUPS = 1024
"""No LiDAR has more beams; larger numbers are something else than a beam number."""
_MAX_STRAYS = 0.05
"""Share of points with larger numbers (65535 for none) that are left out."""
_MIN_POINTS = 5
_MIN_SHARE = 0.001
"""A group with fewer points than this share of the median group's is a stray value."""
_SHARP = 0.25
"""Spread of elevation relative to the distance of the groups up to which each group clearly holds one elevation; it is
0.02 for a raw cloud, 0.37 for points spread evenly."""
_BLURRED = 1.0
"""The same for blurred clouds, if the groups are unimodal."""
_ONE_BEAM_DEG = 0.5
"""Maximum spread of the single beam of a planar scanner."""
_UNIMODAL = 0.85
"""Minimum standard deviation relative to the robust one: 1 for a normal distribution, 0.78 for an even one, below for
two and more separate values."""
_EXPLAINED = 0.97
"""Share of the elevations' variance that lies between the groups, at least, in blurred clouds."""
_OUTLIERS = 0.25
"""Share of a group's points far off its elevation, at most; the rest may be a second beam."""
_MIN_GAIN = 0.7
"""Spread with a beam's own origin, relative to that without, below which the beam has one."""
_LARGEST_OFFSET_M = 0.3
"""Height of the beams' origin above the sensor's, at most."""
_OFFSET_SPREAD_M = 0.1
"""Deviation of one beam's origin from the others', at most (the two blocks of an HDL-64E)."""


@dataclass(frozen=True, eq=False)
class BeamGroups:
    """Elevations of G groups of points.

    Attributes:
        elevations_deg: (G,) elevation of each group number; NaN for numbers that no point has.
        spread: median over the groups of their robust standard deviation, relative to the distance to the next group.
        problem: why the groups are no beams; empty if they are.
    """

    elevations_deg: NDArray[np.float64]
    spread: float
    problem: str

    @property
    def beams_deg(self) -> tuple[float, ...]:
        """Elevations of the groups that occur, degrees, descending."""
        known = self.elevations_deg[np.isfinite(self.elevations_deg)]
        return tuple(sorted({float(v) for v in known}, reverse=True))


def group_beams(xyz: NDArray[np.float64], group: NDArray[np.integer]) -> BeamGroups:
    """Measure whether the groups of (N, 3) points are beams: each of one elevation, and apart from each other.

    A beam may start up to 0.3 m above or below the sensor's origin (as in the HDL-64E), so that its elevation
    depends on the range. Its points therefore lie on a line in range and height.

    Args:
        xyz: finite positions in the sensor's frame, metres.
        group: (N,) number of each point's group, from 0.
    """
    order = np.argsort(group, kind="stable")
    numbers, starts = np.unique(group[order], return_index=True)
    parts = np.split(order, starts[1:])
    fewest = max(_MIN_POINTS, _MIN_SHARE * float(np.median([len(part) for part in parts] or [0])))
    kept = [(int(number), part) for number, part in zip(numbers, parts, strict=True) if len(part) >= fewest]
    strays = sum(len(part) for number, part in kept if number >= MAX_GROUPS)
    if strays <= _MAX_STRAYS * len(group):
        kept = [(number, part) for number, part in kept if number < MAX_GROUPS]
    if not kept:
        return BeamGroups(np.zeros(0), np.inf, "hardly any number occurs twice")
    if kept[-1][0] >= MAX_GROUPS:
        return BeamGroups(np.zeros(0), np.inf, f"its numbers reach {kept[-1][0]}, which no LiDAR's beams do")
    rho, z = np.hypot(xyz[:, 0], xyz[:, 1]), xyz[:, 2]
    elevation = np.degrees(np.arctan2(z, rho))
    beams, residuals = _fit_beams([rho[part] for _, part in kept], [z[part] for _, part in kept])
    table = np.full(kept[-1][0] + 1, np.nan)
    table[[number for number, _ in kept]] = np.round(beams, 3)
    spread, problem = _judge(beams, residuals, elevation)
    return BeamGroups(table, spread, problem)


def scan_lines(xyz: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Number of each of (N, 3) points' scan line, if the points come beam by beam, each in the order of azimuth.

    Recordings whose driver or converter flattened a range image, and KITTI's, have this order; drivers that write
    firing by firing do not. None if the order is another one.
    """
    if len(xyz) < _MIN_POINTS:
        return None
    azimuth = np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0]))
    step = (np.diff(azimuth) + 180) % 360 - 180
    sense = 1.0 if np.median(step) >= 0 else -1.0
    if np.mean(step * sense >= -1) < 0.95:
        return None
    best: NDArray[np.intp] | None = None
    fewest = len(xyz)
    for seam in (azimuth[0] - 0.5 * sense, 0.0, 180.0):
        turned = ((azimuth - seam) * sense) % 360
        line = np.r_[0, np.cumsum(np.diff(turned) < -20)]
        if line[-1] < fewest:
            best, fewest = line, int(line[-1])
    return best if fewest < MAX_GROUPS else None


def joined_lines(lines: Sequence[NDArray[np.intp]], elevations: Sequence[NDArray[np.float64]]) -> NDArray[np.intp]:
    """Scan lines of several sweeps, concatenated and numbered as in the sweep with the most of them.

    A beam without any return in a sweep has no line there: the lines of such a sweep are matched by elevation.
    """
    medians = [_medians(line, elevation) for line, elevation in zip(lines, elevations, strict=True)]
    reference = max(medians, key=len)
    numbered = []
    for line, median in zip(lines, medians, strict=True):
        complete = len(median) == len(reference)
        numbered.append(line if complete else np.abs(median[:, None] - reference[None]).argmin(axis=1)[line])
    joined: NDArray[np.intp] = np.concatenate(numbered)
    return joined


def _medians(line: NDArray[np.intp], elevation: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([np.median(elevation[line == number]) for number in range(int(line[-1]) + 1)])


def _judge(
    medians: NDArray[np.float64], residuals: Sequence[NDArray[np.float64]], elevation: NDArray[np.float64]
) -> tuple[float, str]:
    """Spread relative to the distance of the groups, and why they are no beams."""
    widths = np.array([_robust_std(values) for values in residuals])
    if len(medians) == 1:
        width = widths[0]
        return (
            width,
            "" if width < _ONE_BEAM_DEG else f"one number for all points, over {np.ptp(elevation):.0f} degrees",
        )
    order = np.argsort(medians)
    gaps = np.diff(medians[order])
    distance = np.empty(len(medians))
    distance[order] = np.minimum(np.r_[gaps, np.inf], np.r_[np.inf, gaps])
    spread = float(np.median(widths / np.maximum(distance, 1e-6)))
    far_off = [
        np.mean(np.abs(values) > max(5 * width, 0.5 * gap))
        for values, width, gap in zip(residuals, widths, distance, strict=True)
    ]
    if np.median(far_off) > _OUTLIERS:
        return spread, f"a number holds several elevations: {np.median(far_off):.0%} of its points are far off"
    if spread <= _SHARP:
        return spread, ""
    within = sum(float((values**2).sum()) for values in residuals) / len(elevation)
    explained = 1 - within / max(float(np.var(elevation)), 1e-9)
    shape = float(np.median([values.std() / max(width, 1e-6) for values, width in zip(residuals, widths, strict=True)]))
    if spread <= _BLURRED and explained >= _EXPLAINED and shape >= _UNIMODAL:
        return spread, ""
    width, typical = float(np.median(widths)), float(np.median(distance))
    several = "several elevations" if shape < _UNIMODAL else "no single elevation"
    return spread, f"a number holds {several}: spread over {width:.2f} degrees, {typical:.2f} degrees from the next one"


def _fit_beams(
    rho: Sequence[NDArray[np.float64]], z: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Fit one beam to each group of points: z = rho tan(elevation) + height, with nearly the same height for all.

    Returns:
        (G,) elevations in degrees, as :func:`~xmodelkd_ros.core.beam_table.seen_deg` defines them, and the deviations
        of each group's points in degrees.
    """
    without = [_fit_line(r, h, (0.0, 0.0)) for r, h in zip(rho, z, strict=True)]
    free = [_fit_line(r, h, (-_LARGEST_OFFSET_M, _LARGEST_OFFSET_M)) for r, h in zip(rho, z, strict=True)]
    gains = [_robust_std(f[2]) < _MIN_GAIN * _robust_std(w[2]) for f, w in zip(free, without, strict=True)]
    fitted = without
    if np.mean(gains) >= 0.5:
        usual = float(np.median([f[1] for f, gain in zip(free, gains, strict=True) if gain]))
        limits = (usual - _OFFSET_SPREAD_M, usual + _OFFSET_SPREAD_M)
        fitted = [_fit_line(r, h, limits) for r, h in zip(rho, z, strict=True)]
    beams = np.array([float(seen_deg(np.array(tangent), height)) for tangent, height, _ in fitted])
    return beams, [residual for _, _, residual in fitted]


def _fit_line(
    rho: NDArray[np.float64], z: NDArray[np.float64], limits: tuple[float, float]
) -> tuple[float, float, NDArray[np.float64]]:
    """Tangent of the elevation, height of the origin within limits, and deviations in degrees; fitted robustly."""
    inverse = 1 / np.maximum(rho, 1e-3)
    slope = z * inverse
    kept = np.ones(len(z), np.bool_)
    tangent, height = float(np.median(slope)), 0.0
    for _ in range(4):
        x, y = inverse[kept], slope[kept]
        centred = x - x.mean()
        height = float(np.clip((centred * y).sum() / max((centred**2).sum(), 1e-9), *limits))
        tangent = float(np.median(y - height * x))
        deviation = np.abs(slope - tangent - height * inverse)
        kept = deviation <= 3 * max(1.4826 * float(np.median(deviation)), 1e-5)
    return tangent, height, np.degrees((slope - tangent - height * inverse) / (1 + tangent**2))


def _robust_std(values: NDArray[np.float64]) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
