"""Sweeps as a LiDAR in trouble gives them, for measuring what networks still make of them.

Eight corruptions of three severities each, after the Robo3D benchmark (Kong et al. 2023, "Robo3D: Towards Robust and
Reliable 3D Perception against Corruptions") where it has them. What they do to labels:

* A point that is lost keeps its place in the arrays, but has neither position (NaN) nor label.
* A point that was invented (crosstalk, fog) has no label: there is nothing where it lies, and no class says so, so
  whatever a network calls it would be wrong. What it does to the real points around it is scored. Robo3D does the same.
* A point that was measured somewhat off (motion blur, range noise) is still an echo of its surface and keeps its label.
* A point on the beam of another sensor has the label of the surface it was taken from.

The same seed draws the same random numbers for every severity: what a lighter one loses, a heavier one loses too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.data.sweeps import Sweep
from training.experiments.corruption.beams import on_other_sensor, without_beams
from training.experiments.corruption.fog import in_fog
from training.experiments.corruption.points import (
    with_blur,
    with_crosstalk,
    with_noise,
    with_weak_intensity,
    without_echoes,
)

SEVERITIES = ("light", "moderate", "heavy")
MODERATE = 1


@dataclass(frozen=True)
class Corruption:
    """One way in which sweeps get worse.

    Attributes:
        apply: makes it from a sweep, one of ``strengths``, and a source of randomness.
        strengths: of the three :data:`SEVERITIES`.
        what: what the strengths are.
    """

    apply: Callable[[Sweep, Any, np.random.Generator], Sweep]
    strengths: tuple[float, float, float] | tuple[str, str, str]
    what: str


CORRUPTIONS = {
    "lost_beams": Corruption(without_beams, (0.25, 0.5, 0.75), "share of the beams that is lost"),
    "crosstalk": Corruption(with_crosstalk, (0.01, 0.03, 0.06), "share of the points that another LiDAR moves"),
    "motion_blur": Corruption(with_blur, (0.2, 0.25, 0.3), "standard deviation of the displacement, m"),
    "missing_echoes": Corruption(without_echoes, (0.75, 0.85, 0.95), "share of the vehicles' points that is lost"),
    "other_sensor": Corruption(on_other_sensor, ("HDL-64E", "VLP-32C", "HDL-32E"), "whose beams"),
    "fog": Corruption(in_fog, (0.01, 0.02, 0.03), "attenuation, 1/m"),
    "weak_intensity": Corruption(with_weak_intensity, (0.5, 0.1, 0.0), "what is left of the intensity"),
    "range_noise": Corruption(with_noise, (0.05, 0.1, 0.2), "standard deviation of the range, m"),
}


def corrupted(sweep: Sweep, kind: str, seed: int, severity: int = MODERATE) -> Sweep:
    """A sweep with as many points.

    Args:
        sweep: the sweep, with labels of drive13.
        kind: one of :data:`CORRUPTIONS`.
        seed: the same one gives the same sweep.
        severity: index into :data:`SEVERITIES`.
    """
    corruption = CORRUPTIONS[kind]
    return corruption.apply(sweep, corruption.strengths[severity], np.random.default_rng(seed))
