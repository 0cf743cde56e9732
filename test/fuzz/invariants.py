"""Invariants of a labelled sweep for any input (design 4.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from test.fuzz.target import ensure
from xmodelkd_ros.core.cloud import PointCloud, Segmentation

IGNORE = 255
NEAR_M, FAR_M = 1.0, 500.0
"""Range in which any LiDAR measures."""
_LAYOUT = (("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("", 12, 2), ("probability", 16, 7), ("entropy", 20, 7))
"""Name, offset and type of each field; the label's has one of two names."""
_POINT = np.dtype(
    {
        "names": ["x", "y", "z", "label", "probability", "entropy"],
        "formats": ["<f4", "<f4", "<f4", "u1", "<f4", "<f4"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)


def check_segmentation(cloud: PointCloud, found: Segmentation, ids: NDArray[np.integer]) -> None:
    """Check that there is one valid label per point.

    Args:
        cloud: input.
        found: output.
        ids: class ids.
    """
    ensure(len(found) == len(cloud), "not one label per point")
    check_labels(cloud.xyz, found.label, found.probability, found.entropy, ids)


def check_labels(
    xyz: NDArray[np.float32],
    label: NDArray[np.uint8],
    probability: NDArray[np.float32],
    entropy: NDArray[np.float32],
    ids: NDArray[np.integer],
) -> None:
    """Check labels of (N, 3) points: a class with probability and entropy, or 255, 0 and NaN."""
    none = label == IGNORE
    ensure((probability[none] == 0).all(), "a point with label 255 has a probability")
    ensure(np.isnan(entropy[none]).all(), "a point with label 255 has an entropy")
    ensure(np.isin(label[~none], ids).all(), "a label is not a class")
    ensure(((probability[~none] > 0) & (probability[~none] <= 1)).all(), "a probability is not in 0..1")
    ensure(((entropy[~none] >= 0) & (entropy[~none] <= 1)).all(), "an entropy is not in 0..1")
    ensure(none[~np.isfinite(xyz).all(axis=1)].all(), "a point without a position has a label")


def certain(xyz: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) whether points are within the range of any LiDAR."""
    with np.errstate(all="ignore"):
        distance = np.linalg.norm(xyz.astype(np.float64), axis=1)
        return (distance > NEAR_M) & (distance < FAR_M)


def check_message(sent: Any, cloud: PointCloud, labelled: Any, field: str, ids: NDArray[np.integer]) -> None:
    """Check the labelled cloud message of a sweep.

    Args:
        sent: input PointCloud2.
        cloud: its points.
        labelled: output PointCloud2.
        field: name of its label field.
        ids: class ids.
    """
    size = (labelled.height, labelled.width)
    ensure(labelled.header == sent.header, "the header differs")
    ensure(size == (cloud.height, cloud.width), "the organisation differs")
    layout = [(f.name, f.offset, f.datatype, f.count) for f in labelled.fields]
    ensure(layout == [(name or field, at, kind, 1) for name, at, kind in _LAYOUT], "the layout differs")
    data = np.frombuffer(bytes(labelled.data), np.uint8)
    ensure(labelled.point_step == 24 and len(data) == 24 * len(cloud), "the data size differs")
    ensure(labelled.row_step == 24 * labelled.width * (labelled.height > 0), "the row size differs")
    points = data.view(_POINT)
    xyz = np.stack([points["x"], points["y"], points["z"]], axis=1)
    ensure(np.array_equal(xyz, cloud.xyz, equal_nan=True), "points have moved")
    check_labels(cloud.xyz, points["label"], points["probability"], points["entropy"], ids)
    ensure(labelled.is_dense == (not (points["label"] == IGNORE).any()), "is_dense is wrong")
