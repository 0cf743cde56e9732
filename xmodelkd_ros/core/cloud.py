"""Point clouds and their segmentation as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import CloudError
from xmodelkd_ros.core.labels import IGNORE


@dataclass(frozen=True, eq=False)
class PointCloud:
    """One sweep of N points in the sensor's frame (REP-103: x forward, y left, z up).

    Arrays may be read-only views into a message.

    Attributes:
        xyz: (N, 3) float32, metres. Non-finite rows are allowed and count as invalid.
        intensity: (N,) float32 in the sensor's own scale, or None without intensity.
        ring: (N,) integers, the beam number of each point, or None if unknown.
        height: rows of an organised cloud, 1 otherwise.
        width: columns of an organised cloud, N otherwise (-1 stands for N / height).
    """

    xyz: NDArray[np.float32]
    intensity: NDArray[np.float32] | None = None
    ring: NDArray[np.integer] | None = None
    height: int = 1
    width: int = -1

    def __post_init__(self) -> None:
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3:
            raise CloudError(f"xyz has shape {self.xyz.shape}; give an (N, 3) array")
        if self.width < 0:
            object.__setattr__(self, "width", len(self.xyz) // max(self.height, 1))
        if self.height * self.width != len(self.xyz):
            raise CloudError(f"height x width is {self.height} x {self.width}, but there are {len(self.xyz)} points")
        for name in ("intensity", "ring"):
            values = getattr(self, name)
            if values is not None and values.shape != (len(self.xyz),):
                raise CloudError(f"{name} has shape {values.shape}; give one value for each of {len(self.xyz)} points")

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """One label per point, in the order of the segmented cloud.

    Attributes:
        label: (N,) uint8 class ids; 255 for invalid points.
        probability: (N,) float32 calibrated probability of that label; 0 where the label is 255.
        entropy: (N,) float32 entropy of the class distribution divided by ln(number of classes),
            0 (certain) to 1 (uniform); NaN where the label is 255.
    """

    label: NDArray[np.uint8]
    probability: NDArray[np.float32]
    entropy: NDArray[np.float32]

    def __post_init__(self) -> None:
        shapes = {self.label.shape, self.probability.shape, self.entropy.shape}
        if len(shapes) != 1 or self.label.ndim != 1:
            raise CloudError(f"label, probability and entropy must have one shape (N,), but have {shapes}")

    def __len__(self) -> int:
        return len(self.label)

    def without_uncertain(self, min_probability: float) -> Segmentation:
        """With 255 in place of labels of a lower probability; probability and entropy stay readable."""
        if min_probability <= 0:
            return self
        below = self.probability < np.float32(min_probability)
        return Segmentation(np.where(below, np.uint8(IGNORE), self.label), self.probability, self.entropy)

    def at(self, index: NDArray[np.intp]) -> Segmentation:
        """The points at (M,) indices."""
        return Segmentation(self.label[index], self.probability[index], self.entropy[index])

    @classmethod
    def unlabelled(cls, count: int) -> Segmentation:
        """Segmentation of N points without a label."""
        return cls(np.full(count, IGNORE, np.uint8), np.zeros(count, np.float32), np.full(count, np.nan, np.float32))
