"""Parts shared by vehicles: wheels, window panes, lights, mirrors, number plates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from training.worldgen.assets.skins import fan, loft
from training.worldgen.mesh import Mesh, box, merge, plate, polygon_mesh, quads

ARCH_GAP_M = 0.06
PROUD_M = 0.008
"""Offset of panes and lamps from the body surface."""

Panel = tuple[float, float, float, float, str]
HalfWidth = Callable[[NDArray[np.floating]], NDArray[np.floating]]


def draw(rng: np.random.Generator, span: Sequence[float]) -> float:
    """Draw a number from a (low, high) range."""
    return float(rng.uniform(*span))


def wheels(places: ArrayLike, radius: float, width: float, label: str, sides: int = 10) -> Mesh:
    """Wheels on z = 0 at (N, 2) positions: x of the axle, y of the tyre's centre (positive on the left)."""
    wheel = _wheel(radius, width, label, sides)
    return merge([wheel.placed(x, y, 0.0, 0.0 if y > 0 else np.pi) for x, y in np.asarray(places)])


def _wheel(radius: float, width: float, label: str, sides: int) -> Mesh:
    """A left wheel: tread, outer side, rim; the inner side is open."""
    tread = loft([_disc(radius, -width / 2, sides), _disc(radius, width / 2, sides)], "tyre", label, closed=True)
    flank = fan(_disc(radius, width / 2, sides), "tyre", label)
    rim = _disc(0.62 * radius, width / 2 + PROUD_M, 8) + np.array((0, 0, 0.38 * radius))
    return merge([tread, flank, fan(rim, "rim", label)])


def _disc(radius: float, y: float, sides: int) -> NDArray[np.float64]:
    """(sides, 3) circle around an axle along y, with a vertex on the ground."""
    angle = np.arange(sides) * (2 * np.pi / sides)
    return np.column_stack([-radius * np.sin(angle), np.full(sides, y), radius - radius * np.cos(angle)])


def arch_stations(axles: Sequence[float], radius: float) -> NDArray[np.float64]:
    """Stations x at which the lower edge of a body bends at its wheel arches."""
    reach = (radius + ARCH_GAP_M) * np.array((-1.0, -0.72, 0.0, 0.72, 1.0))
    return np.sort(np.concatenate([axle + reach for axle in axles]))


def arched(x: NDArray[np.float64], axles: Sequence[float], radius: float, clearance: ArrayLike) -> NDArray[np.float64]:
    """Height of a body's lower edge: its clearance, or the arch over a wheel."""
    reach = radius + ARCH_GAP_M
    off = np.min([np.abs(x - axle) for axle in axles], axis=0)
    arch = np.where(off < reach - 1e-6, radius + np.sqrt(np.maximum(reach**2 - off**2, 0)), 0)
    return np.maximum(clearance, arch)


def tapered(mesh: Mesh, low: float, high: float, ratio: float) -> Mesh:
    """The mesh tapered in y: unchanged at height ``low``, scaled by ``ratio`` at ``high``."""
    scale = np.interp(mesh.vertices[:, 2], (low, high), (1.0, ratio))
    scaled = mesh.vertices * np.column_stack([np.ones_like(scale), scale, np.ones_like(scale)])
    return replace(mesh, vertices=scaled.astype(np.float32))


def side_panes(outline: shapely.Polygon, spans: ArrayLike, half_width: HalfWidth, material: str, label: str) -> Mesh:
    """Panes on both sides of a body: the parts of an (x, z) outline within spans of x.

    Args:
        outline: area available for glass.
        spans: (N, 2) x from and to.
        half_width: y of the body's side at a height.
        material: of the panes.
        label: drive13 class.
    """
    low, high = outline.bounds[1], outline.bounds[3]
    parts = [outline.intersection(shapely.box(a, low, b, high)) for a, b in np.asarray(spans)]
    flat = polygon_mesh(shapely.MultiPolygon([p for p in parts if p.geom_type == "Polygon"]), material, label)
    return on_sides(flat, half_width)


def on_sides(flat: Mesh, half_width: HalfWidth) -> Mesh:
    """A flat mesh with x and z in its first two coordinates, projected onto both sides of a body."""
    x, z, _ = flat.vertices.T
    out = half_width(z) + PROUD_M
    right, left = (np.column_stack([x, side * out, z]).astype(np.float32) for side in (-1.0, 1.0))
    material, label = flat.material, flat.label
    both = [
        Mesh(v, v, f, material, label, flat.instance)
        for v, f in ((right, flat.triangles), (left, flat.triangles[:, ::-1]))
    ]
    return merge(both)


def panels_across(low: ArrayLike, high: ArrayLike, panels: Sequence[Panel], label: str) -> Mesh:
    """Panels on the front or the rear of a vehicle.

    Args:
        low: (2,) x and z of the lower edge of the supporting surface; front for x > 0, else rear.
        high: (2,) x and z of its upper edge.
        panels: y from and to; from and to as fractions between ``low`` and ``high``; material.
        label: drive13 class.
    """
    start, way = np.asarray(low, np.float64), np.asarray(high, np.float64) - low
    turn = np.sign(start[0])
    start = start + PROUD_M * turn * np.array((way[1], -way[0])) / np.hypot(*way)
    return merge([quads([_panel(start, way, turn, panel)], panel[4], label) for panel in panels])


def _panel(start: NDArray[np.float64], way: NDArray[np.float64], turn: float, panel: Panel) -> list[list[float]]:
    """(4, 3) corners, counter-clockwise seen from outside."""
    y0, y1, f0, f1, _ = panel
    (x0, z0), (x1, z1) = start + f0 * way, start + f1 * way
    return [[x0, turn * y0, z0], [x0, turn * y1, z0], [x1, turn * y1, z1], [x1, turn * y0, z1]]


def pair(inner: float, outer: float, low: float, high: float, material: str) -> list[Panel]:
    """A panel and its mirror image: lamps."""
    return [(inner, outer, low, high, material), (-outer, -inner, low, high, material)]


def number_plate(x: float, z: float, label: str, american: bool) -> Mesh:
    """A number plate at ``x``, facing forward for x > 0, else back."""
    width, height = (0.305, 0.152) if american else (0.52, 0.11)
    return plate(width, height, "licence_plate", label).placed(x, 0.0, z, 0.0 if x > 0 else np.pi)


def mirrors(x: float, half_width: float, z: float, size: tuple[float, float, float], material: str, label: str) -> Mesh:
    """A pair of mirrors attached at ``half_width``; size: length, width, height."""
    base = half_width + size[1] / 2 - 0.02
    return merge([box(size, material, label, (x, side * base, z)) for side in (1.0, -1.0)])


def underside(x: tuple[float, float], half_width: float, z: tuple[float, float], label: str) -> Mesh:
    """Floor and inner walls behind the wheels, so that wheel arches are dark and opaque."""
    (x0, x1), (z0, z1), w = x, z, half_width
    corners = [
        [(x0, w, z0), (x1, w, z0), (x1, -w, z0), (x0, -w, z0)],
        [(x0, -w, z0), (x1, -w, z0), (x1, -w, z1), (x0, -w, z1)],
        [(x1, w, z0), (x0, w, z0), (x0, w, z1), (x1, w, z1)],
    ]
    return quads(corners, "trim", label)
