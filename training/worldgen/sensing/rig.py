"""Sensors on a vehicle: a unit of a LiDAR product, its mounting, and cameras around it.

Every drive has a slightly different unit in a different mounting, so that networks do not overfit to one rig.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.worldgen.mesh import pose
from training.worldgen.sensing.lidar_model import LidarModel
from training.worldgen.sensing.products import LIDARS, PANDAR64
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.transforms import inverse

_HEIGHTS_M = {PANDAR64.name: (2.0, 2.4)}
"""Mounting height range of the Pandar64; PandaSet has it 2.27 m above the road. Others: 1.5 to 2.5 m."""


class Carrier(NamedTuple):
    """A kind of vehicle, and where it carries its LiDAR.

    Attributes:
        share: of the vehicles.
        height_m: lowest and highest mounting above the ground.
        ahead_m: how far in front of the vehicle's centre.
        walks: whether it drives on the pavement.
    """

    share: float
    height_m: tuple[float, float]
    ahead_m: tuple[float, float]
    walks: bool = False

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Carrier:
        """Draw a vehicle."""
        return CARRIERS[int(rng.choice(len(CARRIERS), p=[carrier.share for carrier in CARRIERS]))]

    def mount(self, rng: np.random.Generator, lidar: LidarModel) -> NDArray[np.float64]:
        """Draw a pose of the LiDAR in base_link: mostly level, some pitched, some upside down (if it looks ahead)."""
        yaw, pitch, roll = rng.normal(0.0, (1.5, 1.0, 1.0))
        if rng.random() < _PITCHED_SHARE:
            pitch = rng.uniform(2.0, _MAX_PITCH_DEG) * rng.choice((-1.0, 1.0), p=(0.3, 0.7))
        looks_ahead = lidar.elevations_deg[0] + lidar.elevations_deg[-1] > 2 * _LOWEST_MIDDLE_DEG
        if rng.random() < _INVERTED_SHARE and looks_ahead:
            roll += 180.0
        place = rng.uniform(*self.ahead_m), rng.normal(0.0, 0.1), rng.uniform(*self.height_m)
        return pose(*place, *np.radians((yaw, pitch, roll)))


CARRIERS = (
    Carrier(0.45, (1.6, 2.2), (0.0, 1.2)),  # car
    Carrier(0.2, (2.2, 3.0), (0.0, 1.5)),  # van
    Carrier(0.2, (0.5, 2.8), (1.5, 2.5)),  # shuttle: from the bumper to the edge of the roof
    Carrier(0.15, (0.5, 1.0), (0.0, 0.3), walks=True),  # robot
)
_PITCHED_SHARE, _MAX_PITCH_DEG = 0.15, 10.0
"""Share of the mountings with another pitch than zero (70 % of them look down), and the largest one."""
_INVERTED_SHARE, _LOWEST_MIDDLE_DEG = 0.08, -7.0
"""Share of the mountings that are upside down, of LiDARs the middle of whose field of view is not lower than that."""

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
    def sample(
        cls,
        rng: np.random.Generator,
        cameras: int,
        lidars: Sequence[LidarModel] = LIDARS,
        carrier: Carrier | None = None,
    ) -> Rig:
        """Draw a rig with one of some LiDAR models and 0, 1 (front) or 6 cameras.

        Args:
            rng: randomness.
            cameras: number of cameras.
            lidars: the products to draw from.
            carrier: the vehicle, with any unit in any mounting; None: a car with a common unit, level on its roof.

        Raises:
            ConfigError: the number of cameras is not available.
        """
        if cameras not in (0, 1, len(_CAMERAS)):
            raise ConfigError(f"a rig with {cameras} cameras is not available; use 0, 1 or {len(_CAMERAS)}")
        product = lidars[int(rng.integers(len(lidars)))]
        lidar = product.sample_any_unit(rng) if carrier else product.sample_unit(rng)
        base_from_lidar = carrier.mount(rng, lidar) if carrier else _level_mount(rng, product.name)
        models = _cameras(rng, base_from_lidar, tuple(_CAMERAS)[:cameras])
        return cls(lidar, base_from_lidar, models, _shutter_offsets(rng, lidar.period_s, models))

    @property
    def attitude_deg(self) -> tuple[float, float]:
        """Roll and pitch of the LiDAR relative to the ground below the vehicle; roll is 180 if it is upside down."""
        rotation = self.base_from_lidar[:3, :3]
        roll, pitch = np.arctan2(rotation[2, 1], rotation[2, 2]), -np.arcsin(rotation[2, 0])
        return float(np.degrees(roll)), float(np.degrees(pitch))

    @property
    def height_m(self) -> float:
        """Height of the LiDAR above the ground below the vehicle."""
        return float(self.base_from_lidar[2, 3])


def _level_mount(rng: np.random.Generator, product: str) -> NDArray[np.float64]:
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
