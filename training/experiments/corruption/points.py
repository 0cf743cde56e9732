"""Corruptions of single points: lost, displaced, weak or spurious echoes."""

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
_UNCHANGED_M, _NEAREST_M = 10.0, 1.0
"""Range at which uncorrected intensity is that of the sweep, and below which it no longer rises: optics limit it."""


def without(sweep: Sweep, lost: NDArray[np.bool_]) -> Sweep:
    """The sweep with the points of an (N,) mask lost: they stay in the arrays, without position and label."""
    xyz, labels = sweep.cloud.xyz.copy(), sweep.labels.copy()
    xyz[lost], labels[lost] = np.nan, IGNORE
    return sweep.with_cloud(xyz, sweep.cloud.intensity).with_labels(labels)


def with_crosstalk(sweep: Sweep, share: float, rng: np.random.Generator) -> Sweep:
    """Crosstalk of other LiDARs: a share of the points is displaced, with the intensity of another point.

    As in Robo3D, the displacement is normal with 3 m along each axis. SemanticKITTI-C moves 0.6 to 1 % of the points,
    nuScenes-C 3 % and more. Robo3D's intensity noise fits one scale only; here intensities are permuted instead.
    """
    struck = rng.random(len(sweep.labels)) < share
    xyz, labels, intensity = sweep.cloud.xyz.copy(), sweep.labels.copy(), sweep.cloud.intensity
    xyz[struck] += (_CROSSTALK_M * rng.standard_normal(xyz.shape))[struck]
    labels[struck] = IGNORE
    if intensity is not None:
        intensity = np.where(struck, rng.permutation(intensity), intensity)
    return sweep.with_cloud(xyz, intensity).with_labels(labels)


def with_blur(sweep: Sweep, deviation_m: float, rng: np.random.Generator) -> Sweep:
    """Motion blur from vibration and rough roads: a displacement of the whole sweep, and jitter of each point.

    As in Robo3D's SemanticKITTI-C: the sweep's displacement is normal along each axis, the jitter a tenth of that
    horizontally and a twentieth vertically.
    """
    shift = rng.standard_normal(3) + np.asarray(_JITTER) * rng.standard_normal(sweep.cloud.xyz.shape)
    return sweep.with_cloud((sweep.cloud.xyz + deviation_m * shift).astype(np.float32), sweep.cloud.intensity)


def without_echoes(sweep: Sweep, share: float, rng: np.random.Generator) -> Sweep:
    """Missing echoes of dark or specular paint: a share of the points of cars, trucks and two-wheelers is lost.

    Robo3D's incomplete echo, with its shares.
    """
    return without(sweep, np.isin(sweep.labels, _vehicles()) & (rng.random(len(sweep.labels)) < share))


@lru_cache(maxsize=1)
def _vehicles() -> tuple[int, ...]:
    return ids_of(label_map(LABELS), _VEHICLES)


def with_weak_intensity(sweep: Sweep, factor: float, rng: np.random.Generator) -> Sweep:
    """Scale the intensity; the node assumes 0 for a LiDAR without intensity.

    Not in Robo3D: drivers scale intensity differently, and some omit it. Training varies the scale and omits intensity
    too.
    """
    return sweep.with_cloud(sweep.cloud.xyz, scaled_intensity(sweep, np.float32(factor)))


def with_uncorrected_intensity(sweep: Sweep, exponent: float, rng: np.random.Generator) -> Sweep:
    """Intensity that falls with the distance, (10 m / range) ** exponent, as the strength of the echo itself does.

    Not in Robo3D. Drivers differ in what they report: a reflectivity, corrected for the distance, or the signal, as
    Ouster's photon counts, which falls with its square. LiDARs that correct in part, or dim their laser nearby, are in
    between. Training varies the intensity in all other ways, never with the distance. Deterministic.
    """
    distance = np.fmax(np.linalg.norm(sweep.cloud.xyz, axis=1), np.float32(_NEAREST_M))
    gain = (np.float32(_UNCHANGED_M) / distance) ** np.float32(exponent)
    return sweep.with_cloud(sweep.cloud.xyz, scaled_intensity(sweep, gain.astype(np.float32)))


def scaled_intensity(sweep: Sweep, factor: np.float32 | NDArray[np.float32]) -> NDArray[np.float32] | None:
    """(N,) scaled intensities, or None without intensity; ``factor`` for all points or (N,) for each."""
    return None if sweep.cloud.intensity is None else sweep.cloud.intensity * factor


def with_noise(sweep: Sweep, deviation_m: float, rng: np.random.Generator) -> Sweep:
    """Normal range noise along the ray.

    Not in Robo3D. Dong et al. 2023, "Benchmarking Robustness of 3D Object Detection to Common Corruptions in Autonomous
    Driving", add such noise to each coordinate; but a LiDAR measures directions more precisely than ranges.
    """
    distance = np.linalg.norm(sweep.cloud.xyz, axis=1, keepdims=True)
    relative = rng.normal(0, deviation_m, distance.shape) / np.maximum(distance, 1)
    return sweep.with_cloud((sweep.cloud.xyz * (1 + relative)).astype(np.float32), sweep.cloud.intensity)
