"""Building styles reserved for test drives, to measure generalization to unseen buildings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training.worldgen.assets import roofs
from training.worldgen.assets.building_parts import closed_panel, flat_top, pillars, roof_clutter, upper_storeys, walls
from training.worldgen.assets.facades import LABEL, FacadeStyle, Storey, facade, ground_storey, window_storey
from training.worldgen.assets.parts import boxes, evenly, limbs
from training.worldgen.mesh import Mesh, merge, prism

_FACETS = 8


def _round_front(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """A faceted round front before a plain body."""
    style = replace(FacadeStyle.sample(rng), shutters=False, sills=False)
    floors, height = int(rng.integers(3, 7)), rng.uniform(3.0, 3.5)
    bands = [(k * height, (k + 1) * height) for k in range(floors)]
    radius = min(width / 2, depth * 0.8)
    step = np.pi / _FACETS
    angle = (np.arange(_FACETS) + 0.5) * step - np.pi / 2
    facet, middle = 2 * radius * np.sin(step / 2), radius * np.cos(step / 2)
    slim = replace(style, size=(min(style.size[0], facet - 0.4), style.size[1]), panes=(1, 2))
    meshes = []
    for turn in angle:
        storeys = [window_storey(facet, low, high, style.wall, 1, slim) for low, high in bands]
        front = facade(rng, facet, storeys, slim)
        meshes.append(front.placed(middle * np.cos(turn) - radius, middle * np.sin(turn), 0, float(turn)))
    corners = np.arange(_FACETS + 1) * step - np.pi / 2
    outline = np.column_stack([np.cos(corners) * radius - radius, np.sin(corners) * radius])
    top = floors * height
    meshes.append(prism(outline, 0.5, style.trim, LABEL, (0, 0, top)))
    body = boxes((-depth, -radius, -width / 2, width / 2, 0.0, top), style.wall, LABEL)
    return [*meshes, body, *roof_clutter(rng, width, depth, top)]


def _timbered(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """Timber framing: dark beams on plaster, projecting floors, and a steep gable to the street."""
    style = replace(FacadeStyle.sample(rng, ("plaster",)), size=(0.7, 1.1), panes=(2, 2), surrounds=False, depth=0.08)
    floors, height, jut = int(rng.integers(2, 4)), rng.uniform(2.5, 2.9), rng.uniform(0.1, 0.35)
    shifts = [jut * (k - floors + 1) for k in range(floors)]
    meshes = []
    for k, shift in enumerate(shifts):
        low, high = k * height, (k + 1) * height
        kinds = ("window", "door", "window", "window", "window")[: max(2, int(width / 2.4))]
        storey = ground_storey(rng, width, high, style.wall, kinds) if k == 0 else None
        storeys = [storey or window_storey(width, low, high, style.wall, max(1, int(width / 2.0)), style)]
        meshes += [mesh.placed(shift, 0) for mesh in walls(rng, width, depth + shift, storeys, style)]
        meshes.append(_beams(rng, width, low, high).placed(shift, 0))
    rise = rng.uniform(0.6, 0.9) * width
    roof = roofs.turned(roofs.gabled(width, depth, rise, 0.3, "roof_tiles", style.wall))
    top = floors * height
    gable = limbs(
        [(0.03, y * width / 2, top) for y in (-0.9, 0.9)], [(0.03, 0, top + rise * 0.9)] * 2, 0.1, 0.1, "wood", LABEL
    )
    return [*meshes, roof.placed(-depth / 2, 0, top), gable]


def _beams(rng: np.random.Generator, width: float, low: float, high: float) -> Mesh:
    """Posts, rails and braces of one floor."""
    y = evenly(width - 0.2, rng.uniform(0.9, 1.4))
    zero = np.zeros_like(y)
    posts = np.column_stack([zero, zero + 0.04, y - 0.08, y + 0.08, zero + low, zero + high])
    rails = [(0.0, 0.05, -width / 2, width / 2, z, z + 0.16) for z in (low, high - 0.16)]
    sides = np.array([(-1.0, 1.0), (1.0, -1.0)])
    foot = [(0.02, s * (width / 2 - 0.1), low + 0.05) for s in sides[:, 0]]
    head = [(0.02, s * (width / 2 - 1.0), high) for s in sides[:, 0]]
    braces = limbs(foot, head, 0.07, 0.07, "wood", LABEL)
    return merge([boxes(np.concatenate([posts, rails]), "wood", LABEL), braces])


def _stepped(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """A brick house with a stepped gable."""
    style = replace(FacadeStyle.sample(rng, ("brick", "brick", "stone")), size=(1.0, 1.9), panes=(2, 3), trim="frame")
    floors, base, height = int(rng.integers(2, 5)), rng.uniform(3.2, 3.8), rng.uniform(2.9, 3.3)
    kinds = ("porch", "window", "window", "window")[: max(1, int(width / 1.9))]
    ground = ground_storey(rng, width, base, style.ground, kinds)
    upper, style = upper_storeys(width, base, floors, height, rng.uniform(1.7, 2.2), style)
    top, rise, steps = base + floors * height, rng.uniform(0.5, 0.8) * min(width, 9.0), int(rng.integers(4, 7))
    meshes = walls(rng, width, depth, [ground, *upper], style)
    roof = roofs.turned(roofs.gabled(width, depth - 0.4, rise * 0.9, 0.0, "roof_tiles", style.wall))
    meshes.append(roof.placed(-depth / 2 - 0.2, 0, top))
    meshes.append(roofs.stepped_gable(width, rise, steps, 0.4, style.wall).placed(0, 0, top))
    slit = boxes((-0.05, 0.02, -0.4, 0.4, top + rise * 0.15, top + rise * 0.5), "window", LABEL)
    return [*meshes, slit]


def _brutalist(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """Bare concrete on columns, with deep window frames and overhanging blocks."""
    style = replace(
        FacadeStyle.sample(rng, ("concrete",)), depth=0.6, sills=False, shutters=False, panes=(1, 1), trim="concrete"
    )
    style = replace(style, size=(rng.uniform(1.4, 2.2), 1.7), surrounds=False)
    floors, base, height, back = (
        int(rng.integers(4, 9)),
        rng.uniform(3.6, 5.0),
        rng.uniform(3.0, 3.4),
        rng.uniform(1.5, 2.5),
    )
    upper, style = upper_storeys(width, base, floors, height, style.size[0] + rng.uniform(0.4, 1.0), style)
    top = base + floors * height
    crown, meshes = flat_top(rng, width, depth, top, style)
    meshes += walls(rng, width, depth, [*upper, crown], style)
    y = evenly(width - 0.8, rng.uniform(3.5, 6.0))
    places = np.concatenate([np.column_stack([y * 0 + x, y]) for x in (-0.5, -depth + 0.5)])
    meshes.append(pillars(places, 0.0, base, rng.uniform(0.25, 0.4), "concrete"))
    meshes.append(closed_panel(width, base - 0.02, base, 0.0, "concrete"))
    core = facade(rng, width - 1.0, [Storey(0.0, base, "window")], style)
    meshes.append(boxes((-depth, 0.0, -width / 2, width / 2, base - 0.35, base), "concrete", LABEL))
    meshes.append(core.placed(-back, 0))
    shaft = rng.uniform(-0.3, 0.3) * width
    return [*meshes, boxes((-0.4, 0.9, shaft - 1.5, shaft + 1.5, base - 0.5, top + 2.5), "concrete", LABEL)]


def _set_back(rng: np.random.Generator, width: float, depth: float) -> list[Mesh]:
    """Floors that step back as they rise, each behind a parapet of another material."""
    style = replace(FacadeStyle.sample(rng), panes=(2, 1), size=(rng.uniform(1.6, 2.4), 1.8))
    floors, height, back = int(rng.integers(3, 6)), rng.uniform(3.0, 3.4), rng.uniform(1.0, 1.8)
    meshes = []
    for k in range(floors):
        low, deep = k * height, max(4.0, depth - k * back)
        kinds = ("shop", "door") * max(1, int(width / 7))
        storey = (
            ground_storey(rng, width, height, style.ground, kinds)
            if k == 0
            else window_storey(width, low, low + height, style.wall, int(min(9, width / 3)), style.plain())
        )
        level = walls(rng, width, deep, [storey], style.plain())
        level.append(roofs.flat(deep, width, "roof_flat", 0.0).placed(-deep / 2, 0, low + height))
        level.append(boxes((-0.1, 0.0, -width / 2, width / 2, low + height, low + height + 1.0), style.trim, LABEL))
        meshes += [mesh.placed(deep - depth if k else 0.0, 0) for mesh in level]
    return meshes


Style = Callable[[np.random.Generator, float, float], "list[Mesh]"]
UNSEEN_STYLES: tuple[tuple[Style, float, float], ...] = (
    (_round_front, 5.0, 30.0),
    (_timbered, 4.0, 14.0),
    (_stepped, 4.0, 14.0),
    (_brutalist, 12.0, 60.0),
    (_set_back, 8.0, 60.0),
)
"""Style, minimum and maximum width of the front, metres."""
