"""Terrain: a smooth height field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_WAVES = 4


@dataclass(frozen=True, eq=False)
class Terrain:
    """A sum of long waves, zero at the origin.

    Attributes:
        amplitude: (W,) metres.
        wavevector: (W, 2) radians per metre.
        phase: (W,) radians.
    """

    amplitude: NDArray[np.float64]
    wavevector: NDArray[np.float64]
    phase: NDArray[np.float64]

    @classmethod
    def sample(cls, rng: np.random.Generator, steepest_grade: float = 0.08) -> Terrain:
        """Draw a terrain: nearly flat in half of the drives, otherwise grades of up to 8 % or ``steepest_grade``."""
        steepest = rng.uniform(0.0, 0.012) if rng.random() < 0.5 else rng.uniform(0.012, steepest_grade)
        wavelength = rng.uniform(260.0, 700.0, _WAVES)
        direction = rng.uniform(0, 2 * np.pi, _WAVES)
        number = 2 * np.pi / wavelength
        share = rng.dirichlet(np.ones(_WAVES))
        wavevector = np.column_stack([np.cos(direction), np.sin(direction)]) * number[:, None]
        return cls(steepest * share / number, wavevector, rng.uniform(0, 2 * np.pi, _WAVES))

    def __call__(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Heights at x, y (any shape), metres."""
        east, north = np.asarray(x, np.float64), np.asarray(y, np.float64)
        height = np.zeros(np.broadcast(east, north).shape)
        for a, (kx, ky), phase in zip(self.amplitude, self.wavevector, self.phase, strict=True):
            height += a * (np.sin(kx * east + ky * north + phase) - np.sin(phase))
        return height

    @property
    def curvature(self) -> float:
        """Upper bound of the second derivative along any line, 1/m; determines the mesh resolution."""
        return float((self.amplitude * (self.wavevector**2).sum(axis=1)).sum())
