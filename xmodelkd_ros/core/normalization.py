"""Conversion of point measurements to normalised network channels.

The range image and the per-point input have the same channels, so that the network can compare a point with the
nearest point of its pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import CloudError, ModelError
from xmodelkd_ros.core.projection import RangeProjection

_CHANNELS: dict[str, Callable[[PointCloud, NDArray[np.float32]], NDArray[np.float32]]] = {
    "x": lambda cloud, _: cloud.xyz[:, 0],
    "y": lambda cloud, _: cloud.xyz[:, 1],
    "z": lambda cloud, _: cloud.xyz[:, 2],
    "range": lambda _, distance: distance,
    "log_range": lambda _, distance: np.log(np.maximum(distance, np.float32(0.1))),
    "intensity": lambda cloud, _: _intensity(cloud),
    "sqrt_intensity": lambda cloud, _: np.sqrt(np.maximum(_intensity(cloud), np.float32(0))),
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


class Normalizer:
    """Builds the network inputs of a projected sweep.

    Args:
        channels: the model's channels, in order.
        intensity_range: intensity of dark and of bright surfaces in the scale of the training data.
        sensor_intensity_range: the same two in the scale of the vehicle's LiDAR, if it differs.
    """

    def __init__(
        self,
        channels: tuple[ChannelSpec, ...],
        intensity_range: tuple[float, float],
        sensor_intensity_range: tuple[float, float] | None = None,
    ) -> None:
        self.channels = channels
        low, high = intensity_range
        sensor_low, sensor_high = sensor_intensity_range or intensity_range
        self._gain = np.float32((high - low) / (sensor_high - sensor_low))
        self._offset = np.float32(low - sensor_low * self._gain)
        self._rescale = (low, high) != (sensor_low, sensor_high)
        self._dark, self._bright = np.float32(low), np.float32(high)

    def points(self, cloud: PointCloud, distance: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N + 1, K) normalised channels of each point; the last row is all zero, for empty pixels."""
        if cloud.intensity is not None:
            scaled = self._in_range(cloud.intensity)
            cloud = PointCloud(cloud.xyz, scaled, cloud.ring, cloud.height, cloud.width)
        features = np.zeros((len(cloud) + 1, len(self.channels)), np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            for k, channel in enumerate(self.channels):
                values = _CHANNELS[channel.name](cloud, distance)
                scale = np.float32(1 / channel.std)
                np.multiply(values, scale, out=features[:-1, k])
                features[:-1, k] -= np.float32(channel.mean) * scale
        return features

    def _in_range(self, intensity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Intensity in the model's scale, clipped; NaN becomes dark, since convolutions would spread it."""
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = intensity * self._gain + self._offset if self._rescale else intensity
        clipped: NDArray[np.float32] = np.fmin(np.fmax(scaled, self._dark), self._bright)
        return clipped

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
