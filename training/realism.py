"""Making generated sweeps look like those of a real LiDAR, from its sweeps alone: no labels are needed.

Two things differ most: the scale of intensity, and which pulses do not come back. Both are read off the real
sweeps as distributions, and the generated sweeps are changed to have the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from training.data.sweeps import Sweep
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.projection import ProjectionSpec, RangeProjection, RangeProjector

_QUANTILES = np.linspace(0.0, 1.0, 1001)
_RANGE_EDGES_M = np.geomspace(3.0, 100.0, 11)
_INTENSITY_EDGES = np.array([1.0, 3.0, 6.0, 12.0, 25.0, 60.0])
_WINDOW = (3, 5)
_NEIGHBOURS = 0.6
"""A pixel has surroundings to judge by if this share of the pixels around it came back."""
_FEW = 200
"""A cell of the table with fewer pixels says nothing."""


class Realism:
    """What the sweeps of a real LiDAR look like.

    Args:
        target: sweeps of the LiDAR; their labels are not read.
        projection: a range image; best the one that the network will see.
    """

    def __init__(self, target: Sequence[Sweep], projection: ProjectionSpec) -> None:
        self._projector = RangeProjector(projection)
        self._intensities = np.quantile(np.concatenate([_intensity(s) for s in target]), _QUANTILES)
        self._missing = self._missing_share(target)

    def fit_generated(self, sweeps: Sequence[Sweep]) -> GeneratedSweeps:
        """Compare generated sweeps with the real ones.

        Args:
            sweeps: some of the generated sweeps, of one LiDAR or of many.
        """
        matched = [self.match_intensity(sweep) for sweep in sweeps]
        own = self._missing_share(matched)
        # What must be dropped on top of what does not come back already.
        extra = np.clip(1.0 - (1.0 - self._missing) / np.maximum(1.0 - own, 1e-3), 0.0, 1.0)
        return GeneratedSweeps(self, np.nan_to_num(extra))

    def match_intensity(self, sweep: Sweep) -> Sweep:
        """Give a sweep's intensities the real distribution; their order stays as it is."""
        values = _intensity(sweep)
        own = np.quantile(values, _QUANTILES)
        # Many points share an intensity: the middle of their ranks stands for all.
        low, high = np.searchsorted(own, values, "left"), np.searchsorted(own, values, "right")
        rank = np.clip((low + high - 1) / 2 / (len(_QUANTILES) - 1), 0.0, 1.0)
        matched = np.interp(rank, _QUANTILES, self._intensities).astype(np.float32)
        return Sweep(PointCloud(sweep.cloud.xyz, matched), sweep.labels)

    def cells(self, sweep: Sweep) -> tuple[NDArray[np.int64], RangeProjection]:
        """(H, W) cell of the table of each pixel, by range and intensity around it; -1 where it has none around it."""
        projection = self._projector.project(sweep.cloud)
        size = (self._projector.spec.height, self._projector.spec.width)
        hit = (projection.point >= 0).reshape(size)
        point = np.maximum(projection.point, 0)
        around = _around(hit.astype(np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = _around(np.where(hit, projection.range[point].reshape(size), 0.0)) / around
            intensity = _around(np.where(hit, _intensity(sweep)[point].reshape(size), 0.0)) / around
        cell = np.digitize(distance, _RANGE_EDGES_M) * (len(_INTENSITY_EDGES) + 1)
        cell += np.digitize(intensity, _INTENSITY_EDGES)
        return np.where(around >= _NEIGHBOURS, cell, -1), projection

    def _missing_share(self, sweeps: Sequence[Sweep]) -> NDArray[np.float64]:
        """Share of the pixels of each cell that did not come back; NaN where there are too few."""
        size = (len(_RANGE_EDGES_M) + 1) * (len(_INTENSITY_EDGES) + 1)
        all_pixels, missing = np.zeros(size), np.zeros(size)
        for sweep in sweeps:
            cell, projection = self.cells(sweep)
            known = cell >= 0
            all_pixels += np.bincount(cell[known], minlength=size)
            empty = (projection.point < 0).reshape(cell.shape)
            missing += np.bincount(cell[known & empty], minlength=size)
        return np.where(all_pixels >= _FEW, missing / np.maximum(all_pixels, 1), np.nan)


class GeneratedSweeps:
    """Changes generated sweeps to look real; made by :meth:`Realism.fit_generated`."""

    def __init__(self, realism: Realism, extra: NDArray[np.float64]) -> None:
        self._realism, self._extra = realism, extra

    def changed(self, sweep: Sweep, intensity: bool, ray_drop: bool, rng: np.random.Generator) -> Sweep:
        """A sweep with real intensities, or without the pulses that a real LiDAR would lose, or both."""
        matched = self._realism.match_intensity(sweep)
        result = matched if intensity else sweep
        if not ray_drop:
            return result
        cell, projection = self._realism.cells(matched)
        flat = cell.ravel()
        lost = rng.random(flat.shape) < np.where(flat >= 0, self._extra[flat], 0.0)
        kept = ~lost[projection.pixel]
        cloud = PointCloud(result.cloud.xyz[kept], _intensity(result)[kept])
        return Sweep(cloud, result.labels[kept])


def _around(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the 14 pixels around each in a window of 3 x 5, itself left out; azimuth goes round."""
    count = np.prod(_WINDOW)
    return np.asarray((uniform_filter(image, _WINDOW, mode=("nearest", "wrap")) * count - image) / (count - 1))


def _intensity(sweep: Sweep) -> NDArray[np.float32]:
    assert sweep.cloud.intensity is not None
    return sweep.cloud.intensity
