"""Corruptions of sweeps, for the evaluation of robustness.

Nine corruptions with three severities each, after the Robo3D benchmark (Kong et al. 2023, "Robo3D: Towards Robust and
Reliable 3D Perception against Corruptions") where it defines them. Their effect on labels:

* A lost point stays in the arrays, with position NaN and without a label.
* A spurious point (crosstalk, fog) has no label, as no class is right for it. Only its effect on the real points around
  it is scored, as in Robo3D.
* A displaced point (motion blur, range noise) is still an echo of its surface and keeps its label.
* A point on the beam of another sensor has the label of the point it was made from.

The LiDAR's mounting and intensity scale are estimated from the corrupted sweep, as they would be at run time.

A seed draws the same random numbers for every severity: points lost at a lower severity are lost at a higher one too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from training.data.sensors import with_ground
from training.data.sweeps import Sweep
from training.experiments.corruption.beams import on_other_sensor, without_beams
from training.experiments.corruption.fog import in_fog
from training.experiments.corruption.points import (
    with_blur,
    with_crosstalk,
    with_noise,
    with_uncorrected_intensity,
    with_weak_intensity,
    without_echoes,
)

SEVERITIES = ("light", "moderate", "heavy")
MODERATE = 1


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        apply: returns the corrupted sweep for a sweep, one of ``strengths`` and a random generator.
        strengths: for the three :data:`SEVERITIES`.
        what: meaning of the strengths, with their unit.
    """

    apply: Callable[[Sweep, Any, np.random.Generator], Sweep]
    strengths: tuple[float, float, float] | tuple[str, str, str]
    what: str


CORRUPTIONS = {
    "lost_beams": Corruption(without_beams, (0.25, 0.5, 0.75), "share of beams lost"),
    "crosstalk": Corruption(with_crosstalk, (0.01, 0.03, 0.06), "share of points displaced by another LiDAR"),
    "motion_blur": Corruption(with_blur, (0.2, 0.25, 0.3), "standard deviation of the displacement, m"),
    "missing_echoes": Corruption(without_echoes, (0.75, 0.85, 0.95), "share of vehicle points lost"),
    "other_sensor": Corruption(on_other_sensor, ("HDL-64E", "VLP-32C", "HDL-32E"), "LiDAR whose beams are simulated"),
    "fog": Corruption(in_fog, (0.01, 0.02, 0.03), "attenuation, 1/m"),
    "weak_intensity": Corruption(with_weak_intensity, (0.5, 0.1, 0.0), "factor of the intensity"),
    "uncorrected_intensity": Corruption(
        with_uncorrected_intensity, (0.5, 1.0, 2.0), "exponent of the intensity's fall with the distance"
    ),
    "range_noise": Corruption(with_noise, (0.05, 0.1, 0.2), "standard deviation of the range, m"),
}


def corrupted(sweep: Sweep, kind: str, seed: int, severity: int = MODERATE) -> Sweep:
    """Corrupt a sweep; the number of points stays the same.

    Args:
        sweep: the sweep, with labels of drive13.
        kind: one of :data:`CORRUPTIONS`.
        seed: of the random generator.
        severity: index into :data:`SEVERITIES`.
    """
    corruption = CORRUPTIONS[kind]
    changed = corruption.apply(sweep, corruption.strengths[severity], np.random.default_rng(seed))
    sensor = changed.sensor and with_ground(changed.sensor, [changed.cloud])
    return replace(changed, sensor=sensor)
