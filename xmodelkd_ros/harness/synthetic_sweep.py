"""Synthetic sweeps of a street, for a LiDAR with a given beam table."""

from __future__ import annotations

from typing import Any

import numpy as np

from xmodelkd_ros.bags.bag import ROSBAGS_TYPES, message_class
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.messages.clouds import truth_to_msg

_SENSOR_HEIGHT_M = 2.0
_STREET_HALF_WIDTH_M = 12.0
_MAX_RANGE_M = 120.0


def synthetic_sweep(spec: ProjectionSpec, points: int) -> PointCloud:
    """Sweep of a street: road below, a wall on either side.

    Args:
        spec: the beam table.
        points: number of points, ordered by azimuth, then by beam, as drivers publish them.
    """
    rng = np.random.default_rng(0)
    beams = np.radians(spec.beam_elevations_deg)
    index = np.arange(points)
    elevation = beams[index % len(beams)] + np.radians(0.004) * rng.standard_normal(points)
    azimuth = np.pi - 2 * np.pi * (index // len(beams)) * len(beams) / points
    direction = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=1
    )
    with np.errstate(divide="ignore"):
        road = np.where(direction[:, 2] < 0, -_SENSOR_HEIGHT_M / direction[:, 2], np.inf)
        wall = _STREET_HALF_WIDTH_M / np.abs(direction[:, 1])
    distance = np.minimum(np.minimum(road, wall), _MAX_RANGE_M) + 0.02 * rng.standard_normal(points)
    xyz = (direction * distance[:, None]).astype(np.float32)
    return PointCloud(xyz, rng.uniform(0, 100, points).astype(np.float32))


def sweep_message(cloud: PointCloud) -> Any:
    """PointCloud2 of the rosbags library with stamp zero and all labels 255."""
    header = message_class("std_msgs/msg/Header")(message_class("builtin_interfaces/msg/Time")(0, 0), "lidar")
    return truth_to_msg(cloud, np.full(len(cloud), IGNORE, np.uint8), header, ROSBAGS_TYPES)
