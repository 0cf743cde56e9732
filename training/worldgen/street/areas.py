"""Polygon overlays without their artefacts: points, lines and slivers."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

GRID_M = 1e-3  # vertices snap to a grid, so that adjacent areas share them exactly
_SLIVER_M2 = 0.4
_SLIVER_M = 0.06


def rounded(shape: shapely.Geometry, radius: float) -> shapely.Geometry:
    """The shape with concave corners rounded to a radius, like kerbs where two roads meet."""
    return shapely.simplify(shape.buffer(radius, 6).buffer(-radius, 6), 0.004)


def polygons(shape: shapely.Geometry) -> NDArray[np.object_]:
    """Polygons of a geometry, without points and lines that an overlay may leave."""
    parts = shapely.get_parts(shape)
    return np.asarray(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])


def without_slivers(shape: shapely.Geometry) -> shapely.Geometry:
    """The polygons that are neither tiny nor thinner than a few centimetres."""
    parts = polygons(shape)
    areas = shapely.area(parts)
    wide = areas > _SLIVER_M * shapely.length(parts) / 2
    return shapely.union_all(parts[(areas > _SLIVER_M2) & wide])
