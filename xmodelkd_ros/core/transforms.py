"""Rigid transforms between frames, and pose interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodelkd_ros.core.errors import ConfigError

_MIN_QUATERNION_NORM = 1e-6


def transform(translation: Sequence[float], quaternion_xyzw: Sequence[float]) -> NDArray[np.float64]:
    """(4, 4) homogeneous transform from a translation (metres) and a quaternion x, y, z, w (normalised here)."""
    matrix: NDArray[np.float64] = transforms([translation], [quaternion_xyzw])[0]
    return matrix


def transforms(translations: ArrayLike, quaternions_xyzw: ArrayLike) -> NDArray[np.float64]:
    """(M, 4, 4) homogeneous transforms from (M, 3) translations (metres) and (M, 4) quaternions (normalised here).

    Raises:
        ConfigError: a quaternion is zero or not finite, or a translation is not finite.
    """
    quaternions, positions = np.asarray(quaternions_xyzw, np.float64), np.asarray(translations, np.float64)
    invalid = ~np.isfinite(positions).all(axis=1)
    if invalid.any():
        raise ConfigError(f"translation {positions[invalid][0].tolist()} is not finite")
    with np.errstate(over="ignore"):
        norm = np.linalg.norm(quaternions, axis=1, keepdims=True)
    invalid = ~(np.isfinite(norm) & (norm > _MIN_QUATERNION_NORM)).ravel()
    if invalid.any():
        raise ConfigError(f"quaternion {quaternions[invalid][0].tolist()} is not a rotation")
    x, y, z, w = (quaternions / norm).T
    matrices = np.zeros((len(quaternions), 4, 4))
    matrices[:, 0, :3] = np.column_stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)])
    matrices[:, 1, :3] = np.column_stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)])
    matrices[:, 2, :3] = np.column_stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)])
    matrices[:, :3, 3] = positions
    matrices[:, 3, 3] = 1.0
    return matrices


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a (4, 4) rigid transform."""
    result = np.eye(4)
    result[:3, :3] = matrix[:3, :3].T
    result[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return result


def quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Unit quaternion x, y, z, w of a (3, 3) rotation (Bar-Itzhack 2000: eigenvector of the 4 x 4 matrix)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    symmetric = np.array(
        [
            [a - e - i, d + b, g + c, h - f],
            [d + b, e - a - i, h + f, c - g],
            [g + c, h + f, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    x, y, z, w = np.linalg.eigh(symmetric)[1][:, -1]
    sign = 1.0 if w >= 0 else -1.0
    return float(sign * x), float(sign * y), float(sign * z), float(sign * w)


class PoseTrack:
    """Trajectory of poses with linear interpolation of positions and (renormalised) quaternions.

    Args:
        times_s: (F,) ascending, seconds.
        positions: (F, 3) metres.
        quaternions: (F, 4) x, y, z, w; signs may change between neighbours.

    Raises:
        ConfigError: lengths differ, values are not finite, or times are not ascending.
    """

    def __init__(self, times_s: ArrayLike, positions: ArrayLike, quaternions: ArrayLike) -> None:
        try:
            self.times_s = np.asarray(times_s, np.float64)
            self.positions = np.asarray(positions, np.float64)
            signed = np.array(quaternions, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"poses over time must be numbers: {error}") from error
        self._check(signed)
        flips = np.cumprod(np.where((signed[1:] * signed[:-1]).sum(axis=1) < 0, -1.0, 1.0))
        signed[1:] *= flips[:, None]
        self.quaternions = signed

    def _check(self, quaternions: NDArray[np.float64]) -> None:
        count = self.times_s.size
        shapes = self.times_s.shape, self.positions.shape, quaternions.shape
        if count == 0 or shapes != ((count,), (count, 3), (count, 4)):
            raise ConfigError(
                f"poses over time have shapes {shapes}; each time needs x, y, z and a quaternion x, y, z, w"
            )
        if not all(np.isfinite(part).all() for part in (self.times_s, self.positions, quaternions)):
            raise ConfigError("poses over time must be finite")
        if (np.diff(self.times_s) < 0).any():
            raise ConfigError("the times of poses must be ascending")

    @classmethod
    def of_matrices(cls, times_s: ArrayLike, poses: NDArray[np.float64]) -> PoseTrack:
        """Track of (F, 4, 4) poses; errors as in the class."""
        if not np.isfinite(poses).all():
            raise ConfigError("poses over time must be finite")
        return cls(times_s, poses[:, :3, 3], [quaternion(rotation) for rotation in poses[:, :3, :3]])

    def poses(self, times_s: ArrayLike) -> NDArray[np.float64]:
        """(M, 4, 4) poses at (M,) times; constant before the first and after the last time."""
        times = np.atleast_1d(np.asarray(times_s, np.float64))
        position = np.column_stack([np.interp(times, self.times_s, column) for column in self.positions.T])
        heading = np.column_stack([np.interp(times, self.times_s, column) for column in self.quaternions.T])
        return transforms(position, heading)
