"""Files that are bare arrays: sweeps and labels as SemanticKITTI and nuScenes store them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from xmodelkd_ros.core.errors import ConfigError


def read_rows(path: Path, dtype: DTypeLike, columns: int) -> NDArray[Any]:
    """(N, columns) numbers of a file.

    Raises:
        ConfigError: the file cannot be read, or does not end with a whole row.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; fetch it again") from error
    row = columns * np.dtype(dtype).itemsize
    if len(data) % row:
        raise ConfigError(f"{path} is cut off: {len(data)} bytes are no whole number of {row}; fetch it again")
    return np.frombuffer(data, dtype).reshape(-1, columns)


def read_labels(path: Path, dtype: DTypeLike, sweep: Path, bytes_per_point: int) -> NDArray[Any]:
    """(N,) raw label of each point of a sweep.

    Args:
        path: the labels.
        dtype: of a label.
        sweep: the file of the points.
        bytes_per_point: in that file.

    Raises:
        ConfigError: a file cannot be read, or there are not as many labels as points.
    """
    labels = read_rows(path, dtype, 1)[:, 0]
    points = points_in(sweep, bytes_per_point)
    if len(labels) != points:
        raise ConfigError(f"{path} has {len(labels)} labels for the {points} points of {sweep}; fetch both again")
    return labels


def points_in(sweep: Path, bytes_per_point: int) -> int:
    """How many points a sweep's file holds, by its size.

    Raises:
        ConfigError: there is no such file.
    """
    try:
        return sweep.stat().st_size // bytes_per_point
    except OSError as error:
        raise ConfigError(f"cannot read {sweep}: {error.strerror}; fetch it again") from error
