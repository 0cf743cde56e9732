"""Augmentation of sweeps, and their projection to range images.

Half of the transforms show the network what other vehicles and LiDARs would have measured: another viewpoint, other
beams, fewer firings, a narrower field of view, another response of the intensity, or no intensity at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.config.training import AugmentConfig
from training.data.sweeps import Sweep, projector_of
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.ground import usual_brightness
from xmodelkd_ros.core.projection import (
    NO_PIXEL,
    NO_POINT,
    ProjectionSpec,
    RangeProjection,
    without_single_gaps,
)
from xmodelkd_ros.core.sensor import SensorSpec, nearest
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.resources import label_map

_LARGEST_INTENSITY = 255.0
_OBJECT_DEPTH_M = 0.3
"""Points of a pixel up to this far behind its nearest point count as the same object."""
_MOVED_SHARE = 0.5
_LABELS = label_map("drive13")
_PASTED = {
    "truck": (0.8, 1.2),
    "two_wheeler": (0.8, 1.2),
    "person": (0.8, 1.2),
    "vegetation": (0.25, 1.2),
    "hazard": (0.6, 1.4),
    "traffic_sign": (0.6, 1.4),
    "car": (0.8, 1.2),
    "building": (0.25, 1.2),
    "other_static": (0.25, 1.2),
}
"""Pasted classes and their range of scale."""
_FREQUENT = ("car", "building", "other_static")
_MAX_PASTED = 5
_GROUND_HEIGHT_M, _GROUND_DISTANCE_M = 0.2, 15.0
_GROUND_SAMPLE, _MIN_GROUND_POINTS = 20_000, 50
_MIN_SHARE = 0.1
"""Share of the points that a sweep keeps at least when firings are removed."""
_MIN_BEAMS = 12
"""Beams that a sweep keeps at least when beams are removed from its table."""


@dataclass(frozen=True, eq=False)
class Projected:
    """A sweep and its range image."""

    sweep: Sweep
    projection: RangeProjection

    def selected(self, keep: NDArray[np.bool_]) -> Projected:
        """The points of an (N,) mask; pixels whose nearest point is not among them become empty."""
        index = np.full(len(keep) + 1, NO_POINT, np.int32)  # the last entry stands for empty pixels
        index[:-1][keep] = np.arange(np.count_nonzero(keep))
        old = self.projection
        return Projected(self.sweep.selected(keep), RangeProjection(old.pixel[keep], index[old.point], old.range[keep]))


def augment(
    sweep: Sweep,
    sector_donor: Sweep,
    object_donor: Sweep,
    spec: ProjectionSpec,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Projected:
    """Return a randomly augmented sweep and its range image.

    Args:
        sweep: the sweep.
        sector_donor: sweep whose sector may replace one of this sweep (PolarMix).
        object_donor: sweep whose objects may be pasted into this one.
        spec: the network's range image.
        config: strength of the augmentation.
        rng: random numbers.
    """
    result = resample_beams(move(sweep, config, rng), config, rng)
    if rng.random() < config.paste:
        result = paste_objects(result, move(object_donor, config, rng), spec, rng)
    projected = narrow(drop(result, spec, config, rng), spec.width, config, rng)
    if rng.random() < config.mix:
        donor = drop(resample_beams(move(sector_donor, config, rng), config, rng), spec, config, rng)
        projected = mix_sectors(projected, donor, spec.width, rng)
    return replace(projected, sweep=change_intensity(projected, spec.width, config, rng))


def move(sweep: Sweep, config: AugmentConfig, rng: np.random.Generator) -> Sweep:
    """Add range noise, rotate about the vertical axis, mirror and scale; tilt and translate half of the sweeps.

    Moving the viewpoint blurs the beams and opens holes, so half of the sweeps keep theirs. Heights above the ground
    are kept, but for an error of their estimate.
    """
    xyz, heights = sweep.cloud.xyz, sweep.heights_m()
    if config.jitter_m:
        noise = rng.standard_normal(len(xyz), np.float32) * np.float32(config.jitter_m)
        distance = np.sqrt(np.einsum("ij,ij->i", xyz, xyz))
        xyz = xyz * (1 + noise / np.maximum(distance, 1.0))[:, None]
    half_yaw = rng.uniform(0, np.pi)
    matrix = transform((0, 0, 0), (0, 0, np.sin(half_yaw), np.cos(half_yaw)))[:3, :3]
    scale = rng.uniform(1 - config.scale, 1 + config.scale)
    matrix = matrix * scale * (1, rng.choice((-1.0, 1.0)), 1)
    shift = np.zeros(3)
    if rng.random() < _MOVED_SHARE:
        roll, pitch = np.radians(rng.normal(0, config.tilt_deg, 2)) / 2
        matrix = transform((0, 0, 0), (np.sin(roll), np.sin(pitch), 0, 1))[:3, :3] @ matrix
        shift = rng.normal(0, (config.translate_m, config.translate_m, config.height_m))
    moved = _transformed(xyz, matrix) + shift.astype(np.float32)
    error = rng.normal(0, config.ground_error_m)
    return sweep.with_cloud(moved, sweep.cloud.intensity, heights * np.float32(scale) + np.float32(error))


def resample_beams(sweep: Sweep, config: AugmentConfig, rng: np.random.Generator) -> Sweep:
    """Keep some of the beams only, as another LiDAR would have: every n-th, a random choice, or a band."""
    if rng.random() >= config.resample or sweep.sensor is None:
        return sweep
    table = np.sort(np.asarray(sweep.sensor.beam_elevations_deg))[::-1]
    count = len(table)
    if count <= _MIN_BEAMS:
        return sweep
    kept = np.ones(count, np.bool_)
    kind = rng.integers(3)
    if kind == 0:
        step = int(rng.integers(2, max(3, min(8, count // _MIN_BEAMS) + 1)))
        kept = np.arange(count) % step == rng.integers(step)
    elif kind == 1:
        kept[:] = False
        kept[rng.choice(count, int(rng.integers(_MIN_BEAMS, count)), replace=False)] = True
    else:
        size = int(rng.integers(max(_MIN_BEAMS, count // 2), count))
        first = int(rng.integers(count - size + 1))
        kept = (np.arange(count) >= first) & (np.arange(count) < first + size)
    if kept.sum() < min(count, _MIN_BEAMS):
        return sweep
    own = sweep.selected(kept[nearest(table, elevations_deg(sweep.cloud.xyz))])
    return replace(own, sensor=replace(sweep.sensor, beam_elevations_deg=tuple(table[kept].tolist())))


def narrow(projected: Projected, width: int, config: AugmentConfig, rng: np.random.Generator) -> Projected:
    """Remove firings: some columns, as of a LiDAR that fires more rarely, or all outside a sector."""
    keep = np.ones(width, np.bool_)
    if rng.random() < config.fewer_columns:
        firings = int(rng.integers(width // 2, width))
        keep = np.diff(np.arange(width + 1) * firings // width).astype(np.bool_)
    if rng.random() < config.sector:
        keep &= (np.arange(width) - rng.integers(width)) % width < rng.uniform(1 / 6, 1 / 2) * width
    if keep.all():
        return projected
    pixel = projected.projection.pixel
    kept = (pixel != NO_PIXEL) & keep[pixel % width]
    if kept.sum() <= _MIN_SHARE * len(pixel):  # such as a sector beside the field of view
        return projected
    result = projected.selected(kept)
    point = without_single_gaps(result.projection.point.reshape(-1, width)).ravel()
    return replace(result, projection=replace(result.projection, point=point))


def mix_sectors(projected: Projected, donor: Projected, width: int, rng: np.random.Generator) -> Projected:
    """Replace one azimuth sector of 45 to 180 degrees by the other sweep's (PolarMix, Xiao et al. 2022).

    The sweeps may be of different LiDARs: each keeps the rows of its own beams.
    """
    inside = (np.arange(width) - rng.integers(width)) % width < rng.uniform(1 / 8, 1 / 2) * width
    parts = []
    for part, columns in ((projected, ~inside), (donor, inside)):
        pixel = part.projection.pixel
        parts.append(part.selected((pixel != NO_PIXEL) & columns[pixel % width]))
    first, second = (part.projection for part in parts)
    offset = np.int32(len(first.pixel))
    shifted = np.where(second.point >= 0, second.point + offset, second.point)
    columns = np.arange(len(first.point)) % width
    return Projected(
        joined([part.sweep for part in parts]),
        RangeProjection(
            np.concatenate([first.pixel, second.pixel]),
            np.where(inside[columns], shifted, first.point).astype(np.int32),
            np.concatenate([first.range, second.range]),
        ),
    )


def paste_objects(sweep: Sweep, other: Sweep, spec: ProjectionSpec, rng: np.random.Generator) -> Sweep:
    """Paste objects of another sweep into this one (after PolarMix, Xiao et al. 2022).

    Objects are rotated about the vertical axis and scaled along the rays, so that they stay on the beams. Occluded
    points, of the sweep and of the objects, are removed. A LiDAR with fewer beams has no objects to give.
    """
    if _beams(sweep, spec) > _beams(other, spec):
        return sweep
    names = rng.permutation(list(_PASTED))[: int(rng.integers(1, _MAX_PASTED + 1))]
    parts = [sweep, *(_objects(other, str(name), rng) for name in names)]
    source = np.repeat(np.arange(len(parts)), [len(part.labels) for part in parts])
    combined = joined(parts)
    projection = projector_of(spec, sweep.sensor).project(combined.cloud)
    nearest_point = projection.point[projection.pixel]
    visible = (source == source[nearest_point]) | (projection.range < projection.range[nearest_point] + _OBJECT_DEPTH_M)
    return combined.selected(visible)


def _beams(sweep: Sweep, spec: ProjectionSpec) -> int:
    return spec.height if sweep.sensor is None else len(sweep.sensor.beam_elevations_deg)


def _objects(sweep: Sweep, name: str, rng: np.random.Generator) -> Sweep:
    """The points of one class, rotated and scaled; for a frequent class only those in one sector."""
    chosen = sweep.labels == _LABELS.id_of(name)
    if name in _FREQUENT:
        chosen &= _in_sector(sweep.cloud.xyz, rng.uniform(-np.pi, np.pi), rng.uniform(np.pi / 12, np.pi / 3))
    half_yaw, scale = rng.uniform(0, np.pi), rng.uniform(*_PASTED[name])
    matrix = transform((0, 0, 0), (0, 0, np.sin(half_yaw), np.cos(half_yaw)))[:3, :3] * scale
    objects = sweep.selected(chosen)
    heights = objects.heights_m() + objects.cloud.xyz[:, 2] * np.float32(scale - 1)
    return objects.with_cloud(_transformed(objects.cloud.xyz, matrix), objects.cloud.intensity, heights)


def _in_sector(xyz: NDArray[np.float32], start: float, width: float) -> NDArray[np.bool_]:
    relative = np.arctan2(xyz[:, 1], xyz[:, 0]) - np.float32(start)
    relative[relative < 0] += np.float32(2 * np.pi)
    return np.asarray(relative < width)


def change_intensity(projected: Projected, width: int, config: AugmentConfig, rng: np.random.Generator) -> Sweep:
    """The sweep with intensities as another LiDAR would report them, or without any.

    The response is one of the whole sweep: exponent, gain of each beam, gain, offset, saturation, and quantisation.
    Where the ground's intensity is known, it is measured again afterwards, but for an error of its estimate (the gain).
    """
    sweep = projected.sweep
    if rng.random() < config.drop_intensity and sweep.sensor is not None:
        return replace(sweep, sensor=replace(sweep.sensor, ground_intensity=0.0))
    ground = sweep.sensor.ground_intensity if sweep.sensor is not None else 0.0
    # Without a ground intensity, relative to full scale.
    unit = np.float32(ground or _LARGEST_INTENSITY)
    relative = np.maximum(_intensity(sweep), 0) / unit
    relative = relative ** np.float32(np.exp(rng.normal(0, config.intensity_gamma)))
    if config.beam_gain and rng.random() < 0.5:
        gains = np.exp(rng.normal(0, rng.uniform(0, config.beam_gain), len(projected.projection.point) // width))
        relative *= gains.astype(np.float32)[np.maximum(projected.projection.pixel, 0) // width]
    if rng.random() < config.digitise:
        relative = _digitised(relative, rng)
    if ground:
        relative /= np.float32(_ground_level(relative, sweep, projected.projection.range) or 1)
    gain = np.float32(np.exp(rng.normal(0, config.intensity_gain)))
    limit = np.float32(np.inf) if ground else np.float32(1)
    return sweep.with_cloud(sweep.cloud.xyz, np.minimum(relative * gain, limit) * unit, sweep.heights)


def _digitised(relative: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Offset, saturation and quantisation of intensities relative to the ground's.

    Some LiDARs report 0 for most of dark asphalt (nuScenes' HDL-32E): a negative offset, or steps above the ground.
    """
    relative = np.maximum(relative + np.float32(rng.uniform(-0.95, 0.5)), 0)
    relative = np.minimum(relative, np.float32(np.exp(rng.uniform(np.log(2), np.log(60)))))
    levels = np.float32(np.exp(rng.uniform(np.log(0.4), np.log(40))))
    return np.asarray(np.rint(relative * levels) / levels)


def _ground_level(relative: NDArray[np.float32], sweep: Sweep, distance: NDArray[np.float32]) -> float:
    """Intensity of the ground near the vehicle, as estimated at run time; 1 if hardly any is seen."""
    some = slice(None, None, 1 + len(relative) // _GROUND_SAMPLE)
    near = (np.abs(sweep.heights_m()[some]) < _GROUND_HEIGHT_M) & (distance[some] < _GROUND_DISTANCE_M)
    return usual_brightness(relative[some][near]) if np.count_nonzero(near) >= _MIN_GROUND_POINTS else 1.0


def drop(sweep: Sweep, spec: ProjectionSpec, config: AugmentConfig, rng: np.random.Generator) -> Projected:
    """Drop random points and the returns of whole beams, and project the rest."""
    keep = rng.random(len(sweep.cloud), np.float32) >= rng.uniform(0, config.drop_points)
    projector = projector_of(spec, sweep.sensor)
    if config.drop_rows:
        rows = projector.project(sweep.cloud).pixel // spec.width
        dropped = rng.random(spec.height) < rng.uniform(0, config.drop_rows)
        keep &= ~dropped[rows]
    kept = sweep.selected(keep)
    return Projected(kept, projector.project(kept.cloud))


def joined(sweeps: Sequence[Sweep]) -> Sweep:
    """Concatenate sweeps; intensities are converted to the scale of the first one's LiDAR."""
    sensor = sweeps[0].sensor
    xyz = np.concatenate([s.cloud.xyz for s in sweeps])
    intensity = np.concatenate([_intensity(s) * np.float32(_scale_ratio(sensor, s.sensor)) for s in sweeps])
    heights = np.concatenate([s.heights_m() for s in sweeps])
    ids = None
    if any(s.point_ids is not None for s in sweeps):
        ids = np.concatenate(
            [np.zeros(len(s.labels), np.int32) if s.point_ids is None else s.point_ids for s in sweeps]
        )
    labels = np.concatenate([s.labels for s in sweeps])
    return Sweep(PointCloud(xyz, intensity), labels, ids, sensor, heights)


def _scale_ratio(sensor: SensorSpec | None, other: SensorSpec | None) -> float:
    if sensor is None or other is None or not (sensor.ground_intensity and other.ground_intensity):
        return 1.0
    return sensor.ground_intensity / other.ground_intensity


def _transformed(xyz: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    # einsum: a matrix product of three columns would take BLAS threads from the network.
    return np.einsum("ni,ji->nj", xyz, matrix.astype(np.float32))


def _intensity(sweep: Sweep) -> NDArray[np.float32]:
    assert sweep.cloud.intensity is not None
    return sweep.cloud.intensity
