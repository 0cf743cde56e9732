"""What single points look like without a network: shape and intensity around them, colour where they are seen."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, maximum_filter, minimum_filter
from scipy.spatial import cKDTree

_VOXELS_M = (0.1, 0.3, 1.0)
_NEIGHBOURS = 16
_GROUND_CELL_M = 1.0
_GROUND_WINDOW = 9
"""Cells; what is narrower stands on the ground, what is wider is ground."""

_COLOUR_WINDOW = 5


def neighbourhood_features(
    queries: NDArray[np.floating], xyz: NDArray[np.floating], intensity: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shape and intensity around points at several scales.

    A scale is the cloud thinned to one point per voxel: the nearest few then reach as far everywhere,
    however dense the beams lie (Hackel et al. 2016, "Fast semantic segmentation of 3D point clouds
    with strongly varying density"). None of the numbers changes when the scene turns about z.

    Args:
        queries: (N, 3) points, metres, z up.
        xyz: (M, 3) the whole cloud.
        intensity: (M,) of the cloud.

    Returns:
        (N, 8 S) shape: linearity, planarity, scatter, |z| of normal and of main direction, height over
        the lowest and below the highest neighbour, distance of the farthest; and (N, 2 S) mean and
        standard deviation of the intensity.
    """
    shapes, bright = [], []
    for voxel in _VOXELS_M:
        centres, values = _thin(xyz, intensity, voxel)
        nearest = np.arange(1, min(_NEIGHBOURS, len(centres)) + 1)
        distance, index = cKDTree(centres).query(queries, nearest, workers=-1)
        z = centres[index, 2]
        vertical = np.column_stack([queries[:, 2] - z.min(axis=1), z.max(axis=1) - queries[:, 2]])
        shapes += [_spread(centres[index]), vertical, np.log(distance[:, -1:] + 0.01)]
        bright += [values[index].mean(axis=1, keepdims=True), values[index].std(axis=1, keepdims=True)]
    return np.hstack(shapes), np.hstack(bright)


def _thin(
    xyz: NDArray[np.floating], intensity: NDArray[np.floating], voxel: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean position (V, 3) and intensity (V,) of the points in each occupied voxel."""
    cells = np.floor(xyz / voxel).astype(np.int64)
    cells -= cells.min(axis=0)
    _, inverse, counts = np.unique(
        np.ravel_multi_index(tuple(cells.T), tuple(cells.max(axis=0) + 1)), return_inverse=True, return_counts=True
    )
    sums = [np.bincount(inverse, column) / counts for column in (*xyz.T, intensity)]
    return np.column_stack(sums[:3]), sums[3]


def _spread(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 5) from the covariances of (N, K, 3) points: linearity, planarity, scatter, |z| of normal and direction."""
    centred = points - points.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
    small, middle, large = np.maximum(values, 0).T
    shares = np.column_stack([large - middle, middle - small, small]) / np.maximum(large, 1e-9)[:, None]
    return np.column_stack([shares, np.abs(vectors[:, 2, 0]), np.abs(vectors[:, 2, 2])])


def ground_height(xyz: NDArray[np.floating], at: NDArray[np.floating]) -> NDArray[np.float64]:
    """Height of the ground below (N, 3) points: morphological opening of the lowest points of (M, 3) on a grid."""
    corner = xyz[:, :2].min(axis=0)
    cells = ((xyz[:, :2] - corner) / _GROUND_CELL_M).astype(np.int64)
    lowest = np.full(cells.max(axis=0) + 1, np.inf)
    np.minimum.at(lowest, tuple(cells.T), xyz[:, 2])
    eroded = minimum_filter(lowest, _GROUND_WINDOW, mode="nearest")
    opened = maximum_filter(np.where(np.isfinite(eroded), eroded, -np.inf), _GROUND_WINDOW, mode="nearest")
    place = (at[:, :2] - corner) / _GROUND_CELL_M - 0.5
    # Around an occupied cell every cell is filled, so no infinity enters.
    return np.asarray(map_coordinates(opened, place.T, order=1, mode="nearest"))


def mean_colour(pixels: NDArray[np.uint8], uv: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, 6) mean of 5 x 5 pixels around (N, 2) pixels: r, g, b, hue as a vector as long as the saturation, value."""
    mean = cv2.blur(pixels, (_COLOUR_WINDOW, _COLOUR_WINDOW))
    columns, rows = np.clip(np.rint(uv).astype(np.int64), 0, np.array(pixels.shape[1::-1]) - 1).T
    rgb = mean[rows, columns].astype(np.float32) / 255
    hue, saturation, value = cv2.cvtColor(rgb[None], cv2.COLOR_RGB2HSV)[0].T
    angle = np.radians(hue)
    return np.column_stack([rgb, saturation * np.cos(angle), saturation * np.sin(angle), value])
