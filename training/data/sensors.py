"""The LiDAR of training sweeps: its beams, mounting and intensity scale, as the runtime would estimate them."""

from __future__ import annotations

from collections.abc import Sequence

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.sensor_estimate import (
    TILT_SWEEPS,
    completed,
    find_beams,
    find_mounting,
    mounted,
    sample_sweep,
    sensor_spec,
)
from xmodelkd_ros.resources import AUTO_SENSOR, NO_SENSOR, given_sensor
from xmodelkd_ros.segmentation.auto_sensor import SWEEPS
from xmodelkd_ros.segmentation.beam_fitting import known_beams


def with_ground(sensor: SensorSpec, clouds: Sequence[PointCloud]) -> SensorSpec:
    """The LiDAR with mounting and intensity scale as estimated from some of its sweeps, or from a single one.

    Where the sweeps do not show the ground, the LiDAR's own values are kept.
    """
    samples = [sample for sample in map(sample_sweep, clouds) if sample is not None]
    if not samples:
        return sensor
    mounting = find_mounting(samples if len(samples) >= TILT_SWEEPS else samples * TILT_SWEEPS)
    return sensor if mounting.height_m is None else mounted(sensor, mounting)


def recorded_sensor(name: str, clouds: Sequence[PointCloud], setting: str = AUTO_SENSOR) -> SensorSpec | None:
    """The LiDAR of a recorded drive, estimated from its first sweeps as at run time.

    Args:
        name: of the drive.
        clouds: its sweeps.
        setting: ``auto``; ``none`` for the LiDAR of the network's range image; or a sensor file, of which what it does
            not say is estimated.

    Returns:
        The LiDAR; that of the file, or None, if no sweep has enough usable points to tell it from.

    Raises:
        SensorError: the file cannot be read.
    """
    if setting.strip().lower() == NO_SENSOR:
        return None
    given = given_sensor(setting)
    samples = [sample for sample in map(sample_sweep, clouds[:SWEEPS]) if sample is not None]
    if not samples:
        return given
    mounting = find_mounting(samples, given.intensity_range[0] if given is not None else None)
    if given is not None:
        return completed(given, mounting)
    return sensor_spec(name, find_beams(samples, known_beams(), mounting), mounting)
