"""Check that points lie on the beams of a sensor file, to notice the file of another LiDAR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.sensor import SensorSpec, gaps_deg, nearest

_BETWEEN = 0.25
"""Distance from the nearest beam, relative to that beam's distance from its neighbour, from which a point lies between
beams: half of all points in a cloud without the beams."""
_BEYOND_DEG = 1.0
_MIN_POINTS = 500
OFF_BEAMS, ON_BEAMS = 0.35, 0.25
"""Share of points between the beams, above which a file does not fit, and below which that of another LiDAR does.
Chosen on real and generated drives (docs/evaluation.md)."""


def other_lidar(
    sensor: SensorSpec, xyz: NDArray[np.float32], tables: Callable[[], Mapping[str, Sequence[float]]]
) -> str:
    """Describe why a sensor file is probably that of another LiDAR; empty if it is not.

    Motion compensation, and a frame that is tilted against the LiDAR, move points off the right beams too. Therefore
    the points must lie on the beams of another known LiDAR.

    Args:
        sensor: the sensor file.
        xyz: (N, 3) usable points of some sweeps, metres, in the sensor's frame.
        tables: returns beams of known LiDARs, degrees, by name; called only if the file does not fit.
    """
    if len(xyz) < _MIN_POINTS:
        return ""
    points = xyz.astype(np.float64)
    elevations = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    share = share_between(sensor.beam_elevations_deg, elevations)
    if share <= OFF_BEAMS:
        return ""
    others = {name: share_between(beams, elevations) for name, beams in tables().items()}
    best = min(others, key=lambda name: others[name], default="")
    if not best or others[best] > ON_BEAMS:
        return ""
    return (
        f"{share:.0%} of the points lie between the beams of sensor {sensor.name}, "
        f"{others[best]:.0%} between those of {best}: the sensor file may be that of another LiDAR"
    )


def misfit(beams_deg: Sequence[float], elevations: NDArray[np.float64]) -> float:
    """Share of (N,) elevations between the beams, plus that of those beyond the outer ones."""
    low, high = min(beams_deg) - _BEYOND_DEG, max(beams_deg) + _BEYOND_DEG
    beyond = float(np.mean((elevations < low) | (elevations > high)))
    return beyond + share_between(beams_deg, elevations)


def share_between(beams_deg: Sequence[float], elevations: NDArray[np.float64]) -> float:
    """Share of (N,) elevations (degrees) between the beams, rather than near one: 0.5 if they are not those beams'."""
    beams = np.sort(np.asarray(beams_deg, np.float64))
    index = nearest(beams, elevations)
    return float(np.mean(np.abs(elevations - beams[index]) > _BETWEEN * gaps_deg(beams)[index]))
