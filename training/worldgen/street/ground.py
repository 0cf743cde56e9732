"""Ground meshes: zones, paint, kerbs and hills as one watertight surface.

All borders form one planar arrangement of lines, whose faces are triangulated. Neighbouring faces therefore share
vertices, paint lies in the surface instead of above it, and a kerb face is added wherever neighbours differ in height.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from training.worldgen.materials import MATERIALS, material_id
from training.worldgen.mesh import LABELS, Mesh, quads
from training.worldgen.street.areas import GRID_M
from training.worldgen.street.streets import Streets

_CELLS_M = (48.0, 24.0, 12.0, 6.0)
_SPLIT_WITHIN_M = (110.0, 45.0, 12.0)
_SAG_M = 0.014
_STEP_M = 1e-3  # lower kerbs are omitted
_MILLIMETRES = 1000

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


def ground_meshes(streets: Streets, rng: np.random.Generator) -> list[Mesh]:
    """Meshes of the ground surface and of the vertical kerb faces.

    Returns:
        Meshes with one instance id for each zone material and paint; texture coordinates are world coordinates.
    """
    faces = _faces(streets)
    inside = shapely.get_coordinates(shapely.point_on_surface(faces))
    zone = streets.zone_at(*inside.T)
    raised = np.array([z.raised for z in streets.zones])[zone]
    corners, triangles, face = _triangles(faces)
    level = streets.terrain(*corners.T)
    high = level + streets.relief.rise(corners)
    surface = _surface(streets, rng, zone, _paint(streets, inside, zone))
    top = _drape(corners, triangles, raised[face], level, high, tuple(part[face] for part in surface))
    return [top, *_kerbs(corners, triangles, raised[face], level, high)]


def _faces(streets: Streets) -> NDArray[np.object_]:
    """Faces of the planar arrangement of all borders."""
    borders = shapely.boundary(np.array([zone.shape for zone in streets.zones] + [p.shape for p in streets.paints]))
    creases = shapely.boundary(np.array(streets.relief.creases(), dtype=object))
    lines = np.concatenate([borders, creases, shapely.boundary(_grid(streets))])
    noded = shapely.union_all(lines, grid_size=GRID_M)
    return shapely.get_parts(shapely.polygonize(shapely.get_parts(noded)))


def _grid(streets: Streets) -> NDArray[np.object_]:
    """Quadtree cells that cover the area, fine near roads and coarse far away, to follow the hills."""
    x0, y0, x1, y1 = streets.zones[-1].shape.bounds
    size = _CELLS_M[0]
    x, y = np.meshgrid(np.arange(x0, x1, size), np.arange(y0, y1, size))
    cells, leaves = np.column_stack([x.ravel(), y.ravel()]), []
    shapely.prepare(streets.plan.corridor)
    for size, within in zip(_CELLS_M, (*_SPLIT_WITHIN_M, -1.0), strict=True):
        boxes = shapely.box(*cells.T, *(cells + size).T)
        if streets.terrain.curvature * size**2 / 4 < _SAG_M and size <= 12:
            within = -1.0
        split = shapely.dwithin(streets.plan.corridor, boxes, within) if within > 0 else np.zeros(len(cells), bool)
        leaves.append(boxes[~split])
        quarters = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * size / 2
        cells = (cells[split][:, None] + quarters).reshape(-1, 2)
    area = shapely.box(x0, y0, x1, y1)
    return shapely.intersection(np.concatenate(leaves), area)


def _paint(streets: Streets, inside: Array, zone: Numbers) -> Numbers:
    """Index of the topmost paint of each face, -1 for none."""
    top = np.full(len(inside), -1)
    if streets.paints:
        tree = shapely.STRtree([paint.shape for paint in streets.paints])
        face, paint = tree.query(shapely.points(inside), predicate="within")
        np.maximum.at(top, face, paint)
    surfaced = np.array([z.kind in ("road", "bay", "lot") for z in streets.zones])[zone]
    return np.where(surfaced, top, -1)


def _triangles(faces: NDArray[np.object_]) -> tuple[Array, Numbers, Numbers]:
    """Corners (V, 2), triangles (T, 3; counter-clockwise) and the face index (T,) of each triangle."""
    pieces, face = shapely.get_parts(shapely.constrained_delaunay_triangles(faces), return_index=True)
    rings = shapely.get_coordinates(pieces).reshape(-1, 4, 2)[:, :3]
    a, b, c = rings[:, 0], rings[:, 1], rings[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    rings[area < 0] = rings[area < 0, ::-1]
    rings, face = rings[area != 0], face[area != 0]
    grid = np.round(rings.reshape(-1, 2) * _MILLIMETRES).astype(np.int64)
    key, numbers = np.unique(grid[:, 0] * (1 << 32) + grid[:, 1], return_inverse=True)
    corners = np.empty((len(key), 2))
    corners[numbers] = grid / _MILLIMETRES
    return corners, numbers.reshape(-1, 3), face


def _surface(
    streets: Streets, rng: np.random.Generator, zone: Numbers, paint: Numbers
) -> tuple[Numbers, Numbers, Numbers]:
    """Material, label and instance of each face."""
    shades = {name: int(rng.integers(1, 1 << 16)) for name in MATERIALS}  # zones of one material share a shade
    rows = [(material_id(z.material), LABELS.id_of(z.label), shades[z.material]) for z in streets.zones]
    coats = [(material_id(p.material), LABELS.id_of(p.label), p.instance) for p in streets.paints]
    table = np.array(rows + coats)
    row = np.where(paint >= 0, len(rows) + paint, zone)
    material, label, instance = table[row].T
    return material, label, instance


def _drape(
    corners: Array,
    triangles: Numbers,
    raised: NDArray[np.bool_],
    level: Array,
    high: Array,
    surface: tuple[Numbers, ...],
) -> Mesh:
    """Triangles with heights; corners of raised faces are separate from those of level faces."""
    count = len(corners)
    vertices = np.tile(corners, (2, 1))
    vertices = np.column_stack([vertices, np.concatenate([level, high])]).astype(np.float32)
    numbers = triangles + np.where(raised, count, 0)[:, None]
    used, compact = np.unique(numbers, return_inverse=True)
    material, label, instance = surface
    return Mesh(
        vertices[used],
        vertices[used],
        compact.reshape(-1, 3).astype(np.int32),
        material.astype(np.int16),
        label.astype(np.uint8),
        instance.astype(np.int32),
    )


def _kerbs(corners: Array, triangles: Numbers, raised: NDArray[np.bool_], level: Array, high: Array) -> list[Mesh]:
    """Vertical faces where raised and level zones meet."""
    start, end = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    above = np.repeat(raised, 3)
    low_key = start[~above] * len(corners) + end[~above]
    high_key = end[above] * len(corners) + start[above]
    shared = np.intersect1d(low_key, high_key, assume_unique=True)
    a, b = np.divmod(shared, len(corners))
    tall = np.maximum(np.abs(high - level)[a], np.abs(high - level)[b]) > _STEP_M
    a, b = a[tall], b[tall]
    if len(a) == 0:
        return []
    sides = [np.column_stack([corners[k], height[k]]) for k, height in ((b, level), (a, level), (a, high), (b, high))]
    return [quads(np.stack(sides, axis=1), "kerbstone", "sidewalk")]
