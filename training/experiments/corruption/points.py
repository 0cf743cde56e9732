"""Corruptions of single points: echoes that are lost, displaced, weak, or another LiDAR's."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from training.config.label_sets import LABELS
from training.data.sweeps import Sweep
from xmodelkd_ros.core.labels import IGNORE, ids_of
from xmodelkd_ros.resources import label_map

_VEHICLES = ("car", "truck", "two_wheeler")
_CROSSTALK_M = 3.0
_JITTER = (0.1, 0.1, 0.05)


def without(sweep: Sweep, gone: NDArray[np.bool_]) -> Sweep:
    """The sweep whose points of an (N,) mask are lost: they keep their place, without position and label."""
    xyz, labels = sweep.cloud.xyz.copy(), sweep.labels.copy()
    xyz[gone], labels[gone] = np.nan, IGNORE
    return sweep.with_cloud(xyz, sweep.cloud.intensity).with_labels(labels)


def with_crosstalk(sweep: Sweep, share: float, rng: np.random.Generator) -> Sweep:
    """Pulses of other LiDARs: a share of the points lies somewhere else, with the intensity of some other point.

    As in Robo3D, they are displaced by a normal deviate of 3 m along each axis. SemanticKITTI-C moves 0.6 to 1 % of the
    points, nuScenes-C 3 % and more. Their noise of the intensity suits one scale only; here intensities are exchanged.
    """
    struck = rng.random(len(sweep.labels)) < share
    xyz, labels, intensity = sweep.cloud.xyz.copy(), sweep.labels.copy(), sweep.cloud.intensity
    xyz[struck] += (_CROSSTALK_M * rng.standard_normal(xyz.shape))[struck]
    labels[struck] = IGNORE
    if intensity is not None:
        intensity = np.where(struck, rng.permutation(intensity), intensity)
    return sweep.with_cloud(xyz, intensity).with_labels(labels)


def with_blur(sweep: Sweep, deviation_m: float, rng: np.random.Generator) -> Sweep:
    """Vibration and a rough road: the sweep is displaced as a whole, and each point a little for itself.

    As in Robo3D's SemanticKITTI-C: the whole sweep by a normal deviate along each axis, each point by a tenth of that,
    a twentieth in height.
    """
    shift = rng.standard_normal(3) + np.asarray(_JITTER) * rng.standard_normal(sweep.cloud.xyz.shape)
    return sweep.with_cloud((sweep.cloud.xyz + deviation_m * shift).astype(np.float32), sweep.cloud.intensity)


def without_echoes(sweep: Sweep, share: float, rng: np.random.Generator) -> Sweep:
    """Dark or mirror-like paint: a share of the points of cars, trucks and two-wheelers is lost.

    Robo3D's incomplete echo, with its shares.
    """
    return without(sweep, np.isin(sweep.labels, _vehicles()) & (rng.random(len(sweep.labels)) < share))


@lru_cache(maxsize=1)
def _vehicles() -> tuple[int, ...]:
    return ids_of(label_map(LABELS), _VEHICLES)


def with_weak_intensity(sweep: Sweep, left: float, rng: np.random.Generator) -> Sweep:
    """Intensities are a share of what they were; 0 is what the node takes where a LiDAR gives none.

    Not in Robo3D: drivers scale intensity differently, and some leave it out.
    """
    return sweep.with_cloud(sweep.cloud.xyz, scaled_intensity(sweep, np.float32(left)))


def scaled_intensity(sweep: Sweep, share: np.float32 | NDArray[np.float32]) -> NDArray[np.float32] | None:
    """(N,) what is left of the intensities, if there are any; ``share`` of all or (N,) of each."""
    return None if sweep.cloud.intensity is None else sweep.cloud.intensity * share


def with_noise(sweep: Sweep, deviation_m: float, rng: np.random.Generator) -> Sweep:
    """Ranges are off by a normal deviate, along the ray.

    Not in Robo3D. Dong et al. 2023, "Benchmarking Robustness of 3D Object Detection to Common Corruptions in Autonomous
    Driving", add such noise to each coordinate; a LiDAR knows its directions better than its ranges.
    """
    distance = np.linalg.norm(sweep.cloud.xyz, axis=1, keepdims=True)
    off = rng.normal(0, deviation_m, distance.shape) / np.maximum(distance, 1)
    return sweep.with_cloud((sweep.cloud.xyz * (1 + off)).astype(np.float32), sweep.cloud.intensity)
