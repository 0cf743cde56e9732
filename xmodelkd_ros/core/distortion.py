"""Lens distortion: the models of ``sensor_msgs/CameraInfo``, by OpenCV's formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ConfigError

_PINHOLE = "plumb_bob", "rational_polynomial"
_FISHEYE = "equidistant"
_COUNTS = {**dict.fromkeys(_PINHOLE, (4, 5, 8, 12, 14)), _FISHEYE: (4,)}
"""Permitted numbers of coefficients: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tau_x tau_y]]]], for the fisheye
k1 k2 k3 k4. OpenCV, image_proc and their calibration tools tell the first two models apart by the number only."""
_ALIASES = {
    "radtan": "plumb_bob",
    **dict.fromkeys(("fisheye", "equi", "kannala_brandt", "kannala_brandt4"), _FISHEYE),
}
_ANGLE_STEPS, _DIRECTIONS = 2000, 16


@dataclass(frozen=True)
class DistortionModel:
    """A distortion model: ``plumb_bob``, ``rational_polynomial`` (also with thin prism and tilt) or ``equidistant``.

    The coefficients are in the order of ``CameraInfo.d``, filled up with zeros.
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
        name = "_".join(model.lower().replace("-", " ").split())
        name = _ALIASES.get(name, name)
        if not any(values):
            if name != _FISHEYE and "fisheye" not in name:
                return None
            name = _FISHEYE  # a fisheye without distortion is not a pinhole camera
        if name not in _COUNTS:
            known = ", ".join(_COUNTS)
            raise ConfigError(f"distortion model '{model}' is unknown; known are {known}; use rectified images")
        counts = _COUNTS[name]
        # Some calibration tools append zeros.
        used = len(np.trim_zeros(values, "b"))
        fits = len(values) in counts or any(used <= count < len(values) for count in counts)
        if not fits or not np.isfinite(values).all():
            count = " or ".join(", ".join(map(str, part)) for part in (counts[:-1], counts[-1:]) if part)
            raise ConfigError(
                f"distortion {list(values)} does not fit '{model}', which has {count} finite coefficients"
            )
        return cls(name, (*values, *[0.0] * counts[-1])[: counts[-1]])

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
        """Largest angle from the optical axis, radians, up to which the image radius grows in every direction."""
        angles = np.linspace(0, np.pi if self.is_fisheye else np.radians(89), _ANGLE_STEPS)
        azimuth = np.linspace(0, 2 * np.pi, 1 if self.is_fisheye else _DIRECTIONS, endpoint=False)[:, None]
        cos, sin = np.cos(azimuth), np.sin(azimuth)
        with np.errstate(all="ignore"):
            if self.is_fisheye:
                radius = self._fisheye(np.ones(_ANGLE_STEPS), np.zeros(_ANGLE_STEPS), angles)[0][None]
            else:
                x, y = self._lens(np.tan(angles) * cos, np.tan(angles) * sin)
                radius = x * cos + y * sin
            decreasing = np.flatnonzero(~(np.diff(radius) > 0).all(axis=0))
        return float(angles[decreasing[0]] if len(decreasing) else angles[-1])

    def _pinhole(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distorted coordinates of normalised ones, by the formulas in OpenCV's documentation of ``calib3d``."""
        x, y = self._lens(x, y)
        if not any(self.coefficients[12:]):
            return x, y
        u, v, w = np.tensordot(_tilt(*self.coefficients[12:]), np.stack([x, y, np.ones_like(x)]), 1)
        return u / w, v / w

    def _lens(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Radial, tangential and thin prism distortion."""
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = self.coefficients[:12]
        r2 = x * x + y * y
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        return (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4),
        )

    def _fisheye(
        self, x: NDArray[np.float64], y: NDArray[np.float64], angle: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        k1, k2, k3, k4 = self.coefficients
        a2 = angle * angle
        distorted = angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))
        scale = distorted / np.maximum(np.hypot(x, y), np.finfo(np.float64).tiny)
        return x * scale, y * scale


def _tilt(tau_x: float, tau_y: float) -> NDArray[np.float64]:
    """(3, 3) homography of a sensor tilted about x and y, radians (Scheimpflug), as in OpenCV's documentation."""
    cos_x, sin_x, cos_y, sin_y = np.cos(tau_x), np.sin(tau_x), np.cos(tau_y), np.sin(tau_y)
    rotation = np.array([[cos_y, 0, -sin_y], [0, 1, 0], [sin_y, 0, cos_y]])
    rotation = rotation @ [[1, 0, 0], [0, cos_x, sin_x], [0, -sin_x, cos_x]]
    onto_sensor = [[rotation[2, 2], 0, -rotation[0, 2]], [0, rotation[2, 2], -rotation[1, 2]], [0, 0, 1]]
    return np.asarray(onto_sensor @ rotation)
