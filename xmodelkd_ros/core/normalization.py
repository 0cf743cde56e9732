"""Conversion of point measurements to normalised network channels.

The range image and the per-point input have the same channels, so that the network can compare a point with the
nearest point of its pixel.

Models for any LiDAR have channels that do not depend on the sensor's mounting or intensity scale: ``height`` above the
ground below the vehicle, ``relative_intensity``, the logarithm of intensity relative to that of the ground, and
``has_intensity``, which tells a sweep without intensity from a dark one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import CloudError, ModelError
from xmodelkd_ros.core.ground import leveling_rotation
from xmodelkd_ros.core.intensity_scale import MISSING_SHARE
from xmodelkd_ros.core.projection import RangeProjection
from xmodelkd_ros.core.sensor import SensorSpec

HAS_INTENSITY = "has_intensity"
"""Channel of the models that label sweeps without intensity too."""

UNKNOWN_HEIGHT_M = 1.8
"""Height of a sensor that nothing is known of."""

_MAX_RELATIVE_INTENSITY = 60.0
"""Intensity relative to the ground's up to which surfaces differ; retro-reflectors exceed it on every LiDAR."""

_CHECKED = 4096
"""Points of a sweep whose intensities are compared."""


@dataclass(frozen=True, eq=False)
class _Measurements:
    """What channels are computed from.

    Attributes:
        cloud: the sweep, with intensity in the scale of the training data.
        range: (N,) metres.
        height: (N,) metres above the ground.
        relative: (N,) intensity relative to the ground's; None without intensity, or if the ground's is unknown.
    """

    cloud: PointCloud
    range: NDArray[np.float32]
    height: NDArray[np.float32]
    relative: NDArray[np.float32] | None


_CHANNELS: dict[str, Callable[[_Measurements], NDArray[np.float32]]] = {
    "x": lambda m: m.cloud.xyz[:, 0],
    "y": lambda m: m.cloud.xyz[:, 1],
    "z": lambda m: m.cloud.xyz[:, 2],
    "height": lambda m: m.height,
    "range": lambda m: m.range,
    "log_range": lambda m: np.log(np.maximum(m.range, np.float32(0.1))),
    "intensity": lambda m: _intensity(m.cloud),
    "sqrt_intensity": lambda m: np.sqrt(np.maximum(_intensity(m.cloud), np.float32(0))),
    "relative_intensity": lambda m: np.zeros_like(m.range) if m.relative is None else np.log1p(m.relative),
    HAS_INTENSITY: lambda m: np.full_like(m.range, m.relative is not None),
}


def _intensity(cloud: PointCloud) -> NDArray[np.float32]:
    if cloud.intensity is None:
        raise CloudError(
            "the model needs intensity, the cloud has none; to use zeros, set missing_intensity to 'fill' (node), or "
            "give --missing-intensity fill (xmodelkd)"
        )
    return cloud.intensity


@dataclass(frozen=True)
class ChannelSpec:
    """A network channel, (value - mean) / std of a measurement in metres or intensity units."""

    name: str
    mean: float
    std: float

    def __post_init__(self) -> None:
        if self.name not in _CHANNELS:
            raise ModelError(f"channels: '{self.name}' is unknown; known are {', '.join(_CHANNELS)}")
        if not (abs(self.mean) <= 1e9 and 1e-6 <= self.std <= 1e9):
            raise ModelError(
                f"channels: mean and std of '{self.name}' are {self.mean} and {self.std}; give a mean within +-1e9 "
                "and a std from 1e-6 to 1e9"
            )


def _is_informative(intensity: NDArray[np.float32], distance: NDArray[np.float32]) -> bool:
    """Whether intensities differ: drivers and converters without measured ones publish a constant, or NaN."""
    some = slice(None, None, max(1, len(intensity) // _CHECKED))
    returns = intensity[some][distance[some] > 0]
    known = returns[np.isfinite(returns)]
    return bool(known.size >= (1 - MISSING_SHARE) * returns.size and known.size and known.max() > known.min())


def _finite(intensity: NDArray[np.float32]) -> NDArray[np.float32]:
    """The intensities with NaN, which convolutions would spread, for infinite ones: they were not measured."""
    return np.where(np.isinf(intensity), np.float32(np.nan), intensity)


class Normalizer:
    """Builds the network inputs of a projected sweep.

    Args:
        channels: the model's channels, in order.
        intensity_range: intensity of dark and of bright surfaces in the scale of the training data.
        sensor: the vehicle's LiDAR, if it differs from that of the training data.
    """

    def __init__(
        self, channels: tuple[ChannelSpec, ...], intensity_range: tuple[float, float], sensor: SensorSpec | None = None
    ) -> None:
        self.channels = channels
        low, high = intensity_range
        sensor_low, sensor_high = sensor.intensity_range if sensor is not None else intensity_range
        self._gain = np.float32((high - low) / (sensor_high - sensor_low))
        self._offset = np.float32(low - sensor_low * self._gain)
        self._rescale = (low, high) != (sensor_low, sensor_high)
        self._dark, self._bright = np.float32(low), np.float32(high)
        self._ground = np.float32(sensor.ground_intensity if sensor is not None else 0)
        self._lowest = np.float32(sensor_low)
        self._up = leveling_rotation(*((sensor.roll_deg, sensor.pitch_deg) if sensor is not None else (0, 0)))[2]
        height_m = None if sensor is None else sensor.height_m
        self._height_m = np.float32(UNKNOWN_HEIGHT_M if height_m is None else height_m)

    def points(
        self, cloud: PointCloud, distance: NDArray[np.float32], heights_m: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """(N + 1, K) normalised channels of each point; the last row is all zero, for empty pixels.

        Args:
            cloud: N points.
            distance: (N,) metres.
            heights_m: (N,) metres above the ground; None: computed from the sensor's height and attitude.
        """
        features = np.zeros((len(cloud) + 1, len(self.channels)), np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            heights_m = self.heights_m(cloud) if heights_m is None else heights_m
            measurements = _Measurements(self._in_range(cloud), distance, heights_m, self._relative(cloud, distance))
            for k, channel in enumerate(self.channels):
                scale = np.float32(1 / channel.std)
                np.multiply(_CHANNELS[channel.name](measurements), scale, out=features[:-1, k])
                features[:-1, k] -= np.float32(channel.mean) * scale
        return features

    def heights_m(self, cloud: PointCloud) -> NDArray[np.float32]:
        """(N,) height of each point above the ground below the vehicle, metres."""
        x, y, z = cloud.xyz.T
        a, b, c = (np.float32(v) for v in self._up)
        level = z if (a, b, c) == (0, 0, 1) else a * x + b * y + c * z
        return np.asarray(level + self._height_m)

    def _relative(self, cloud: PointCloud, distance: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Intensity relative to the ground's, 0 to a maximum; 0 where it is not finite. None if it tells nothing."""
        if cloud.intensity is None or self._ground <= 0 or not _is_informative(cloud.intensity, distance):
            return None
        relative = (_finite(cloud.intensity) - self._lowest) * (np.float32(1) / self._ground)
        return np.asarray(np.fmin(np.fmax(relative, np.float32(0)), np.float32(_MAX_RELATIVE_INTENSITY)))

    def _in_range(self, cloud: PointCloud) -> PointCloud:
        """The cloud with intensity in the model's scale, clipped; NaN and infinity become dark."""
        if cloud.intensity is None:
            return cloud
        finite = _finite(cloud.intensity)
        scaled = finite * self._gain + self._offset if self._rescale else finite
        clipped = np.fmin(np.fmax(scaled, self._dark), self._bright)
        return PointCloud(cloud.xyz, clipped, cloud.ring, cloud.height, cloud.width)

    @staticmethod
    def image(
        features: NDArray[np.float32], projection: RangeProjection, height: int, width: int
    ) -> NDArray[np.float32]:
        """(K + 1, H, W) range image of the nearest points; the last channel is the mask of occupied pixels."""
        count = features.shape[1]
        image = np.empty((count + 1, height * width), np.float32)
        # Index -1 of an empty pixel selects the last row, which is zero.
        image[:count] = features.take(projection.point, axis=0, mode="wrap").T
        image[count] = projection.point >= 0
        return image.reshape(count + 1, height, width)
