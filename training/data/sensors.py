"""The LiDAR of training sweeps: its beams, mounting and intensity scale, as the runtime would estimate them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from xmodelkd_ros.core.beam_fit import fit_sweeps
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.ground import common_ground, find_ground
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.usable_points import usable_mask
from xmodelkd_ros.resources import shipped_sensors

SWEEPS = 10
"""Sweeps of a drive from which its LiDAR is estimated."""
_MIN_TILT_DEG = 2.0
_ROWS = 64


def with_ground(sensor: SensorSpec, clouds: Sequence[PointCloud]) -> SensorSpec:
    """The LiDAR with mounting and intensity scale as estimated from some of its sweeps.

    Where the sweeps do not show the ground, the LiDAR's own values are kept.
    """
    ground = common_ground([find_ground(cloud.xyz, cloud.intensity) for cloud in clouds])
    if ground is None:
        return sensor
    tilted = max(abs(ground.roll_deg), abs(ground.pitch_deg)) >= _MIN_TILT_DEG
    return replace(
        sensor,
        ground_intensity=round(ground.intensity or 0.0, 6),
        height_m=round(ground.height_m, 3),
        roll_deg=round(ground.roll_deg, 2) if tilted else 0.0,
        pitch_deg=round(ground.pitch_deg, 2) if tilted else 0.0,
    )


def sensor_with_beams(name: str, clouds: Sequence[PointCloud]) -> SensorSpec:
    """A LiDAR with the beams that its sweeps tell; evenly spaced over its field of view if they cannot be told apart.

    Args:
        name: of the LiDAR.
        clouds: its sweeps.
    """
    try:
        tables = {product: SensorSpec.read(path).beam_elevations_deg for product, path in shipped_sensors().items()}
        return SensorSpec(name, fit_sweeps(clouds, tables).beams_deg)
    except SensorError:
        xyz = np.concatenate([cloud.xyz[usable_mask(cloud.xyz, 1.0)] for cloud in clouds])
        elevations = np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
        low, high = np.quantile(elevations, (0.002, 0.998))
        return SensorSpec(name, tuple(np.linspace(high, low, _ROWS).round(3).tolist()))
