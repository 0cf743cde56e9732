"""Comparison of measured elevations with the beam tables of known products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.beam_table import MAX_SPREAD, cluster_spread, density_of
from xmodelkd_ros.core.sensor import gaps_deg, nearest

USUAL_COUNTS = (1, 4, 8, 16, 32, 40, 64, 80, 128)
"""Numbers of beams of LiDARs on the market."""
_LARGEST_SHIFT_DEG = 1.0
_SCALES = np.round(np.arange(0.97, 1.031, 0.01), 2)
_SHIFTS = 41
_CLOSE = 0.3
"""Deviation of a beam from its place in a table, as a share of the distance to the next beam, up to which it fits."""
_ALIKE_DEG = 0.03
"""Difference of the residuals up to which products cannot be told apart by their beams."""
_ALIKE_SHARE = 0.1
"""Difference of the shares of beams in common up to which they cannot either."""
_MIN_MATCHED = 0.9
_PRECISE = 0.1
"""Deviation relative to the distance of the beams, at most, where a table is only partly covered."""
_MIN_COVERED = 0.7
"""Share of a table's beams that must occur; the others have no returns (sky, or hidden by the vehicle)."""


@dataclass(frozen=True, eq=False)
class Match:
    """A known product, and its beams shifted and scaled onto the measured ones.

    Attributes:
        name: name of the product.
        beams_deg: elevations of all its beams, degrees, descending.
        residual_deg: median deviation of the measured beams.
        matched: share of the measured beams near one of the product's.
        covered: share of the product's beams near a measured one.
        alike: other products that fit about equally well, nearest first; none if this one does not fit.
    """

    name: str
    beams_deg: tuple[float, ...]
    residual_deg: float
    matched: float
    covered: float
    alike: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the measured beams are this product's, but for some without returns."""
        gap = float(np.median(gaps_deg(self.beams_deg))) if len(self.beams_deg) > 1 else 1.0
        precise = self.covered >= _MIN_MATCHED or self.residual_deg <= _PRECISE * gap
        return self.matched >= _MIN_MATCHED and self.covered >= _MIN_COVERED and precise


def nearest_product(beams: Sequence[float], tables: Mapping[str, Sequence[float]]) -> Match | None:
    """The known product whose beams are most like the measured ones, or None without any of at least as many beams."""
    measured = np.sort(np.asarray(beams, np.float64))
    matches = [
        _best_match(name, measured, np.sort(np.asarray(table, np.float64)))
        for name, table in tables.items()
        if _MIN_COVERED * len(table) <= len(measured) <= len(table)
    ]
    best = max(
        matches, key=lambda match: (match.fits, match.matched + match.covered - match.residual_deg), default=None
    )
    if best is None:
        return None
    alike = sorted((m for m in matches if m is not best and _alike(m, best)), key=lambda match: match.residual_deg)
    return replace(best, alike=tuple(match.name for match in alike))


def _alike(match: Match, best: Match) -> bool:
    """Whether the measured beams fit this product about as well as the best one."""
    shares = min(match.matched - best.matched, match.covered - best.covered)
    return best.fits and shares >= -_ALIKE_SHARE and match.residual_deg < best.residual_deg + _ALIKE_DEG


def _best_match(name: str, measured: NDArray[np.float64], table: NDArray[np.float64]) -> Match:
    """The table moved to where most of both sets of beams lie near one of the other; both are ascending."""
    moved = _moved(table)  # (K, T), one variant a row
    moved = moved + np.median(measured - _nearest_in_rows(moved, measured)[0], axis=1)[:, None]
    gaps = np.full(moved.shape, np.inf)
    steps = np.diff(moved, axis=1)
    gaps[:, :-1] = steps
    gaps[:, 1:] = np.minimum(gaps[:, 1:], steps)
    places, index = _nearest_in_rows(moved, measured)
    away = np.abs(measured - places)
    near = (away <= _CLOSE * np.take_along_axis(gaps, index, axis=1)).mean(axis=1)
    other = np.abs(moved - measured[nearest(measured, moved)])
    covered = (other <= _CLOSE * gaps).mean(axis=1)
    residual = np.median(away, axis=1)
    best = int((near + covered - residual).argmax())
    beams = tuple(float(round(v, 3)) for v in moved[best, ::-1])
    return Match(name, beams, float(residual[best]), float(near[best]), float(covered[best]))


def _nearest_in_rows(
    tables: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """(K, M) entry of each of K ascending tables, (K, T), that is nearest to each of (M,) values; and its index."""
    count, length = tables.shape
    apart = 1000.0 * np.arange(count)[:, None]  # so that one search does for all tables
    borders = ((tables[:, 1:] + tables[:, :-1]) / 2 + apart).ravel()
    index = np.searchsorted(borders, (values + apart).ravel()).reshape(count, -1)
    index = index - (length - 1) * np.arange(count)[:, None]
    return np.take_along_axis(tables, index, axis=1), index


def _moved(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, T) variants of a table: shifted by less than half of its widest step, and scaled by up to 3 %.

    Units differ from nominal.
    """
    widest = float(np.diff(table).max()) if len(table) > 1 else _LARGEST_SHIFT_DEG
    limit = min(_LARGEST_SHIFT_DEG, 0.4 * widest)
    shifts = np.linspace(-limit, limit, _SHIFTS)
    return np.asarray((table * _SCALES[:, None] + shifts[:, None, None]).reshape(-1, len(table)))


def fit_to_table(elevations: NDArray[np.float64], table: Sequence[float]) -> tuple[tuple[float, ...], float] | None:
    """Fit a known table to the elevations of points: shift, scale, then each beam within its neighbourhood.

    Args:
        elevations: (N,) degrees.
        table: elevations of the product's beams, degrees.

    Returns:
        The beams, degrees, descending, and their spread relative to their distance; None if the points do not lie on
        the table's beams.
    """
    values = np.sort(elevations)
    edges, density = density_of(values)
    ascending = np.sort(np.asarray(table, np.float64))
    moved = _moved(ascending)
    best = moved[int(_density(edges, density, moved).sum(axis=1).argmax())]
    reach = np.minimum(_CLOSE * gaps_deg(best), 0.5)
    steps = np.linspace(-1, 1, 21)
    around = _density(edges, density, best[:, None] + reach[:, None] * steps)
    refined = best + reach * steps[around.argmax(axis=1)]
    middle = (refined[1:] + refined[:-1]) / 2
    peak, valley = _density(edges, density, refined), _density(edges, density, middle)
    lower = np.maximum(np.r_[valley, 0], np.r_[0, valley])
    present = peak > 0.05 * np.median(peak)
    clear = peak > 1.15 * lower
    inside = np.mean((values > refined[0] - gaps_deg(refined)[0]) & (values < refined[-1] + gaps_deg(refined)[-1]))
    centres = _settled(values, refined)
    spread = cluster_spread(values, centres)
    if present.mean() < _MIN_COVERED or clear[present].mean() < _MIN_MATCHED or inside < 0.98 or spread > MAX_SPREAD:
        return None
    return tuple(float(round(v, 3)) for v in centres[::-1]), spread


def _density(edges: NDArray[np.float64], density: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    index = np.floor((at - edges[0]) / (edges[1] - edges[0])).astype(np.int64)
    inside = (index >= 0) & (index < len(density))
    return np.where(inside, density[np.clip(index, 0, len(density) - 1)], 0.0)


def _settled(values: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of the sorted values around each centre, up to a third of the way to the next one."""
    reach = 0.35 * gaps_deg(centres)
    starts, ends = np.searchsorted(values, centres - reach), np.searchsorted(values, centres + reach)
    return np.array(
        [np.median(values[a:b]) if b > a else centre for a, b, centre in zip(starts, ends, centres, strict=True)],
        np.float64,
    )
