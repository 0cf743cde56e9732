"""LiDAR and camera models, and their mounting on a vehicle.

Beam tables are those of real sensors. Every drive has a slightly different unit in a different mounting, so that
networks do not overfit to one rig.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from training.worldgen.mesh import pose
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.transforms import inverse


@dataclass(frozen=True)
class LidarModel:
    """A spinning LiDAR that rotates clockwise seen from above and fires all beams of a column at once.

    Attributes:
        name: product name.
        elevations_deg: of the B beams, strictly descending.
        columns: firings of each beam per revolution.
        azimuth_offsets_deg: offset of each beam to the left of its column's azimuth; empty: zero.
        period_s: duration of a revolution.
        min_range_m: minimum range.
        max_range_m: maximum range; at most 262 m.
        reach_m: range at which a face-on target of 10 % reflectance is detected with probability 0.5.
        divergence_mrad: full angle of the beam's cone.
        range_noise_m: standard deviation of the range of a strong return.
        gain: intensity reported for a face-on white diffuser.
        gamma: exponent of reported intensity as a function of reflectance.
        range_exponent: residual range dependence of reported intensity, as a power of range / 20 m.
        beam_gain_spread: standard deviation of the natural logarithm of the beam gains.
        beam_gains: (B,) gain of each beam relative to ``gain``; empty: all 1.
    """

    name: str
    elevations_deg: tuple[float, ...]
    columns: int
    azimuth_offsets_deg: tuple[float, ...] = ()
    period_s: float = 0.1
    min_range_m: float = 0.5
    max_range_m: float = 200.0
    reach_m: float = 120.0
    divergence_mrad: float = 2.5
    range_noise_m: float = 0.015
    gain: float = 100.0
    gamma: float = 1.0
    range_exponent: float = 0.0
    beam_gain_spread: float = 0.05
    beam_gains: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        beams = np.asarray(self.elevations_deg)
        if beams.size == 0 or not np.all(np.diff(beams) < 0) or not np.all(np.abs(beams) < 90):
            raise ConfigError(f"LiDAR '{self.name}': elevations_deg must fall strictly from beam to beam, within +-90")
        if self.columns < 4:
            raise ConfigError(f"LiDAR '{self.name}': columns is {self.columns}; a turn needs at least 4")
        if not 0 < self.min_range_m < self.max_range_m <= 262:
            raise ConfigError(
                f"LiDAR '{self.name}': ranges are {self.min_range_m} to {self.max_range_m} m; give 0 < min < max <= 262"
            )
        for name in ("azimuth_offsets_deg", "beam_gains"):
            if len(getattr(self, name)) not in (0, self.beams):
                raise ConfigError(f"LiDAR '{self.name}': {name} must have one entry for each of {self.beams} beams")

    @property
    def beams(self) -> int:
        """Number of beams."""
        return len(self.elevations_deg)

    def directions(self) -> NDArray[np.float32]:
        """(C, B, 3) unit vectors of all firings in the sensor frame (REP-103); read-only.

        Column 0 starts at azimuth +180 degrees (behind) and azimuth decreases; firings are centred in their column.
        """
        return _directions(self.elevations_deg, self.azimuth_offsets_deg, self.columns)

    def column_times_s(self) -> NDArray[np.floating]:
        """(C,) firing time of each column relative to the sweep's end, which is the time of the last column."""
        return (np.arange(self.columns) - (self.columns - 1)) * (self.period_s / self.columns)

    def sample_unit(self, rng: np.random.Generator) -> LidarModel:
        """Draw one unit of the product: perturbed beam angles, gains, noise and reach."""
        # At most 0.06 degrees, less than half of the finest beam spacing, so that the beam order is preserved.
        jitter = np.clip(rng.normal(0.0, 0.03, self.beams), -0.06, 0.06)
        elevations = np.asarray(self.elevations_deg) * rng.uniform(0.99, 1.01) + jitter
        gains = np.exp(rng.normal(0.0, self.beam_gain_spread, self.beams))
        factors = np.exp(rng.normal(0.0, (0.25, 0.2, 0.15, 0.15)))
        gamma, exponent = rng.normal((self.gamma, self.range_exponent), (0.08, 0.1))
        numbers = np.array((self.range_noise_m, self.reach_m, self.gain, self.divergence_mrad)) * factors
        noise, reach, gain, cone, gamma, exponent = _rounded(np.r_[numbers, gamma, exponent])
        return replace(
            self,
            elevations_deg=_rounded(elevations),
            beam_gains=_rounded(gains),
            range_noise_m=noise,
            reach_m=reach,
            gain=gain,
            divergence_mrad=cone,
            gamma=gamma,
            range_exponent=exponent,
        )


def _rounded(values: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(v) for v in np.round(values, 4))


@lru_cache(maxsize=16)
def _directions(elevations: tuple[float, ...], offsets: tuple[float, ...], columns: int) -> NDArray[np.float32]:
    middle = np.radians(180.0 - (np.arange(columns) + 0.5) * (360.0 / columns))
    azimuth = middle[:, None] + np.radians(offsets or np.zeros(len(elevations)))
    elevation = np.broadcast_to(np.radians(elevations), azimuth.shape)
    flat = np.cos(elevation)
    vectors = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=-1)
    result: NDArray[np.float32] = vectors.astype(np.float32)
    result.flags.writeable = False  # the cached array is shared between callers
    return result


# Elevations of PandaSet's Pandar64 were estimated from its sweeps and agree with Hesai's table within 0.1 degrees.
# Azimuth offsets are Hesai's; they agree with time and azimuth of PandaSet's points within 0.2 degrees.
# Noise is 0.011 m at any range, from second differences along PandaSet's rings.
#
# Intensity of the Pandar64: gain, gamma and the surfaces' returns (``returns.strengths``) were chosen for the medians
# (quartiles) of PandaSet's frames 0 to 39. There against a generated street:
#   car 1 (0, 4) against 1 (0, 3), road 7 (3, 10) against 6 (4, 7), sidewalk 11 (10, 14) against 11 (8, 13),
#   vegetation 20 (16, 24) against 23 (17, 31), building 22 (13, 30) against 18 (12, 28),
#   person 22 (8, 32) against 26 (18, 37), traffic sign 255 in both;
# intensity 0 on 41 % of the car's points against 36 %; and a road that does not darken from 8 to 50 m although the
# incidence falls from 77 to 86 degrees. The other sensors' scales are of the size that public recordings show.
PANDAR64 = LidarModel(
    name="Pandar64",
    elevations_deg=(
        *(14.873, 11.022, 8.048, 5.045, 3.028, 2.016, 1.848, 1.676, 1.510, 1.339, 1.172, 1.001, 0.834, 0.663, 0.496),
        *(0.325, 0.157, -0.012, -0.181, -0.349, -0.519, -0.687, -0.856, -1.024, -1.195, -1.363, -1.533, -1.700),
        *(-1.872, -2.040, -2.210, -2.377, -2.547, -2.712, -2.885, -3.052, -3.222, -3.387, -3.560, -3.724, -3.896),
        *(-4.062, -4.233, -4.397, -4.570, -4.732, -4.904, -5.069, -5.241, -5.403, -5.577, -5.738, -5.910, -6.072),
        *(-7.074, -8.070, -9.071, -9.895, -11.042, -12.016, -12.983, -13.939, -18.894, -24.895),
    ),
    columns=1800,
    azimuth_offsets_deg=(1.042,) * 6 + (-1.042, -3.125, -5.208, 5.208, 3.125, 1.042) * 8 + (1.042,) * 10,
    reach_m=180.0,
    divergence_mrad=2.0,
    range_noise_m=0.011,
    gain=105.0,
    gamma=1.3,
    range_exponent=0.15,
)

HDL64E = LidarModel(
    name="HDL-64E",
    elevations_deg=_rounded(np.r_[2 - np.arange(32) / 3, -8.83 - np.arange(32) / 2]),
    columns=2083,
    max_range_m=120.0,
    reach_m=75.0,
    divergence_mrad=2.8,
    range_noise_m=0.018,
    gain=300.0,
    beam_gain_spread=0.15,
)

# Velodyne, VLP-32C user manual: elevations from the top, and azimuth offsets (clockwise there, so turned round here).
VLP32C = LidarModel(
    name="VLP-32C",
    elevations_deg=(
        *(15.0, 10.333, 7.0, 4.667, 3.333, 2.333, 1.667, 1.333, 1.0, 0.667, 0.333, 0.0, -0.333, -0.667, -1.0, -1.333),
        *(-1.667, -2.0, -2.333, -2.667, -3.0, -3.333, -3.667, -4.0, -4.667, -5.333, -6.148, -7.254, -8.843, -11.31),
        *(-15.639, -25.0),
    ),
    columns=1800,
    azimuth_offsets_deg=(
        *(1.4, -1.4, 1.4, -1.4, 1.4, -1.4, 4.2, 1.4, -1.4, -4.2, 4.2, 1.4, -1.4, -4.2, 4.2, 1.4, -1.4, -4.2),
        *(4.2, 1.4, -1.4, -4.2, 4.2, 1.4, -1.4, -4.2, 1.4, -1.4, 1.4, -1.4, 1.4, -1.4),
    ),
    reach_m=100.0,
    divergence_mrad=3.0,
    range_noise_m=0.018,
    gain=100.0,
)

OS1_128 = LidarModel(
    name="OS1-128",
    elevations_deg=_rounded(np.linspace(22.5, -22.5, 128)),
    columns=1024,
    azimuth_offsets_deg=(4.23, 1.41, -1.41, -4.23) * 32,
    max_range_m=150.0,
    reach_m=60.0,
    divergence_mrad=3.5,
    range_noise_m=0.02,
    gain=110.0,
    gamma=0.9,
)

HDL32E = LidarModel(
    name="HDL-32E",
    elevations_deg=_rounded(10.67 - np.arange(32) * (4 / 3)),
    columns=2170,
    max_range_m=100.0,
    reach_m=65.0,
    divergence_mrad=2.8,
    range_noise_m=0.018,
    gain=80.0,
)

LIDARS = (PANDAR64, HDL64E, VLP32C, OS1_128)
UNSEEN_LIDARS = (HDL32E,)
"""Reserved for test drives."""
BEAM_TABLES = {lidar.name: lidar.elevations_deg for lidar in (*LIDARS, *UNSEEN_LIDARS)}
"""Beam elevations of each LiDAR in degrees, as the rows of a range image."""


def lidar_by_name(name: str) -> LidarModel:
    """LiDAR model of a name, without those reserved for test drives.

    Raises:
        ConfigError: the name is unknown.
    """
    known = {lidar.name: lidar for lidar in LIDARS}
    if name not in known:
        raise ConfigError(f"lidar is '{name}', but must be one of {', '.join(known)}")
    return known[name]


_HEIGHTS_M = {PANDAR64.name: (2.0, 2.4)}
"""Mounting height range of the Pandar64; PandaSet has it 2.27 m above the road. Others: 1.5 to 2.5 m."""

IMAGE_SIZE = (640, 384)

# Yaw (degrees) and position relative to the LiDAR (metres, x forward, y left, z up) of each camera, as in PandaSet.
_CAMERAS: dict[str, tuple[float, tuple[float, float, float]]] = {
    "front_camera": (0.0, (0.1, 0.0, -0.1)),
    "front_left_camera": (57.0, (0.5, 0.5, -0.3)),
    "front_right_camera": (-57.0, (0.5, -0.5, -0.3)),
    "left_camera": (100.0, (-0.2, 0.5, -0.3)),
    "right_camera": (-100.0, (-0.2, -0.5, -0.3)),
    "back_camera": (180.0, (-0.8, 0.0, -0.2)),
}

_LOWEST_CAMERA_M = 1.0

_BODY_FROM_OPTICAL = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)


@dataclass(frozen=True, eq=False)
class Rig:
    """The sensors of a vehicle.

    Attributes:
        lidar: the LiDAR.
        base_from_lidar: (4, 4) its pose in base_link (on the road under the vehicle's centre, x forward).
        cameras: the cameras, calibrated to the LiDAR.
        shutter_s: exposure time of each camera relative to the sweep's end, seconds.
    """

    lidar: LidarModel
    base_from_lidar: NDArray[np.float64]
    cameras: tuple[CameraModel, ...]
    shutter_s: tuple[float, ...]

    @classmethod
    def sample(cls, rng: np.random.Generator, cameras: int, lidars: Sequence[LidarModel] = LIDARS) -> Rig:
        """Draw a rig with one of some LiDAR models and 0, 1 (front) or 6 cameras.

        Raises:
            ConfigError: the number of cameras is not available.
        """
        if cameras not in (0, 1, len(_CAMERAS)):
            raise ConfigError(f"a rig with {cameras} cameras is not available; use 0, 1 or {len(_CAMERAS)}")
        product = lidars[int(rng.integers(len(lidars)))]
        lidar = product.sample_unit(rng)
        base_from_lidar = _lidar_mount(rng, product.name)
        models = _cameras(rng, base_from_lidar, tuple(_CAMERAS)[:cameras])
        return cls(lidar, base_from_lidar, models, _shutter_offsets(rng, lidar.period_s, models))


def _lidar_mount(rng: np.random.Generator, product: str) -> NDArray[np.float64]:
    height = rng.uniform(*_HEIGHTS_M.get(product, (1.5, 2.5)))
    yaw, pitch, roll = np.radians(rng.normal(0.0, (1.0, 1.0, 0.5)))
    return pose(rng.uniform(0.0, 1.2), rng.normal(0.0, 0.05), height, yaw, pitch, roll)


def _cameras(
    rng: np.random.Generator, base_from_lidar: NDArray[np.float64], names: tuple[str, ...]
) -> tuple[CameraModel, ...]:
    """Cameras of one model around the LiDAR, with mounting and focal-length tolerances."""
    focal = IMAGE_SIZE[0] / 2 / np.tan(np.radians(rng.uniform(55.0, 85.0)) / 2)
    lower, tilt = rng.uniform(0.0, 0.5), rng.normal(0.0, 1.5)
    models = []
    for name in names:
        yaw, place = _CAMERAS[name]
        x, y, z = base_from_lidar[:3, 3] + place + rng.normal(0.0, 0.05, 3)
        turned = np.radians(rng.normal((yaw, tilt, 0.0), (1.5, 0.7, 0.7)))
        base_from_camera = pose(x, y, max(z - lower, _LOWEST_CAMERA_M), *turned) @ _BODY_FROM_OPTICAL
        center = (np.asarray(IMAGE_SIZE) - 1) / 2 + rng.normal(0.0, 5.0, 2)
        own_focal = focal * rng.normal(1.0, 0.005)
        intrinsic = np.array([[own_focal, 0, center[0]], [0, own_focal, center[1]], [0, 0, 1]])
        models.append(CameraModel(name, *IMAGE_SIZE, intrinsic, inverse(base_from_camera) @ base_from_lidar))
    return tuple(models)


def _shutter_offsets(rng: np.random.Generator, period: float, cameras: tuple[CameraModel, ...]) -> tuple[float, ...]:
    """Times at which the beams sweep past each camera's optical axis, plus a trigger error common to the drive."""
    late = np.clip(rng.normal(0.0, 0.01), -0.03, 0.03)
    axes = [camera.from_lidar[2, :3] for camera in cameras]  # optical z in the LiDAR's frame
    turns = [(np.pi - np.arctan2(y, x)) / (2 * np.pi) for x, y, _ in axes]
    return tuple(float(round((turn - 1.0) * period + late, 5)) for turn in turns)
