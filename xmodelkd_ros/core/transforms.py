"""Rigid transforms between frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def transform(translation: Sequence[float], quaternion_xyzw: Sequence[float]) -> NDArray[np.float64]:
    """(4, 4) homogeneous transform from a translation (metres) and a quaternion x, y, z, w (normalised here)."""
    x, y, z, w = np.asarray(quaternion_xyzw, np.float64) / np.linalg.norm(quaternion_xyzw)
    matrix = np.eye(4)
    matrix[:3, :3] = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    matrix[:3, 3] = translation
    return matrix


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
