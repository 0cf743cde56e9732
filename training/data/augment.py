"""Changes to sweeps that a drive could have brought about, made on points before projection."""

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
"""A pixel shows points of one thing up to this depth behind its nearest point."""
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
"""Classes that are pasted, and the range of their scale: a bush may have any size, a person may not."""
_FREQUENT = ("car", "building", "other_static")
_MOST_PASTED = 5


def augment(
    sweep: Sweep,
    sector_of: Sweep,
    objects_of: Sweep,
    projector: RangeProjector,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Sweep:
    """One random variant of a sweep.

    Args:
        sweep: the sweep.
        sector_of: the sweep that may give a sector to it.
        objects_of: the sweep that may give objects to it.
        projector: tells the beam of each point.
        config: how strongly to change.
        rng: the source of all randomness here.
    """
    result = move(sweep, config, rng)
    if rng.random() < config.mix:
        result = mix_sectors(result, move(sector_of, config, rng), rng)
    if rng.random() < config.paste:
        result = paste_objects(result, move(objects_of, config, rng), projector, rng)
    result = change_intensity(result, config, rng)
    return drop(result, projector, config, rng)


def move(sweep: Sweep, config: AugmentConfig, rng: np.random.Generator) -> Sweep:
    """See the world with another heading, mirrored or not, larger or smaller, with range noise; and from elsewhere.

    Half of the sweeps keep their viewpoint: from another one, beams are blurred and holes open.
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
    given = other.selected(_in_sector(other.cloud.xyz, start, width))
    return joined([sweep.selected(~_in_sector(sweep.cloud.xyz, start, width)), given])


def paste_objects(sweep: Sweep, other: Sweep, projector: RangeProjector, rng: np.random.Generator) -> Sweep:
    """Set objects of another sweep into this one (after PolarMix, Xiao et al. 2022).

    They come at another azimuth, and nearer or farther: scaled along the rays, so that the beams still meet them.
    What is behind them disappears, and what of them is behind something.
    """
    names = rng.permutation(list(_PASTED))[: int(rng.integers(1, _MOST_PASTED + 1))]
    parts = [sweep, *(_objects(other, str(name), rng) for name in names)]
    source = np.repeat(np.arange(len(parts)), [len(part.labels) for part in parts])
    everything = joined(parts)
    projection = projector.project(everything.cloud)
    nearest = projection.point[projection.pixel]
    seen = (source == source[nearest]) | (projection.range < projection.range[nearest] + _OBJECT_DEPTH_M)
    return everything.selected(seen)


def _objects(sweep: Sweep, name: str, rng: np.random.Generator) -> Sweep:
    """The points of one class, turned and scaled; of a frequent class only those of one sector."""
    chosen = sweep.labels == _LABELS.id_of(name)
    if name in _FREQUENT:
        chosen &= _in_sector(sweep.cloud.xyz, rng.uniform(-np.pi, np.pi), rng.uniform(np.pi / 12, np.pi / 3))
    half_yaw = rng.uniform(0, np.pi)
    matrix = transform((0, 0, 0), (0, 0, np.sin(half_yaw), np.cos(half_yaw)))[:3, :3] * rng.uniform(*_PASTED[name])
    objects = sweep.selected(chosen)
    return objects.with_cloud(_transformed(objects.cloud.xyz, matrix), objects.cloud.intensity)


def _in_sector(xyz: NDArray[np.float32], start: float, width: float) -> NDArray[np.bool_]:
    turned = np.arctan2(xyz[:, 1], xyz[:, 0]) - np.float32(start)
    turned[turned < 0] += np.float32(2 * np.pi)
    return np.asarray(turned < width)


def change_intensity(sweep: Sweep, config: AugmentConfig, rng: np.random.Generator) -> Sweep:
    """Another exposure: one gain and one exponent for the whole sweep."""
    gain = np.exp(rng.normal(0, config.intensity_gain))
    gamma = np.exp(rng.normal(0, config.intensity_gamma))
    relative = np.maximum(_intensity(sweep), 0) / np.float32(_LARGEST_INTENSITY)
    changed = np.float32(_LARGEST_INTENSITY) * np.minimum(np.float32(gain) * relative ** np.float32(gamma), 1)
    return sweep.with_cloud(sweep.cloud.xyz, changed)


def drop(sweep: Sweep, projector: RangeProjector, config: AugmentConfig, rng: np.random.Generator) -> Sweep:
    """Lose single points, and whole beams."""
    kept = rng.random(len(sweep.cloud), np.float32) >= rng.uniform(0, config.drop_points)
    if config.drop_rows:
        rows = projector.project(sweep.cloud).pixel // projector.spec.width
        blind = rng.random(projector.spec.height) < rng.uniform(0, config.drop_rows)
        kept &= ~blind[rows]
    return sweep.selected(kept)


def joined(sweeps: Sequence[Sweep]) -> Sweep:
    """The points of several sweeps."""
    xyz = np.concatenate([s.cloud.xyz for s in sweeps])
    intensity = np.concatenate([_intensity(s) for s in sweeps])
    rows = None
    if any(s.rows is not None for s in sweeps):
        rows = np.concatenate([np.zeros(len(s.labels), np.int32) if s.rows is None else s.rows for s in sweeps])
    return Sweep(PointCloud(xyz, intensity), np.concatenate([s.labels for s in sweeps]), rows)


def _transformed(xyz: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    # einsum, because a matrix product would take BLAS threads from the network for three columns.
    return np.einsum("ni,ji->nj", xyz, matrix.astype(np.float32))


def _intensity(sweep: Sweep) -> NDArray[np.float32]:
    assert sweep.cloud.intensity is not None
    return sweep.cloud.intensity
