"""Boxes around clusters of labelled points: road users of one sweep.

Points of one kind of class are clustered in the plane of the ground, and a rectangle is fitted to each cluster. A box
covers what the LiDAR sees of an object; nothing is added to what it does not see, and objects are not tracked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.ground import leveling_rotation
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.object_box import ObjectBox
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.transforms import quaternion
from xmodelkd_ros.opencv import opencv

_MAX_RANGE_M = 100.0
_CELL_M = 0.2
_FIT_CELL_M = 0.1
_STEP_DEG = 3.0
_NEAR_EDGE_M = 0.1
"""Distance from an edge below which points are equally close: the noise of ranges."""


@dataclass(frozen=True)
class _Kind:
    """Classes whose points are clustered together.

    Attributes:
        names: their names in any label set.
        bridged_cells: cells by which each occupied cell is widened, to bridge gaps within an object.
        min_points: of a cluster.
    """

    names: tuple[str, ...]
    bridged_cells: int
    min_points: int


_KINDS = (
    # Together: labels of one vehicle are at times divided among these.
    _Kind(("car", "truck", "bus", "trailer", "construction_vehicle", "other_vehicle"), 1, 15),
    _Kind(("two_wheeler", "bicycle", "motorcycle", "bicyclist", "motorcyclist"), 1, 8),
    _Kind(("person", "pedestrian"), 0, 5),
)


@dataclass(frozen=True, eq=False)
class _Clusters:
    """Points of the clusters of a kind, in the order of the clusters.

    Attributes:
        index: (M,) index of each point in the sweep.
        xyz: (M, 3) its levelled position.
        starts: (K,) index of each cluster's first point.
    """

    index: NDArray[np.intp]
    xyz: NDArray[np.float32]
    starts: NDArray[np.intp]

    @property
    def counts(self) -> NDArray[np.intp]:
        return np.diff(self.starts, append=len(self.index))


def object_boxes(
    xyz: NDArray[np.float32], segmentation: Segmentation, labels: LabelMap, sensor: SensorSpec | None = None
) -> list[ObjectBox]:
    """Boxes around the road users of a sweep.

    Args:
        xyz: (N, 3) points in metres.
        segmentation: their labels.
        labels: the label set of these. Of its classes, those called car, truck, bus, trailer, construction_vehicle,
            other_vehicle; two_wheeler, bicycle, motorcycle, bicyclist, motorcyclist; person and pedestrian are objects.
        sensor: the LiDAR, whose attitude levels the points; None: level already.

    Raises:
        ImageError: OpenCV, which finds the clusters, is not installed.
    """
    leveling = np.eye(3) if sensor is None else leveling_rotation(sensor.roll_deg, sensor.pitch_deg)
    boxes: list[ObjectBox] = []
    for kind in _KINDS:
        ids = np.array([labels.id_of(name) for name in kind.names if labels.has_class(name)], np.uint8)
        of_kind = np.zeros(256, np.bool_)
        of_kind[ids] = True
        clusters = _clusters(xyz, np.flatnonzero(of_kind[segmentation.label]), leveling, kind)
        if len(clusters.starts):
            boxes += _boxes(clusters, segmentation, labels, leveling)
    return boxes


def _clusters(
    xyz: NDArray[np.float32], index: NDArray[np.intp], leveling: NDArray[np.float64], kind: _Kind
) -> _Clusters:
    """Cluster points by connected cells of a grid in the plane of the ground."""
    level = xyz[index] @ leveling.T.astype(np.float32)
    near = (np.abs(level[:, :2]) < _MAX_RANGE_M).all(axis=1)
    index, level = index[near], level[near]
    if not len(index):
        return _Clusters(index, level, np.zeros(0, np.intp))
    cells = np.floor(level[:, :2] / _CELL_M).astype(np.intp)
    cells -= cells.min(axis=0) - kind.bridged_cells
    grid = np.zeros(cells.max(axis=0) + 1 + kind.bridged_cells, np.uint8)
    grid[cells[:, 0], cells[:, 1]] = 1
    cv2 = opencv()
    if kind.bridged_cells:
        grid = cv2.dilate(grid, np.ones((2 * kind.bridged_cells + 1,) * 2, np.uint8))
    _, components = cv2.connectedComponents(grid, connectivity=8)
    cluster = components[cells[:, 0], cells[:, 1]]
    counts = np.bincount(cluster)
    large = counts[cluster] >= kind.min_points
    order = np.argsort(cluster[large], kind="stable")
    index, level, cluster = index[large][order], level[large][order], cluster[large][order]
    starts = np.flatnonzero(np.diff(cluster, prepend=-1))
    return _Clusters(index, level, starts)


def _boxes(
    clusters: _Clusters, segmentation: Segmentation, labels: LabelMap, leveling: NDArray[np.float64]
) -> list[ObjectBox]:
    """The box of each cluster."""
    starts, counts, xyz = clusters.starts, clusters.counts, clusters.xyz
    yaw = _yaws(clusters)
    cos, sin = (np.repeat(f(yaw), counts).astype(np.float32) for f in (np.cos, np.sin))
    in_box = np.stack([xyz[:, 0] * cos + xyz[:, 1] * sin, xyz[:, 1] * cos - xyz[:, 0] * sin, xyz[:, 2]], axis=1)
    low, high = np.minimum.reduceat(in_box, starts), np.maximum.reduceat(in_box, starts)
    probability = np.add.reduceat(segmentation.probability[clusters.index], starts, dtype=np.float64) / counts
    centers, orientations = _poses((low + high) / 2, yaw, leveling)
    found = np.split(segmentation.label[clusters.index], starts[1:])
    name_of = {c.id: c.name for c in labels.classes}
    names = [name_of[int(np.bincount(ids).argmax())] for ids in found]
    columns = (names, probability, centers, orientations, high - low, counts)
    return [
        ObjectBox(name, float(mean), tuple(center), tuple(turn), tuple(size), int(count))
        for name, mean, center, turn, size, count in zip(*(np.asarray(c).tolist() for c in columns), strict=True)
    ]


def _poses(
    centers: NDArray[np.floating], yaw: NDArray[np.float64], leveling: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K, 3) centres and (K, 4) quaternions in the cloud's frame, from centres along the axes of each box."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    level = np.stack(
        [cos * centers[:, 0] - sin * centers[:, 1], sin * centers[:, 0] + cos * centers[:, 1], centers[:, 2]], axis=1
    )
    x, y, z, w = quaternion(leveling.T)
    half_cos, half_sin = np.cos(yaw / 2), np.sin(yaw / 2)
    # The product of the quaternion of the frame and (0, 0, sin, cos).
    turned = [x * half_cos + y * half_sin, y * half_cos - x * half_sin, z * half_cos + w * half_sin]
    return level @ leveling, np.stack([*turned, w * half_cos - z * half_sin], axis=1)


def _yaws(clusters: _Clusters) -> NDArray[np.float64]:
    """Direction of the longer side of each cluster, in radians.

    The closeness criterion of Zhang et al. 2017, *Efficient L-Shape Fitting for Vehicle Detection Using Laser
    Scanners*: of all rectangles around the points, that whose edges they are closest to. Clusters are sampled by small
    cells, and all are searched at once.
    """
    xy, starts = _sampled(clusters)
    angles = np.radians(np.arange(0, 90, _STEP_DEG))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    along, across = (xy[:, :1] * cos + xy[:, 1:] * sin), (xy[:, 1:] * cos - xy[:, :1] * sin)
    counts = np.diff(starts, append=len(xy))
    lengths, distance = [], []
    for position in (along, across):
        low, high = np.minimum.reduceat(position, starts, axis=0), np.maximum.reduceat(position, starts, axis=0)
        lengths.append(high - low)
        middle = np.repeat((low + high) / 2, counts, axis=0)
        np.subtract(position, middle, out=position)
        np.abs(position, out=position)
        distance.append(np.repeat((high - low) / 2, counts, axis=0) - position)
    nearest = np.maximum(np.minimum(*distance), np.float32(_NEAR_EDGE_M))
    best = np.add.reduceat(1 / nearest, starts, axis=0).argmax(axis=1)
    cluster = np.arange(len(starts))
    is_wide = lengths[1][cluster, best] > lengths[0][cluster, best]
    return np.asarray(angles[best] + np.where(is_wide, np.pi / 2, 0))


def _sampled(clusters: _Clusters) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """One point of each small cell of the plane in each cluster, and the index of each cluster's first."""
    number = np.repeat(np.arange(len(clusters.starts)), clusters.counts)
    cells = np.floor(clusters.xyz[:, :2] / _FIT_CELL_M).astype(np.int64) + 4096
    _, first = np.unique((number << 26) + (cells[:, 0] << 13) + cells[:, 1], return_index=True)
    return clusters.xyz[first, :2], np.flatnonzero(np.diff(number[first], prepend=-1))
