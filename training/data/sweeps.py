"""Labelled sweeps in memory, the labels that are kept from training, and how sweeps become network inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.sequence import DriveSequence
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.normalization import ChannelSpec, Normalizer
from xmodelkd_ros.core.projection import NO_PIXEL, ProjectionSpec, RangeProjector
from xmodelkd_ros.core.sensor import elevations_deg, fit_beams

SECTORS = 6
GUARD_DEG = 10.0
_FITTED_SWEEPS = 200


@dataclass(frozen=True, eq=False)
class Sweep:
    """A cloud and the (N,) class ids of its points, 255 where there is none."""

    cloud: PointCloud
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class InputSpec:
    """How sweeps become the network's inputs; fitted on the training sweeps, and what ``model.json`` will say."""

    projection: ProjectionSpec
    channels: tuple[ChannelSpec, ...]
    intensity_range: tuple[float, float]

    @classmethod
    def fit(
        cls,
        sweeps: Sequence[Sweep],
        width: int,
        channels: Sequence[str],
        intensity_range: tuple[float, float],
        beams: tuple[float, ...] = (),
    ) -> InputSpec:
        """Find the mean and standard deviation of each channel over the points, and the beam table if none is given.

        A few hundred sweeps evenly spread over all serve: more would cost memory and change nothing.
        """
        sweeps = sweeps[:: 1 + len(sweeps) // _FITTED_SWEEPS]
        xyz = np.concatenate([s.cloud.xyz for s in sweeps])
        projection = ProjectionSpec(beams or fit_beams(elevations_deg(xyz)), width)
        cloud = PointCloud(xyz, np.concatenate([s.cloud.intensity for s in sweeps]))
        raw = Normalizer(tuple(ChannelSpec(name, 0.0, 1.0) for name in channels), intensity_range)
        values = raw.points(cloud, np.linalg.norm(xyz, axis=1))[:-1].astype(np.float64)
        statistics = zip(channels, values.mean(axis=0), values.std(axis=0), strict=True)
        specs = tuple(ChannelSpec(name, round(float(m), 4), round(float(s), 4)) for name, m, s in statistics)
        return cls(projection, specs, intensity_range)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputSpec:
        """Inverse of :meth:`to_dict`."""
        channels = tuple(ChannelSpec(**c) for c in data["channels"])
        return cls(ProjectionSpec(**data["projection"]), channels, tuple(data["intensity_range"]))


class WholeSweeps:
    """Unchanged sweeps as the network's inputs.

    Args:
        sweeps: the sweeps.
        spec: the network's inputs.
    """

    def __init__(self, sweeps: Sequence[Sweep], spec: InputSpec) -> None:
        self._sweeps, self._size = sweeps, (spec.projection.height, spec.projection.width)
        self._projector = RangeProjector(spec.projection)
        self._normalizer = Normalizer(spec.channels, spec.intensity_range)

    def __len__(self) -> int:
        return len(self._sweeps)

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        """The valid points: ``image`` (1, K + 1, H, W), ``points`` (1, N, K), ``pixel`` (1, N), ``labels`` (1, N)."""
        cloud = self._sweeps[index].cloud
        projection = self._projector.project(cloud)
        valid = projection.pixel != NO_PIXEL
        features = self._normalizer.points(cloud, projection.range)
        return {
            "image": self._normalizer.image(features, projection, *self._size)[None],
            "points": features[:-1][valid][None],
            "pixel": projection.pixel[valid][None],
            "labels": self._sweeps[index].labels[valid][None],
        }


def sectors(sequence: DriveSequence, frame: int, cloud: PointCloud) -> NDArray[np.float64]:
    """(N,) world-frame azimuth of each point in units of a sector (60 degrees), 0 to 6."""
    rotation = sequence.world_from_lidar(frame)[:2, :3]
    east, north = rotation @ cloud.xyz.T
    return np.asarray(np.arctan2(north, east) / (2 * np.pi) % 1.0 * SECTORS)


def hide_sectors(sweep: Sweep, position: NDArray[np.float64], hidden: Sequence[int]) -> Sweep:
    """Take away the labels in the hidden sectors and within 10 degrees of them.

    Args:
        sweep: the sweep.
        position: what :func:`sectors` gives for it.
        hidden: numbers of the hidden sectors.
    """
    distance = np.full(len(position), np.inf)
    for sector in hidden:
        from_centre = np.abs((position - sector - 0.5 + SECTORS / 2) % SECTORS - SECTORS / 2)
        distance = np.minimum(distance, from_centre - 0.5)
    near = distance < GUARD_DEG * SECTORS / 360
    return Sweep(sweep.cloud, np.where(near, IGNORE, sweep.labels).astype(np.uint8))
