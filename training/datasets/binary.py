"""Raw binary arrays: sweeps and labels as stored by SemanticKITTI and nuScenes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.file_reading import content_errors, read_file

_HEADER_BYTES = 1 << 12


def read_rows(path: Path, dtype: DTypeLike, columns: int) -> NDArray[Any]:
    """Read a file of (N, columns) numbers.

    Raises:
        ConfigError: the file cannot be read, or is truncated within a row.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; fetch it again") from error
    row = columns * np.dtype(dtype).itemsize
    if len(data) % row:
        raise ConfigError(
            f"{path} is truncated: its size of {len(data)} bytes is not a multiple of {row}; fetch it again"
        )
    return np.frombuffer(data, dtype).reshape(-1, columns)


def read_labels(path: Path, dtype: DTypeLike, sweep: Path, bytes_per_point: int) -> NDArray[Any]:
    """Read the (N,) raw labels of a sweep's N points; the file of the points gives N.

    Raises:
        ConfigError: a file cannot be read, or the numbers of labels and points differ.
    """
    labels = read_rows(path, dtype, 1)[:, 0]
    points = points_in(sweep, bytes_per_point)
    if len(labels) != points:
        raise ConfigError(f"{path} has {len(labels)} labels for the {points} points of {sweep}; fetch both again")
    return labels


def read_panoptic_labels(path: Path, dtype: DTypeLike, sweep: Path, bytes_per_point: int) -> NDArray[Any]:
    """The classes in a file of Panoptic nuScenes, ``class * 1000 + instance``; arguments and errors as before."""
    damaged = f"cannot read {path}: it is not a file of Panoptic nuScenes; fetch it again"
    content = read_file(path, f"cannot read {path}: there is no such file; fetch it again")
    points = points_in(sweep, bytes_per_point)
    with (
        content_errors(path, lambda error: ConfigError(damaged)),
        np.load(io.BytesIO(content), allow_pickle=False) as stored,
    ):
        if stored.zip.getinfo("data.npy").file_size > _HEADER_BYTES + 8 * points:
            raise ValueError("more labels than points")  # before memory is allocated for them
        data = stored["data"]
    labels = (data // 1000).astype(dtype) if data.ndim == 1 and data.dtype.kind == "u" else np.zeros(0, dtype)
    if len(labels) != points:
        raise ConfigError(f"{path} has {len(labels)} labels for the {points} points of {sweep}; fetch both again")
    return labels


def points_in(sweep: Path, bytes_per_point: int) -> int:
    """Number of points in a sweep's file, from its size.

    Raises:
        ConfigError: the file does not exist.
    """
    try:
        return sweep.stat().st_size // bytes_per_point
    except OSError as error:
        raise ConfigError(f"cannot read {sweep}: {error.strerror}; fetch it again") from error
