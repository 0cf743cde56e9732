"""Statistics of sweeps by which a drive is compared with the training data of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.labels import LabelMap

QUANTILES = (0.01, 0.5, 0.99)
"""Quantiles over the sweeps of the training data that ``model.json`` holds for each statistic."""

SAMPLE = 1024
"""Points of a sweep from which its statistics are computed."""

_MAX_EXCESS = 0.2
_MAX_SHARE_EXCESS = 0.3
"""Distance from the range between the outer quantiles above which a drive is unlike the training data, relative to that
range; more for the share of a class, which depends on the scene. Chosen on drives that were not trained on
(docs/evaluation.md)."""
_MIN_SHARE_RANGE, _MIN_RANGE = 0.1, 0.02
"""Smallest such ranges: a class that the training data hardly had is no reason for a warning."""


def sample_index(count: int) -> NDArray[np.intp]:
    """Indices of up to ``SAMPLE`` points of a sweep.

    Random, since every n-th point may be of the same beam.
    """
    if count <= SAMPLE:
        return np.arange(count)
    return np.random.default_rng(count).integers(0, count, SAMPLE)


def output_statistics(sample: Segmentation, labels: LabelMap) -> dict[str, float]:
    """Mean normalised entropy, and share of each class, of a sample of labelled points; empty without any."""
    known = ~np.isnan(sample.entropy)
    count = int(np.count_nonzero(known))
    if not count:
        return {}
    counts = np.bincount(sample.label[known], minlength=len(labels))
    shares = {f"share.{c.name}": float(counts[c.id]) / count for c in labels.classes}
    return {"entropy": float(sample.entropy[known].mean()), **shares}


@dataclass(frozen=True)
class Excess:
    """A statistic of a drive that is outside of its range in the training data.

    Attributes:
        name: the statistic.
        value: its mean over the sweeps.
        low: lower end of the range.
        high: upper end.
        amount: distance from the range, in multiples of what is allowed.
    """

    name: str
    value: float
    low: float
    high: float
    amount: float


@dataclass(frozen=True)
class TrainingStatistics:
    """Statistics of the sweeps that a model has seen at its export.

    Attributes:
        sweeps: number of sweeps.
        quantiles: for each statistic its ``QUANTILES`` over the sweeps: ``fill`` (share of occupied pixels of the range
            image), ``input.NAME`` (median of a channel's measurement, before normalisation), ``entropy`` and
            ``share.CLASS``.
        command: the command that computed them.
    """

    sweeps: int
    quantiles: Mapping[str, tuple[float, float, float]]
    command: str = ""

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise ValueError(f"sweeps is {self.sweeps}")
        for name, values in self.quantiles.items():
            if len(values) != len(QUANTILES) or not np.all(np.abs(values) <= 1e9) or list(values) != sorted(values):
                raise ValueError(f"{name} has no three ascending quantiles: {values}")

    @classmethod
    def of(cls, sweeps: Sequence[Mapping[str, float]], command: str) -> TrainingStatistics:
        """Collect the statistics of sweeps; those that lack one do not count for it."""
        names = dict.fromkeys(name for sweep in sweeps for name in sweep)
        quantiles = {}
        for name in names:
            low, median, high = np.quantile([sweep[name] for sweep in sweeps if name in sweep], QUANTILES)
            quantiles[name] = (round(float(low), 4), round(float(median), 4), round(float(high), 4))
        return cls(len(sweeps), quantiles, command)

    def excesses(self, sweeps: Sequence[Mapping[str, float]]) -> list[Excess]:
        """Statistics whose mean over some sweeps of a drive is outside of the range, the most conspicuous first."""
        found = []
        for name, (low, _, high) in self.quantiles.items():
            values = [sweep[name] for sweep in sweeps if name in sweep]
            if not values:
                continue
            mean, is_share = sum(values) / len(values), name.startswith("share.")
            allowed = _MAX_SHARE_EXCESS if is_share else _MAX_EXCESS
            allowed *= max(high - low, _MIN_SHARE_RANGE if is_share else _MIN_RANGE)
            amount = max(low - mean, mean - high) / allowed
            if amount > 1:
                found.append(Excess(name, mean, low, high, amount))
        return sorted(found, key=lambda excess: -excess.amount)
