"""Corruptions of whole beams: some are lost, or all are those of another LiDAR."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.data.sweeps import Sweep
from training.experiments.corruption.points import without
from training.worldgen.sensing.sensors import BEAM_TABLES
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.sensor import nearest

_BAND_DEG = 0.2
_FARTHEST_DEG = 0.35
"""A point moves no farther than this to another beam: 12 cm at 20 m."""
_SAME_BEAM_DEG = 0.02
"""Elevations of one beam differ by less within a few columns: on the Pandar64's own table 99.5 % of a sweep of PandaSet
stays."""
_COLUMNS = 1800
"""Cells of 0.2 degrees of azimuth: about the step of the LiDARs here."""


def without_beams(sweep: Sweep, share: float, rng: np.random.Generator) -> Sweep:
    """Beams are gone: all points in a share of the bands of elevation of 0.2 degrees, whatever LiDAR it is.

    Robo3D's beam missing, which takes 16, 32 and 48 of 64 beams.
    """
    xyz = sweep.cloud.xyz
    elevation = np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
    bands = round(180 / _BAND_DEG)
    band = np.clip(np.nan_to_num((elevation + 90) / _BAND_DEG), 0, bands - 1).astype(np.int64)
    return without(sweep, (rng.random(bands) < share)[band])


def on_other_sensor(sweep: Sweep, lidar: str, rng: np.random.Generator) -> Sweep:
    """What the beams of another LiDAR would have met, as far as this one has points for them.

    Each beam of the other LiDAR takes the points of the nearest beam of this one, or of two that are equally near: they
    keep range, azimuth, intensity and label, and get its elevation. All others are lost, also those that would have to
    move too far. Where the nearest beam met nothing, the next one serves.
    Robo3D's cross-sensor leaves out beams of the same LiDAR, which then still lie where the network had them.

    Args:
        sweep: the sweep.
        lidar: name of one of :data:`~training.worldgen.sensing.sensors.BEAM_TABLES`.
        rng: not used: nothing is left to chance.
    """
    usable = np.flatnonzero(np.isfinite(sweep.cloud.xyz).all(axis=1) & sweep.cloud.xyz.any(axis=1))
    xyz, beams = sweep.cloud.xyz[usable].astype(np.float64), np.asarray(BEAM_TABLES[lidar])
    elevation = elevations_deg(sweep.cloud.xyz[usable])
    beam = nearest(beams, elevation)
    off = np.abs(elevation - beams[beam])
    chosen = (off < _FARTHEST_DEG) & (off < _least_around(xyz, beam, off, len(beams)) + _SAME_BEAM_DEG)
    distance, target = np.linalg.norm(xyz, axis=1), np.radians(beams[beam])
    flat = distance * np.cos(target) / np.maximum(np.hypot(xyz[:, 0], xyz[:, 1]), 1e-9)
    moved = sweep.cloud.xyz.copy()
    moved[usable] = np.column_stack([xyz[:, 0] * flat, xyz[:, 1] * flat, distance * np.sin(target)])
    gone = np.ones(len(sweep.labels), np.bool_)
    gone[usable] = ~chosen
    return without(sweep.with_cloud(moved, sweep.cloud.intensity), gone)


def _least_around(
    xyz: NDArray[np.float64], beam: NDArray[np.intp], off: NDArray[np.float64], beams: int
) -> NDArray[np.float64]:
    """(N,) how near the points around each one come to its beam: those of the same beam, up to 0.2 degrees beside it.

    Args:
        xyz: (N, 3) the points.
        beam: (N,) the number of the beam that each is nearest to.
        off: (N,) how far it is from that.
        beams: how many there are.
    """
    turn = np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi) + 0.5
    column = (turn * _COLUMNS).astype(np.int64) % _COLUMNS
    least = np.full((_COLUMNS, beams), np.inf)
    np.minimum.at(least, (column, beam), off)
    around = np.minimum(least, np.minimum(np.roll(least, 1, axis=0), np.roll(least, -1, axis=0)))
    return np.asarray(around[column, beam])
