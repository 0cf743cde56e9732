"""Sweeps as a LiDAR in trouble gives them, for comparing what networks still make of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.data.sweeps import Sweep
from xmodelkd_ros.core.labels import IGNORE

_LOST_BEAMS = 0.5
_BAND_DEG = 0.2
_RANGE_NOISE_M = 0.1


def corrupted(sweep: Sweep, kind: str, seed: int) -> Sweep:
    """A sweep with as many points; those that are lost have neither position nor label.

    Args:
        sweep: the sweep.
        kind: one of :data:`CORRUPTIONS`.
        seed: the same one gives the same sweep.
    """
    return CORRUPTIONS[kind](sweep, np.random.default_rng(seed))


def _without_beams(sweep: Sweep, rng: np.random.Generator) -> Sweep:
    """Half of the beams are gone: all that lie in half of the bands of elevation, whatever LiDAR it is."""
    xyz, labels = sweep.cloud.xyz.copy(), sweep.labels.copy()
    elevation = np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
    bands = round(180 / _BAND_DEG)
    band = np.clip(np.nan_to_num((elevation + 90) / _BAND_DEG), 0, bands - 1).astype(np.int64)
    gone = (rng.random(bands) < _LOST_BEAMS)[band]
    xyz[gone], labels[gone] = np.nan, IGNORE
    return sweep.with_cloud(xyz, sweep.cloud.intensity).with_labels(labels)


def _with_noise(sweep: Sweep, rng: np.random.Generator) -> Sweep:
    """Ranges are off by 10 cm (standard deviation)."""
    distance = np.linalg.norm(sweep.cloud.xyz, axis=1, keepdims=True)
    off = rng.normal(0, _RANGE_NOISE_M, distance.shape) / np.maximum(distance, 1)
    return sweep.with_cloud((sweep.cloud.xyz * (1 + off)).astype(np.float32), sweep.cloud.intensity)


CORRUPTIONS: dict[str, Callable[[Sweep, np.random.Generator], Sweep]] = {
    "lost_beams": _without_beams,
    "range_noise": _with_noise,
}
