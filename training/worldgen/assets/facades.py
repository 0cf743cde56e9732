"""Facades: walls with windows, doors, garages and shopfronts, built in one batch per kind.

A facade lies in the plane x = 0, faces +x and is centred on y = 0; the building rotates it to its side.
Openings are real holes with reveals, so that beams and shadows show their depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.worldgen.assets.parts import boxes, corners, panels, pick
from training.worldgen.mesh import Mesh, merge, quads

LABEL = "building"
Rectangles = NDArray[np.float64]
"""(N, 4): y from and to, z from and to, metres."""

WALLS = ("brick", "plaster", "plaster", "plaster_painted", "plaster_painted", "concrete", "stone", "planks_painted")
_GLASS_AHEAD_M = 0.02
_OPENING_SIZES = {
    # ranges of width, height and lower edge, metres
    "door": (0.95, 1.3, 2.05, 2.4, 0.0, 0.15),
    "garage": (2.3, 3.0, 2.1, 2.5, 0.0, 0.02),
    "gate": (3.2, 4.6, 3.2, 4.4, 0.0, 0.05),
    "shop": (1.8, 5.0, 2.2, 2.8, 0.02, 0.6),
    "window": (0.9, 1.6, 1.0, 1.6, 0.9, 1.1),
    "porch": (1.3, 1.8, 2.6, 2.9, 0.0, 0.0),
}


@dataclass(frozen=True)
class FacadeStyle:
    """Style parameters shared by a building's facades.

    Attributes:
        wall: material of the upper storeys.
        ground: material of the ground storey.
        trim: material of frames, sills and cornices.
        size: width and height of a window, metres.
        panes: panes of a window, horizontally and vertically.
        depth: recess of the glass behind the wall, metres.
        sills: whether windows have sills.
        surrounds: whether windows have frames on the wall.
        shutters: whether windows have open shutters.
        blinds: share of windows with a partly closed blind.
    """

    wall: str
    ground: str
    trim: str
    size: tuple[float, float]
    panes: tuple[int, int]
    depth: float
    sills: bool
    surrounds: bool
    shutters: bool
    blinds: float

    @staticmethod
    def sample(rng: np.random.Generator, walls: Sequence[str] = WALLS) -> FacadeStyle:
        """Draw a style."""
        wall = pick(rng, walls)
        return FacadeStyle(
            wall=wall,
            ground=pick(rng, walls) if rng.random() < 0.4 else wall,
            trim=pick(rng, ("frame", "frame", "frame", "metal_painted", "trim", "stone")),
            size=(rng.uniform(0.8, 1.6), rng.uniform(1.2, 1.9)),
            panes=pick(rng, ((1, 1), (1, 2), (2, 1), (2, 2), (1, 2), (2, 3))),
            depth=rng.uniform(0.06, 0.28),
            sills=bool(rng.random() < 0.6),
            surrounds=bool(rng.random() < 0.3),
            shutters=bool(rng.random() < 0.12),
            blinds=rng.uniform(0.1, 0.6),
        )

    def plain(self) -> FacadeStyle:
        """The style without ornament, for sides that are rarely visible and for large buildings."""
        return replace(self, panes=(1, 1), sills=False, surrounds=False, shutters=False)


class Storey(NamedTuple):
    """A storey of one facade: a band of wall and its openings by kind."""

    low: float
    high: float
    wall: str
    openings: tuple[tuple[str, Rectangles], ...] = ()


@dataclass
class _Draft:
    """Meshes collected for one facade."""

    meshes: list[Mesh] = field(default_factory=list)

    def panels(self, rectangles: Rectangles, x: float, material: str) -> None:
        self.meshes.append(panels(rectangles, x, material, LABEL))

    def boxes(self, x0: float, x1: float, rectangles: Rectangles, material: str) -> None:
        depth = np.broadcast_to((x0, x1), (len(rectangles), 2))
        self.meshes.append(boxes(np.column_stack([depth, rectangles]), material, LABEL))


def facade(rng: np.random.Generator, width: float, storeys: Sequence[Storey], style: FacadeStyle) -> Mesh:
    """Wall of all storeys with filled openings."""
    draft = _Draft()
    for material in sorted({storey.wall for storey in storeys}):
        parts = [_around(width, storey) for storey in storeys if storey.wall == material]
        draft.panels(np.concatenate(parts), 0.0, material)
    for kind, fill in _FILLS.items():
        found = [r for storey in storeys for name, r in storey.openings if name == kind and len(r)]
        if found:
            fill(draft, rng, np.concatenate(found), style)
    return merge(draft.meshes)


def window_storey(width: float, low: float, high: float, wall: str, count: int, style: FacadeStyle) -> Storey:
    """A storey with up to ``count`` equal windows, evenly spaced."""
    count = min(count, int(width / (style.size[0] + 0.3)))
    height = min(style.size[1], high - low - 0.6)
    sill = low + min(0.95, (high - low - height) * 0.6)
    rectangles = _row(width, np.full(count, style.size[0]), np.full(count, sill), np.full(count, height))
    return Storey(low, high, wall, (("window", rectangles),))


def ground_storey(rng: np.random.Generator, width: float, high: float, wall: str, kinds: Sequence[str]) -> Storey:
    """A storey with openings of the given kinds from right to left; those that do not fit are omitted."""
    sizes = [_draw(rng, kind, high) for kind in kinds]
    room = np.cumsum([size[0] + 0.3 for size in sizes])
    fitting = int(np.searchsorted(room, width - 0.3, side="right"))
    widths, heights, sills = np.array(sizes[:fitting]).reshape(-1, 3).T
    rectangles = _row(width, widths, sills, heights)
    return Storey(0.0, high, wall, tuple((kind, rectangles[k : k + 1]) for k, kind in enumerate(kinds[:fitting])))


def ribbon_storey(width: float, low: float, high: float, wall: str, sill: float, margin: float) -> Storey:
    """A storey with one band of glass over its whole width."""
    band = np.array([(-width / 2 + margin, width / 2 - margin, low + sill, high - 0.35)])
    return Storey(low, high, wall, (("curtain", band),))


def _draw(rng: np.random.Generator, kind: str, storey: float) -> tuple[float, float, float]:
    """Draw width, height and lower edge of an opening in a storey of a given height."""
    width, wide, height, tall, edge, edge_to = _OPENING_SIZES[kind]
    sill = rng.uniform(edge, edge_to)
    return rng.uniform(width, wide), min(rng.uniform(height, tall), storey - sill - 0.25), sill


def _row(
    width: float, widths: NDArray[np.float64], lows: NDArray[np.float64], heights: NDArray[np.float64]
) -> Rectangles:
    """Rectangles side by side with equal gaps."""
    gap = (width - widths.sum()) / (len(widths) + 1)
    y = -width / 2 + gap + np.concatenate([[0.0], np.cumsum(widths + gap)[:-1]]) if len(widths) else widths
    return np.column_stack([y, y + widths, lows, lows + heights])


def _around(width: float, storey: Storey) -> Rectangles:
    """The wall of a storey without its openings."""
    low, high = storey.low, storey.high
    holes = np.concatenate([np.empty((0, 4)), *(r for _, r in storey.openings)])
    holes = holes[np.argsort(holes[:, 0], kind="stable")]
    y0, y1, z0, z1 = holes.T
    edges = np.column_stack([np.concatenate([[-width / 2], y1]), np.concatenate([y0, [width / 2]])])
    piers = np.column_stack([edges, np.broadcast_to((low, high), edges.shape)])
    below = np.column_stack([y0, y1, np.full_like(z0, low), z0])[z0 > low]
    above = np.column_stack([y0, y1, z1, np.full_like(z1, high)])[z1 < high]
    return np.concatenate([piers, below, above])


def _reveals(rectangles: Rectangles, depth: float, material: str) -> Mesh:
    """The four inner sides of openings."""
    y0, y1, z0, z1 = rectangles.T
    front, back = np.zeros_like(y0), np.full_like(y0, -depth)
    sides = (
        corners((back, front, front, back), (y0, y0, y1, y1), (z0, z0, z0, z0)),
        corners((back, back, front, front), (y0, y1, y1, y0), (z1, z1, z1, z1)),
        corners((back, back, front, front), (y0, y0, y0, y0), (z0, z1, z1, z0)),
        corners((back, front, front, back), (y1, y1, y1, y1), (z0, z0, z1, z1)),
    )
    return quads(np.concatenate(sides), material, LABEL)


def _split(rectangles: Rectangles, across: int, up: int, border: float) -> Rectangles:
    """Each rectangle divided into ``across`` x ``up`` panes with a frame of width ``border``."""
    y0, y1, z0, z1 = (edge[:, None, None] for edge in rectangles.T)
    column, row = np.arange(across)[None, :, None], np.arange(up)[None, None, :]
    wide, high = (y1 - y0 - border) / across, (z1 - z0 - border) / up
    left, low = y0 + border + column * wide, z0 + border + row * high
    panes = np.broadcast_arrays(left, left + wide - border, low, low + high - border)
    return np.stack(panes, axis=-1).reshape(-1, 4)


def _grown(rectangles: Rectangles, by: tuple[float, float, float, float]) -> Rectangles:
    return np.asarray(rectangles + np.array(by))


def _windows(draft: _Draft, rng: np.random.Generator, holes: Rectangles, style: FacadeStyle) -> None:
    draft.meshes.append(_reveals(holes, style.depth, style.trim if style.surrounds else style.wall))
    draft.panels(holes, -style.depth, style.trim)
    panes = _split(holes, *style.panes, 0.05)
    draft.panels(panes, _GLASS_AHEAD_M - style.depth, "window")
    _blinds(draft, rng, holes, style)
    if style.sills:
        ledges = np.column_stack([holes[:, 0] - 0.06, holes[:, 1] + 0.06, holes[:, 2] - 0.07, holes[:, 2]])
        draft.boxes(0.0, 0.09, ledges, style.trim)
    if style.surrounds:
        draft.panels(_strips_about(holes, 0.12), 0.03, style.trim)
    if style.shutters:
        _shutters(draft, holes)


def _blinds(draft: _Draft, rng: np.random.Generator, holes: Rectangles, style: FacadeStyle) -> None:
    """Blinds and curtains in random windows."""
    drawn = rng.random(len(holes))
    height = holes[:, 3] - holes[:, 2]
    closed = _grown(holes, (0.05, -0.05, 0.05, -0.05))
    closed[:, 2] = closed[:, 3] - height * rng.uniform(0.2, 0.9, len(holes))
    for chosen, material in ((drawn < style.blinds, "plaster"), (drawn > 0.94, "trim")):
        if chosen.any():
            draft.panels(closed[chosen], _GLASS_AHEAD_M - style.depth + 0.01, material)


def _strips_about(holes: Rectangles, wide: float) -> Rectangles:
    """Frames on the wall around openings."""
    y0, y1, z0, z1 = holes.T
    left = np.column_stack([y0 - wide, y0, z0 - wide, z1 + wide])
    right = np.column_stack([y1, y1 + wide, z0 - wide, z1 + wide])
    return np.concatenate(
        [left, right, np.column_stack([y0, y1, z0 - wide, z0]), np.column_stack([y0, y1, z1, z1 + wide])]
    )


def _shutters(draft: _Draft, holes: Rectangles) -> None:
    half = (holes[:, 1] - holes[:, 0]) / 2
    left = np.column_stack([holes[:, 0] - half, holes[:, 0], holes[:, 2:]])
    right = np.column_stack([holes[:, 1], holes[:, 1] + half, holes[:, 2:]])
    draft.panels(np.concatenate([left, right]), 0.05, "door")


def _doors(draft: _Draft, rng: np.random.Generator, holes: Rectangles, style: FacadeStyle) -> None:
    draft.meshes.append(_reveals(holes, style.depth, style.ground))
    draft.panels(holes, -style.depth, style.trim)
    draft.panels(_grown(holes, (0.07, -0.07, 0.0, -0.07)), 0.015 - style.depth, "door")
    if rng.random() < 0.5:
        glass = _grown(holes, (0.3, -0.3, 1.2, -0.3))
        draft.panels(glass, 0.03 - style.depth, "window")
    if rng.random() < 0.35:
        draft.boxes(0.0, rng.uniform(0.5, 1.0), _over(holes, 0.3, 0.12), style.trim)


def _over(holes: Rectangles, beyond: float, height: float) -> Rectangles:
    """Strips just above openings."""
    return np.column_stack(
        [holes[:, 0] - beyond, holes[:, 1] + beyond, holes[:, 3] + 0.05, holes[:, 3] + 0.05 + height]
    )


def _garages(draft: _Draft, rng: np.random.Generator, holes: Rectangles, style: FacadeStyle) -> None:
    depth = rng.uniform(0.08, 0.4)
    draft.meshes.append(_reveals(holes, depth, style.ground))
    draft.panels(holes, -depth, pick(rng, ("roller_door", "roller_door", "door", "cladding")))
    if rng.random() < 0.3:
        top = np.column_stack([holes[:, :2] + (0.2, -0.2), holes[:, 3:] - 0.55, holes[:, 3:] - 0.2])
        draft.panels(_split(top, 4, 1, 0.06), 0.02 - depth, "window")


def _shops(draft: _Draft, rng: np.random.Generator, holes: Rectangles, style: FacadeStyle) -> None:
    depth = rng.uniform(0.1, 0.35)
    draft.meshes.append(_reveals(holes, depth, style.ground))
    draft.panels(holes, -depth, style.trim)
    draft.panels(_split(holes, int(rng.integers(1, 4)), 1, 0.07), _GLASS_AHEAD_M - depth, "window")
    if rng.random() < 0.4:  # posters on the glass
        poster = np.column_stack([holes[:, 0] + 0.3, holes[:, 0] + 1.1, holes[:, 2] + 0.5, holes[:, 2] + 1.5])
        draft.panels(poster, 0.03 - depth, "print")
    if rng.random() < 0.2:  # closed shutter
        draft.panels(holes[:1], 0.05 - depth, "roller_door")


def _porches(draft: _Draft, rng: np.random.Generator, holes: Rectangles, style: FacadeStyle) -> None:
    """Entrances set back into the house, with steps up to the door."""
    depth, steps = rng.uniform(0.9, 1.5), int(rng.integers(2, 6))
    draft.meshes.append(_reveals(holes, depth, style.ground))
    for y0, y1, z0, z1 in holes:
        tops = z0 + np.arange(1, steps + 1) * 0.16
        fronts = -np.arange(steps) * (depth - 0.4) / steps
        stairs = [(-depth, x, y0, y1, z0, top) for x, top in zip(fronts, tops, strict=True)]
        draft.meshes.append(boxes(stairs, "concrete", LABEL))
        draft.panels(np.array([(y0, y1, z0, z1)]), -depth, style.trim)
        draft.panels(np.array([(y0 + 0.15, y1 - 0.15, tops[-1], z1 - 0.1)]), 0.02 - depth, "door")


def _curtains(draft: _Draft, rng: np.random.Generator, holes: Rectangles, style: FacadeStyle) -> None:
    """Curtain walls: glass between thin posts."""
    draft.panels(holes, -0.08, style.trim)
    wide = rng.uniform(1.0, 2.2)
    for hole in holes:
        up = max(1, round((hole[3] - hole[2]) / 3.5))
        draft.panels(_split(hole[None], max(1, round((hole[1] - hole[0]) / wide)), up, 0.07), -0.05, "window")
    draft.meshes.append(_reveals(holes, 0.08, style.trim))


_FILLS = {
    "window": _windows,
    "door": _doors,
    "garage": _garages,
    "gate": _garages,
    "shop": _shops,
    "porch": _porches,
    "curtain": _curtains,
}
