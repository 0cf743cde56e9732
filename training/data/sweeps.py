"""Labelled sweeps in memory, their conversion to network inputs, and labels withheld from training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.feature_bank import PointFeatureBank
from training.datasets.sequence import DriveSequence
from xmodelkd_ros.core.beam_table import elevations_deg, fit_beams
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.normalization import ChannelSpec, Normalizer
from xmodelkd_ros.core.projection import BY_BEAM, BY_ELEVATION, NO_PIXEL, ProjectionSpec, RangeProjector
from xmodelkd_ros.core.sensor import SensorSpec

SECTORS = 6
GUARD_DEG = 10.0
_MIN_STD = 1e-4
_MAX_FITTED_SWEEPS = 200
"""Sweeps, evenly spread, that the statistics of the channels are computed from."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """A labelled point cloud.

    Attributes:
        cloud: N points.
        labels: (N,) class ids, 255 for unlabelled points.
        point_ids: (N,) int32, the row of each point in a :class:`training.data.feature_bank.PointFeatureBank`; 0 for
            points without features. None stands for all zeros.
        sensor: the LiDAR: its beams, mounting and intensity scale; None if it is that of the network's range image.
        heights: (N,) float32 metres above the ground, of augmented sweeps; None: from the sensor's mounting.
    """

    cloud: PointCloud
    labels: NDArray[np.uint8]
    point_ids: NDArray[np.int32] | None = None
    sensor: SensorSpec | None = None
    heights: NDArray[np.float32] | None = None

    def selected(self, mask: NDArray[np.bool_]) -> Sweep:
        """The points of an (N,) mask."""
        index = np.flatnonzero(mask)  # indexing is twice as fast as masking
        intensity = None if self.cloud.intensity is None else self.cloud.intensity[index]
        ids = None if self.point_ids is None else self.point_ids[index]
        heights = None if self.heights is None else self.heights[index]
        cloud = PointCloud(self.cloud.xyz.take(index, axis=0), intensity)
        return Sweep(cloud, self.labels[index], ids, self.sensor, heights)

    def with_cloud(
        self,
        xyz: NDArray[np.float32],
        intensity: NDArray[np.float32] | None,
        heights: NDArray[np.float32] | None = None,
    ) -> Sweep:
        """The same points with other coordinates, intensity and heights."""
        return Sweep(PointCloud(xyz, intensity), self.labels, self.point_ids, self.sensor, heights)

    def with_labels(self, labels: NDArray[np.uint8]) -> Sweep:
        """The same points with other labels."""
        return replace(self, labels=labels)

    def heights_m(self) -> NDArray[np.float32]:
        """(N,) metres above the ground."""
        return Normalizer((), (0.0, 1.0), self.sensor).heights_m(self.cloud) if self.heights is None else self.heights


@dataclass(frozen=True)
class InputSpec:
    """Projection and normalisation of the network's inputs, fitted to training sweeps; stored in ``model.json``."""

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
        rows: str = BY_ELEVATION,
    ) -> InputSpec:
        """Compute the mean and standard deviation of each channel, and the beam table if ``beams`` is empty.

        A few hundred evenly spread sweeps are used: more cost memory and do not change the result.
        """
        sweeps = sweeps[:: 1 + len(sweeps) // _MAX_FITTED_SWEEPS]
        xyz = np.concatenate([s.cloud.xyz for s in sweeps])
        projection = ProjectionSpec(beams or _fitted_beams(xyz), width, rows=rows)
        unscaled = tuple(ChannelSpec(name, 0.0, 1.0) for name in channels)
        values = np.concatenate([_measured(sweep, unscaled, intensity_range) for sweep in sweeps]).astype(np.float64)
        statistics = zip(channels, values.mean(axis=0), values.std(axis=0), strict=True)
        # A channel that is the same everywhere, such as has_intensity, is centred only.
        specs = tuple(
            ChannelSpec(name, round(float(m), 4), round(float(s), 4) if s > _MIN_STD else 1.0)
            for name, m, s in statistics
        )
        return cls(projection, specs, intensity_range)

    def to_dict(self) -> dict[str, Any]:
        """The form stored in checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputSpec:
        """Inverse of :meth:`to_dict`."""
        channels = tuple(ChannelSpec(**c) for c in data["channels"])
        return cls(ProjectionSpec(**data["projection"]), channels, tuple(data["intensity_range"]))


def with_point_ids(sources: Sequence[Sequence[Sweep]], numbered: Sequence[bool]) -> list[list[Sweep]]:
    """Number the points of the chosen sources consecutively, from 1; ``numbered`` has one entry per source."""
    start, result = 1, []
    for sweeps, has_ids in zip(sources, numbered, strict=True):
        part = []
        for sweep in sweeps:
            ids = np.arange(start, start + len(sweep.labels), dtype=np.int32) if has_ids else None
            start += len(sweep.labels) if has_ids else 0
            part.append(replace(sweep, point_ids=ids))
        result.append(part)
    return result


@lru_cache(maxsize=512)
def projector_of(spec: ProjectionSpec, sensor: SensorSpec | None) -> RangeProjector:
    """The projector of a LiDAR's sweeps; made once for each LiDAR. Only rows by beam follow it, as at run time."""
    return RangeProjector(spec, sensor if spec.rows == BY_BEAM else None)


def _measured(
    sweep: Sweep, channels: tuple[ChannelSpec, ...], intensity_range: tuple[float, float]
) -> NDArray[np.float32]:
    """(N, K) channels of a sweep's points."""
    normalizer = Normalizer(channels, intensity_range, sweep.sensor)
    return normalizer.points(sweep.cloud, np.linalg.norm(sweep.cloud.xyz, axis=1))[:-1]


class WholeSweeps:
    """Whole sweeps without augmentation as network inputs."""

    def __init__(self, sweeps: Sequence[Sweep], spec: InputSpec, feature_bank: PointFeatureBank | None = None) -> None:
        self._bank = feature_bank or PointFeatureBank()
        self._sweeps, self._spec = sweeps, spec

    def __len__(self) -> int:
        return len(self._sweeps)

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        """The valid points: ``image`` (1, K + 1, H, W), ``points`` (1, N, K), ``pixel`` (1, N), ``labels`` (1, N).

        With cameras also ``seen`` (1, F + 1, H, W).
        """
        sweep, spec = self._sweeps[index], self._spec
        size = (spec.projection.height, spec.projection.width)
        projection = projector_of(spec.projection, sweep.sensor).project(sweep.cloud)
        valid = projection.pixel != NO_PIXEL
        normalizer = Normalizer(spec.channels, spec.intensity_range, sweep.sensor)
        features = normalizer.points(sweep.cloud, projection.range, sweep.heights)
        batch = {
            "image": normalizer.image(features, projection, *size)[None],
            "points": features[:-1][valid][None],
            "pixel": projection.pixel[valid][None],
            "labels": sweep.labels[valid][None],
        }
        if self._bank.image_features is not None:
            batch["seen"] = self._bank.image(sweep.point_ids, projection, size)[None]
        return batch


def sectors(sequence: DriveSequence, frame: int, cloud: PointCloud) -> NDArray[np.float64]:
    """(N,) azimuth of each point in the world frame, in sectors of 60 degrees: 0 to 6."""
    rotation = sequence.world_from_lidar(frame)[:2, :3]
    east, north = rotation @ cloud.xyz.T
    return np.asarray(np.arctan2(north, east) / (2 * np.pi) % 1.0 * SECTORS)


def hide_sectors(sweep: Sweep, position: NDArray[np.float64], hidden: Sequence[int]) -> Sweep:
    """Remove the labels in the hidden sectors and within 10 degrees of them.

    Args:
        sweep: the sweep.
        position: (N,) as returned by :func:`sectors`.
        hidden: numbers of the hidden sectors.
    """
    distance = np.full(len(position), np.inf)
    for sector in hidden:
        from_centre = np.abs((position - sector - 0.5 + SECTORS / 2) % SECTORS - SECTORS / 2)
        distance = np.minimum(distance, from_centre - 0.5)
    near = distance < GUARD_DEG * SECTORS / 360
    return sweep.with_labels(np.where(near, IGNORE, sweep.labels).astype(np.uint8))


def _fitted_beams(xyz: NDArray[np.float32]) -> tuple[float, ...]:
    try:
        return fit_beams(elevations_deg(xyz))
    except SensorError as error:
        raise SensorError(f"{error}; set model.beams to the name of a LiDAR") from error
