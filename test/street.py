"""Sweeps of a street with a flat road, walls and cars, as a LiDAR of any beams and mounting sees it."""

import numpy as np

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.ground import leveling_rotation

CARS = (
    (6.0, -2.5, 4.4, 1.8, 1.5),
    (-8.0, 2.5, 4.4, 1.8, 1.5),
    (12.0, 2.5, 4.4, 1.8, 1.6),
    (-16.0, -2.5, 8.0, 2.4, 3.0),
)
"""Boxes on the ground: centre x, y, length, width, height."""
ROAD, WALL, CAR = 10.0, 30.0, 3.0
"""Intensities, on average."""


def street(height=1.8, roll=0.0, pitch=0.0, *, beams=(2, -24, 32), columns=400, fov=180.0, x=0.0, seed=3):
    """A sweep with rings (0: the lowest beam) in firing order, in the frame of a sensor in this height and attitude.

    Args:
        height: metres above the road.
        roll: degrees, as in a sensor file.
        pitch: degrees.
        beams: elevations of the highest and the lowest beam, and their number; or all elevations.
        columns: firings of each beam.
        fov: half of the horizontal field of view, degrees.
        x: position along the street, metres.
        seed: of the noise of the ranges.
    """
    elevations = np.linspace(*beams) if len(beams) == 3 else np.asarray(beams)
    azimuths = np.radians(np.linspace(-fov, fov, columns, endpoint=False))
    azimuth, elevation = np.meshgrid(azimuths, np.radians(elevations), indexing="ij")
    ring = np.broadcast_to(len(elevations) - 1 - np.arange(len(elevations)), azimuth.shape).ravel()
    flat = np.cos(elevation)
    rays = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], -1).reshape(-1, 3)
    rotation = leveling_rotation(roll, pitch)
    distance, intensity = _hits(rays @ rotation.T, height, x)
    rng = np.random.default_rng(seed)
    seen = distance < 100
    points = (rays[seen] * (distance[seen] + rng.normal(0, 0.02, seen.sum()))[:, None]).astype(np.float32)
    intensity *= rng.uniform(0.9, 1.1, len(intensity))
    return PointCloud(points, intensity[seen].astype(np.float32), ring[seen].astype(np.uint16))


def _hits(rays, height, x):
    """Distance and intensity of the nearest surface along each of (N, 3) level rays."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        road = np.where(rays[:, 2] < 0, -height / rays[:, 2], np.inf)
        wall = 12.0 / np.abs(rays[:, 1])
        wall = np.where(wall * rays[:, 2] + height < 8, wall, np.inf)
        hits, intensities = [road, wall], [ROAD, WALL]
        for along, y, length, width, tall in CARS:
            low = np.array([along - x - length / 2, y - width / 2, -height])
            high = np.array([along - x + length / 2, y + width / 2, tall - height])
            first, second = low / rays, high / rays
            enter, leave = np.minimum(first, second).max(1), np.maximum(first, second).min(1)
            hits.append(np.where((enter < leave) & (enter > 0), enter, np.inf))
            intensities.append(CAR)
    nearest = np.argmin(hits, axis=0)
    return np.min(hits, axis=0), np.asarray(intensities)[nearest]
