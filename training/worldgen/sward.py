"""Sward: grass, weeds and bare soil as rough surfaces above the smooth ground near the ego path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from training.worldgen.materials import material_id
from training.worldgen.mesh import LABELS, Mesh
from training.worldgen.street.street_style import RURAL, pick
from training.worldgen.street.streets import Streets

_BANDS = ((0.0, 14.0, 0.6), (14.0, 30.0, 1.0), (30.0, 60.0, 2.0))
"""Distances from the ego path and spacing of the vertices there, metres."""
_SUNK_M = 0.12
"""Depth below the ground of vertices outside the zone, so that the sward ends at its border."""
_WAVES = 7
_WAYS = {
    "yard": (0.7, 0.25, 0.05),
    "green_island": (0.7, 0.25, 0.05),
    "field": (0.2, 0.4, 0.4),
    "wood": (0.0, 0.6, 0.4),
}
"""Probabilities of mown, rough and tall growth by kind of zone."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sward:
    """What grows in zones of one kind.

    Attributes:
        material: name of the material.
        height: mean height, metres.
        rough: height of tufts and bumps relative to the mean.
    """

    material: str
    height: float
    rough: float

    @classmethod
    def sample(cls, rng: np.random.Generator, kind: str, ground: str, rural: bool) -> Sward:
        """Draw the growth of zones of a kind (as in :class:`Zone`) with a ground material."""
        if ground in ("soil", "gravel"):
            return cls(ground, rng.uniform(0.02, 0.07), rng.uniform(0.4, 0.9))
        mown, rough, tall = _WAYS.get(kind, (0.3, 0.45, 0.25) if rural else (0.5, 0.4, 0.1))
        way = pick(rng, mown=mown, rough=rough, tall=tall)
        if way == "mown":
            return cls("lawn", rng.uniform(0.03, 0.08), rng.uniform(0.2, 0.5))
        height = rng.uniform(0.08, 0.22) if way == "rough" else rng.uniform(0.25, 0.75)
        dry = ground == "dry_grass" or rng.random() < 0.2
        return cls("dry_meadow" if dry else "meadow", height, rng.uniform(0.4, 0.9))


def sward_meshes(streets: Streets, rng: np.random.Generator, path: Array) -> list[Mesh]:
    """Meshes of the sward near a (K, 2) path, one for each band of resolution."""
    rural = streets.style.kind in RURAL
    swards = [Sward.sample(rng, z.kind, z.material, rural) if _grows(z.kind, z.label) else None for z in streets.zones]
    waves = rng.normal(size=(_WAVES, 2)), rng.uniform(0, 2 * np.pi, _WAVES)
    instance = int(rng.integers(1, 1 << 16))
    line = shapely.LineString(path)
    meshes = [_band(streets, rng, line, band, swards, waves, instance) for band in _BANDS]
    return [mesh for mesh in meshes if len(mesh)]


def _grows(kind: str, label: str) -> bool:
    return label == "terrain" and kind != "path"


def _band(
    streets: Streets,
    rng: np.random.Generator,
    line: shapely.Geometry,
    band: tuple[float, float, float],
    swards: list[Sward | None],
    waves: tuple[Array, Array],
    instance: int,
) -> Mesh:
    """Square cells of a band around a line that have a corner in a zone with a sward."""
    near, far, step = band
    corners, cells = _cells(line, near, far, step)
    zone = streets.zone_at(*corners.T)
    height = np.array([s.height if s else 0.0 for s in swards])[zone]
    rough = np.array([s.rough if s else 0.0 for s in swards])[zone]
    grown = height > 0
    clumps = np.clip(_clumps(corners, *waves) + rng.normal(scale=0.35, size=len(corners)), -1.0, 1.2)
    above = np.where(grown, height * np.maximum(1.0 + rough * clumps, 0.05), -_SUNK_M)
    z = streets.height(*corners.T) + above
    cells = cells[grown[cells].any(axis=1)]
    first = zone[cells[np.arange(len(cells)), np.argmax(grown[cells], axis=1)]]
    ids = np.array([material_id(s.material) if s else 0 for s in swards])
    used, compact = np.unique(cells, return_inverse=True)
    quads = compact.reshape(-1, 4)
    vertices = np.column_stack([corners, z])[used].astype(np.float32)
    triangles = np.concatenate([quads[:, (0, 1, 2)], quads[:, (0, 2, 3)]]).astype(np.int32)
    number = len(triangles)
    return Mesh(
        vertices,
        vertices,
        triangles,
        np.tile(ids[first], 2).astype(np.int16),
        np.full(number, LABELS.id_of("terrain"), np.uint8),
        np.full(number, instance, np.int32),
    )


def _cells(line: shapely.Geometry, near: float, far: float, step: float) -> tuple[Array, NDArray[np.int64]]:
    """(V, 2) corners and (Q, 4) counter-clockwise cells of a grid whose centres lie between two distances."""
    x0, y0, x1, y1 = line.buffer(far).bounds
    nx, ny = int((x1 - x0) / step) + 2, int((y1 - y0) / step) + 2
    x, y = x0 + step * np.arange(nx), y0 + step * np.arange(ny)
    middle = np.stack(np.meshgrid(x[:-1] + step / 2, y[:-1] + step / 2, indexing="ij"), axis=-1).reshape(-1, 2)
    places = shapely.points(middle)
    shapely.prepare(line)
    inside = shapely.dwithin(line, places, far)
    if near > 0:
        inside &= ~shapely.dwithin(line, places, near)
    i, j = np.divmod(np.flatnonzero(inside), ny - 1)
    cells = np.stack([i * ny + j, (i + 1) * ny + j, (i + 1) * ny + j + 1, i * ny + j + 1], axis=1)
    used, compact = np.unique(cells, return_inverse=True)
    column, row = np.divmod(used, ny)
    return np.column_stack([x[column], y[row]]), compact.reshape(-1, 4)


def _clumps(points: Array, directions: Array, phases: Array) -> Array:
    """Smooth random numbers about 0, mostly within +-1, with wavelengths of 1.5 to 8 m."""
    lengths = np.geomspace(1.5, 8.0, len(directions))
    vectors = directions / np.linalg.norm(directions, axis=1, keepdims=True) * (2 * np.pi / lengths)[:, None]
    return np.asarray(np.sin(points @ vectors.T + phases).sum(axis=1) / np.sqrt(len(directions)) * 0.8)
