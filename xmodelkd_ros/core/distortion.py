"""Lens distortion: the models of ``sensor_msgs/CameraInfo``, by OpenCV's formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ConfigError

_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
"""Permitted numbers of coefficients: k1 k2 p1 p2 [k3 [k4 k5 k6]], for the fisheye k1 k2 k3 k4."""
_ALIASES = {"fisheye": "equidistant", "radtan": "plumb_bob"}
_ANGLE_STEPS = 2000


@dataclass(frozen=True)
class DistortionModel:
    """A distortion model (``plumb_bob``, ``rational_polynomial`` or ``equidistant``).

    The coefficients are in the order of ``CameraInfo.d``.
    """

    model: str
    coefficients: tuple[float, ...]

    @classmethod
    def from_coefficients(cls, model: str, coefficients: Sequence[float]) -> DistortionModel | None:
        """Distortion as given in a CameraInfo; None without distortion.

        Raises:
            ConfigError: the model is unknown, or the number of coefficients is wrong.
        """
        values = tuple(float(value) for value in coefficients)
        name = _ALIASES.get(model, model)
        if not any(values) and name != "equidistant":
            return None
        if name not in _COEFFICIENTS:
            known = ", ".join(_COEFFICIENTS)
            raise ConfigError(f"distortion model '{model}' is unknown; known are {known}; use rectified images")
        if len(values) not in _COEFFICIENTS[name] or not np.isfinite(values).all():
            count = " or ".join(map(str, _COEFFICIENTS[name]))
            raise ConfigError(
                f"distortion {list(values)} does not fit '{model}', which has {count} finite coefficients"
            )
        return cls(name, values)

    @property
    def is_fisheye(self) -> bool:
        """Whether the field of view may exceed 180 degrees."""
        return self.model == "equidistant"

    def distort(self, rays: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Project (N, 3) rays in the camera's optical frame to the image plane, with distortion.

        Returns:
            (N, 2) coordinates in units of the focal length, and an (N,) mask of rays for which the model is valid: far
            from the axis the polynomials fold back and would map points from outside the field of view into the image.
        """
        x, y, z = rays.T
        angle = np.arctan2(np.hypot(x, y), z)
        with np.errstate(all="ignore"):
            distorted = self._fisheye(x, y, angle) if self.is_fisheye else self._pinhole(x / z, y / z)
        return np.stack(distorted, axis=1), angle < self.max_valid_angle

    @cached_property
    def max_valid_angle(self) -> float:
        """Largest angle from the optical axis, radians, up to which the image radius grows monotonically."""
        angles = np.linspace(0, np.pi if self.is_fisheye else np.radians(89), _ANGLE_STEPS)
        with np.errstate(all="ignore"):
            if self.is_fisheye:
                radius = self._fisheye(np.ones(_ANGLE_STEPS), np.zeros(_ANGLE_STEPS), angles)[0]
            else:
                radius = np.tan(angles) * self._radial(np.tan(angles) ** 2)
        decreasing = np.flatnonzero(np.diff(radius) <= 0)
        return float(angles[decreasing[0]] if len(decreasing) else angles[-1])

    def _radial(self, r2: NDArray[np.float64]) -> NDArray[np.float64]:
        k1, k2, _, _, k3, k4, k5, k6 = (*self.coefficients, 0.0, 0.0, 0.0, 0.0)[:8]
        return np.asarray((1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6))))

    def _pinhole(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        p1, p2 = self.coefficients[2:4]
        r2 = x * x + y * y
        radial = self._radial(r2)
        return (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )

    def _fisheye(
        self, x: NDArray[np.float64], y: NDArray[np.float64], angle: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        k1, k2, k3, k4 = self.coefficients
        a2 = angle * angle
        distorted = angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))
        scale = distorted / np.maximum(np.hypot(x, y), np.finfo(np.float64).tiny)
        return x * scale, y * scale
