"""Augmentation of point clouds before projection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.config.training import AugmentConfig
from training.data.sweeps import Sweep
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.projection import RangeProjector
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


def augment(
    sweep: Sweep,
    sector_donor: Sweep,
    object_donor: Sweep,
    projector: RangeProjector,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Sweep:
    """Return a randomly augmented sweep.

    Args:
        sweep: the sweep.
        sector_donor: sweep whose sector may replace one of this sweep (PolarMix).
        object_donor: sweep whose objects may be pasted into this one.
        projector: assigns points to beams.
        config: strength of the augmentation.
        rng: random numbers.
    """
    result = move(sweep, config, rng)
    if rng.random() < config.mix:
        result = mix_sectors(result, move(sector_donor, config, rng), rng)
    if rng.random() < config.paste:
        result = paste_objects(result, move(object_donor, config, rng), projector, rng)
    result = change_intensity(result, config, rng)
    return drop(result, projector, config, rng)


def move(sweep: Sweep, config: AugmentConfig, rng: np.random.Generator) -> Sweep:
    """Add range noise, rotate about the vertical axis, mirror and scale; tilt and translate half of the sweeps.

    Moving the viewpoint blurs the beams and opens holes, so half of the sweeps keep theirs.
    """
    xyz = sweep.cloud.xyz
    if config.jitter_m:
        noise = rng.standard_normal(len(xyz), np.float32) * np.float32(config.jitter_m)
        distance = np.sqrt(np.einsum("ij,ij->i", xyz, xyz))
        xyz = xyz * (1 + noise / np.maximum(distance, 1.0))[:, None]
    half_yaw = rng.uniform(0, np.pi)
    matrix = transform((0, 0, 0), (0, 0, np.sin(half_yaw), np.cos(half_yaw)))[:3, :3]
    matrix = matrix * rng.uniform(1 - config.scale, 1 + config.scale) * (1, rng.choice((-1.0, 1.0)), 1)
    shift = np.zeros(3)
    if rng.random() < _MOVED_SHARE:
        roll, pitch = np.radians(rng.normal(0, config.tilt_deg, 2)) / 2
        matrix = transform((0, 0, 0), (np.sin(roll), np.sin(pitch), 0, 1))[:3, :3] @ matrix
        shift = rng.normal(0, (config.translate_m, config.translate_m, config.height_m))
    moved = _transformed(xyz, matrix) + shift.astype(np.float32)
    return sweep.with_cloud(moved, sweep.cloud.intensity)


def mix_sectors(sweep: Sweep, other: Sweep, rng: np.random.Generator) -> Sweep:
    """Replace one azimuth sector of 45 to 180 degrees by the other sweep's (PolarMix, Xiao et al. 2022)."""
    start, width = rng.uniform(-np.pi, np.pi), rng.uniform(np.pi / 4, np.pi)
    inserted = other.selected(_in_sector(other.cloud.xyz, start, width))
    return joined([sweep.selected(~_in_sector(sweep.cloud.xyz, start, width)), inserted])


def paste_objects(sweep: Sweep, other: Sweep, projector: RangeProjector, rng: np.random.Generator) -> Sweep:
    """Paste objects of another sweep into this one (after PolarMix, Xiao et al. 2022).

    Objects are rotated about the vertical axis and scaled along the rays, so that they stay on the beams. Occluded
    points, of the sweep and of the objects, are removed.
    """
    names = rng.permutation(list(_PASTED))[: int(rng.integers(1, _MAX_PASTED + 1))]
    parts = [sweep, *(_objects(other, str(name), rng) for name in names)]
    source = np.repeat(np.arange(len(parts)), [len(part.labels) for part in parts])
    combined = joined(parts)
    projection = projector.project(combined.cloud)
    nearest = projection.point[projection.pixel]
    visible = (source == source[nearest]) | (projection.range < projection.range[nearest] + _OBJECT_DEPTH_M)
    return combined.selected(visible)


def _objects(sweep: Sweep, name: str, rng: np.random.Generator) -> Sweep:
    """The points of one class, rotated and scaled; for a frequent class only those in one sector."""
    chosen = sweep.labels == _LABELS.id_of(name)
    if name in _FREQUENT:
        chosen &= _in_sector(sweep.cloud.xyz, rng.uniform(-np.pi, np.pi), rng.uniform(np.pi / 12, np.pi / 3))
    half_yaw = rng.uniform(0, np.pi)
    matrix = transform((0, 0, 0), (0, 0, np.sin(half_yaw), np.cos(half_yaw)))[:3, :3] * rng.uniform(*_PASTED[name])
    objects = sweep.selected(chosen)
    return objects.with_cloud(_transformed(objects.cloud.xyz, matrix), objects.cloud.intensity)


def _in_sector(xyz: NDArray[np.float32], start: float, width: float) -> NDArray[np.bool_]:
    relative = np.arctan2(xyz[:, 1], xyz[:, 0]) - np.float32(start)
    relative[relative < 0] += np.float32(2 * np.pi)
    return np.asarray(relative < width)


def change_intensity(sweep: Sweep, config: AugmentConfig, rng: np.random.Generator) -> Sweep:
    """Apply one gain and one exponent to the intensity of the whole sweep."""
    gain = np.exp(rng.normal(0, config.intensity_gain))
    gamma = np.exp(rng.normal(0, config.intensity_gamma))
    relative = np.maximum(_intensity(sweep), 0) / np.float32(_LARGEST_INTENSITY)
    changed = np.float32(_LARGEST_INTENSITY) * np.minimum(np.float32(gain) * relative ** np.float32(gamma), 1)
    return sweep.with_cloud(sweep.cloud.xyz, changed)


def drop(sweep: Sweep, projector: RangeProjector, config: AugmentConfig, rng: np.random.Generator) -> Sweep:
    """Drop random points and whole beams."""
    keep = rng.random(len(sweep.cloud), np.float32) >= rng.uniform(0, config.drop_points)
    if config.drop_rows:
        rows = projector.project(sweep.cloud).pixel // projector.spec.width
        dropped = rng.random(projector.spec.height) < rng.uniform(0, config.drop_rows)
        keep &= ~dropped[rows]
    return sweep.selected(keep)


def joined(sweeps: Sequence[Sweep]) -> Sweep:
    """Concatenate sweeps."""
    xyz = np.concatenate([s.cloud.xyz for s in sweeps])
    intensity = np.concatenate([_intensity(s) for s in sweeps])
    ids = None
    if any(s.point_ids is not None for s in sweeps):
        ids = np.concatenate(
            [np.zeros(len(s.labels), np.int32) if s.point_ids is None else s.point_ids for s in sweeps]
        )
    return Sweep(PointCloud(xyz, intensity), np.concatenate([s.labels for s in sweeps]), ids)


def _transformed(xyz: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    # einsum: a matrix product of three columns would take BLAS threads from the network.
    return np.einsum("ni,ji->nj", xyz, matrix.astype(np.float32))


def _intensity(sweep: Sweep) -> NDArray[np.float32]:
    assert sweep.cloud.intensity is not None
    return sweep.cloud.intensity
