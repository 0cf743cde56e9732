"""Corruptions of whole beams: lost beams, and the beams of another LiDAR."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.data.sweeps import Sweep
from training.experiments.corruption.points import without
from training.worldgen.sensing.products import BEAM_TABLES
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.sensor import nearest

_BAND_DEG = 0.2
_MAX_SHIFT_DEG = 0.35
"""Maximum change of a point's elevation: 12 cm at 20 m."""
_SAME_BEAM_DEG = 0.02
"""Elevations of one beam vary by less within a few columns: with the Pandar64's own table, 99.5 % of a PandaSet sweep
is kept."""
_COLUMNS = 1800
"""Azimuth cells of 0.2 degrees, about the resolution of the supported LiDARs."""


def without_beams(sweep: Sweep, share: float, rng: np.random.Generator) -> Sweep:
    """Remove all points in a random share of elevation bands of 0.2 degrees, for any LiDAR.

    Robo3D's beam missing, which removes 16, 32 or 48 of 64 beams.
    """
    xyz = sweep.cloud.xyz
    elevation = np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
    bands = round(180 / _BAND_DEG)
    band = np.clip(np.nan_to_num((elevation + 90) / _BAND_DEG), 0, bands - 1).astype(np.int64)
    return without(sweep, (rng.random(bands) < share)[band])


def on_other_sensor(sweep: Sweep, lidar: str, rng: np.random.Generator) -> Sweep:
    """Resample a sweep to the beams of another LiDAR. Deterministic: ``rng`` is not used.

    Each target beam takes the points of the nearest source beam, or of two that are equally near; where the nearest has
    no point, those of the next one. Points keep range, azimuth, intensity and label, and get the target's elevation.
    All other points are lost, as are those that would move too far. Robo3D's cross-sensor corruption only removes beams
    of the same LiDAR, whose elevations the network was trained on.
    """
    usable = np.flatnonzero(np.isfinite(sweep.cloud.xyz).all(axis=1) & sweep.cloud.xyz.any(axis=1))
    xyz, beams = sweep.cloud.xyz[usable].astype(np.float64), np.asarray(BEAM_TABLES[lidar])
    elevation = elevations_deg(sweep.cloud.xyz[usable])
    beam = nearest(beams, elevation)
    offset = np.abs(elevation - beams[beam])
    chosen = (offset < _MAX_SHIFT_DEG) & (offset < _local_min_offset(xyz, beam, offset, len(beams)) + _SAME_BEAM_DEG)
    distance, target = np.linalg.norm(xyz, axis=1), np.radians(beams[beam])
    flat = distance * np.cos(target) / np.maximum(np.hypot(xyz[:, 0], xyz[:, 1]), 1e-9)
    moved = sweep.cloud.xyz.copy()
    moved[usable] = np.column_stack([xyz[:, 0] * flat, xyz[:, 1] * flat, distance * np.sin(target)])
    lost = np.ones(len(sweep.labels), np.bool_)
    lost[usable] = ~chosen
    sensor = sweep.sensor and replace(sweep.sensor, name=lidar, beam_elevations_deg=BEAM_TABLES[lidar])
    return replace(without(sweep.with_cloud(moved, sweep.cloud.intensity), lost), sensor=sensor)


def _local_min_offset(
    xyz: NDArray[np.float64], beam: NDArray[np.intp], offset: NDArray[np.float64], beams: int
) -> NDArray[np.float64]:
    """(N,) smallest elevation offset to a point's target beam among the points within 0.2 degrees of azimuth.

    Args:
        xyz: (N, 3) the points.
        beam: (N,) index of the target beam nearest to each.
        offset: (N,) elevation offset to it, degrees.
        beams: number of target beams.
    """
    turn = np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi) + 0.5
    column = (turn * _COLUMNS).astype(np.int64) % _COLUMNS
    smallest = np.full((_COLUMNS, beams), np.inf)
    np.minimum.at(smallest, (column, beam), offset)
    around = np.minimum(smallest, np.minimum(np.roll(smallest, 1, axis=0), np.roll(smallest, -1, axis=0)))
    return np.asarray(around[column, beam])
