"""Vehicles: cars, vans and pick-ups here, the rest in :mod:`trucks` and :mod:`two_wheelers`.

Vehicles face +x, centred on the origin, with their wheels on z = 0. Their instance id selects their colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.worldgen.assets.bodywork import tapered
from training.worldgen.assets.car_body import CarBody
from training.worldgen.assets.skins import without_slivers
from training.worldgen.assets.trucks import bus, truck
from training.worldgen.assets.two_wheelers import bicycle, motorcycle, scooter
from training.worldgen.mesh import Mesh, box, merge, prism

__all__ = ["bicycle", "bus", "car", "motorcycle", "pickup", "scooter", "truck", "van"]

_Ranges = Mapping[str, tuple[float, float]]

_MEASURES = (
    "length", "width", "height", "clearance", "radius", "front", "rear", "nose",
    "belt", "tail", "bonnet", "screen", "back", "boot", "roof", "drop",
)  # fmt: skip
"""Columns of the tables below, as in :class:`CarBody`."""


def _style(*ranges: tuple[float, float]) -> _Ranges:
    return dict(zip(_MEASURES, ranges, strict=True))


_HATCHBACK = _style(
    (3.6, 4.3), (1.7, 1.82), (1.42, 1.55), (0.17, 0.21), (0.29, 0.32), (0.72, 0.85), (0.55, 0.75), (0.7, 0.78),
    (0.92, 1.0), (0.02, 0.08), (0.85, 1.1), (0.65, 0.85), (0.25, 0.45), (0.04, 0.12), (0.74, 0.8), (0.02, 0.08),
)  # fmt: skip
_SEDAN = _style(
    (4.4, 5.0), (1.76, 1.92), (1.41, 1.5), (0.16, 0.2), (0.31, 0.34), (0.82, 0.95), (0.95, 1.15), (0.66, 0.75),
    (0.9, 0.97), (0.02, 0.1), (1.1, 1.35), (0.75, 0.95), (0.65, 0.9), (0.4, 0.6), (0.7, 0.77), (0.03, 0.08),
)  # fmt: skip
_ESTATE = _style(
    (4.5, 4.95), (1.78, 1.9), (1.45, 1.56), (0.16, 0.2), (0.31, 0.34), (0.82, 0.95), (0.95, 1.1), (0.67, 0.76),
    (0.91, 0.98), (0.0, 0.05), (1.1, 1.3), (0.75, 0.95), (0.3, 0.5), (0.03, 0.1), (0.72, 0.78), (0.04, 0.09),
)  # fmt: skip
_SUV = _style(
    (4.3, 5.0), (1.8, 1.95), (1.62, 1.88), (0.21, 0.27), (0.34, 0.39), (0.82, 0.95), (0.85, 1.05), (0.86, 1.0),
    (1.05, 1.16), (0.0, 0.06), (1.0, 1.3), (0.55, 0.75), (0.15, 0.4), (0.04, 0.1), (0.76, 0.84), (0.02, 0.06),
)  # fmt: skip
_SPORTS = _style(
    (4.2, 4.7), (1.8, 1.93), (1.4, 1.45), (0.13, 0.16), (0.32, 0.35), (0.88, 1.0), (0.85, 1.0), (0.6, 0.68),
    (0.84, 0.9), (0.0, 0.06), (1.35, 1.6), (0.85, 1.05), (0.9, 1.2), (0.2, 0.35), (0.66, 0.73), (0.06, 0.12),
)  # fmt: skip
_MINIVAN = _style(
    (4.4, 5.0), (1.8, 1.95), (1.65, 1.85), (0.17, 0.21), (0.32, 0.35), (0.85, 0.98), (0.8, 1.0), (0.8, 0.92),
    (1.0, 1.12), (0.0, 0.04), (0.75, 1.0), (0.75, 1.0), (0.12, 0.3), (0.03, 0.08), (0.8, 0.86), (0.02, 0.06),
)  # fmt: skip
_SMALL_VAN = _style(
    (4.2, 4.9), (1.75, 1.92), (1.78, 1.9), (0.18, 0.22), (0.31, 0.34), (0.85, 0.95), (0.7, 0.9), (0.85, 0.95),
    (1.05, 1.15), (0.0, 0.04), (0.75, 0.95), (0.6, 0.8), (0.05, 0.12), (0.02, 0.05), (0.86, 0.92), (0.0, 0.03),
)  # fmt: skip
_LARGE_VAN = _style(
    (5.2, 6.9), (1.95, 2.08), (2.25, 2.8), (0.22, 0.28), (0.34, 0.37), (0.9, 1.0), (0.95, 1.3), (0.95, 1.1),
    (1.2, 1.35), (0.0, 0.02), (0.75, 1.0), (0.6, 0.85), (0.04, 0.1), (0.01, 0.03), (0.85, 0.92), (0.0, 0.04),
)  # fmt: skip
_PICKUP = _style(
    (5.3, 5.9), (1.88, 2.05), (1.76, 1.96), (0.28, 0.36), (0.37, 0.42), (0.9, 1.0), (1.1, 1.3), (0.98, 1.12),
    (1.16, 1.26), (-0.03, 0.0), (1.35, 1.6), (0.5, 0.65), (0.1, 0.2), (1.6, 2.0), (0.78, 0.84), (0.0, 0.03),
)  # fmt: skip
_SMALL_PICKUP = _style(
    (4.8, 5.4), (1.72, 1.98), (1.6, 1.82), (0.22, 0.3), (0.34, 0.38), (0.85, 0.98), (1.0, 1.25), (0.9, 1.05),
    (1.05, 1.18), (-0.03, 0.08), (1.1, 1.45), (0.55, 0.75), (0.1, 0.35), (1.3, 1.7), (0.76, 0.83), (0.0, 0.03),
)  # fmt: skip

_SIZED = ("length", "width", "height", "radius", "bonnet", "screen")
"""Correlated dimensions: a long car is also wide and high."""


def car(rng: np.random.Generator) -> Mesh:
    """A hatchback, sedan, estate, SUV or sports car."""
    kind = int(rng.choice(5, p=(0.24, 0.3, 0.14, 0.27, 0.05)))
    panes = (2, 2, 3, 3, 1)[kind]
    body = _body(rng, (_HATCHBACK, _SEDAN, _ESTATE, _SUV, _SPORTS)[kind], "car", panes=panes)
    rack = [body.roof_rack()] if panes == 3 and rng.random() < 0.35 else []
    return _built([*body.parts(), *rack])


def van(rng: np.random.Generator) -> Mesh:
    """A minivan or a small van (class car), or a large panel van for deliveries (class truck)."""
    kind = rng.random()
    if kind < 0.4:
        return _built(_body(rng, _MINIVAN, "car", panes=3).parts())
    if kind < 0.6:
        return _built(_body(rng, _SMALL_VAN, "car", panes=1, panel_van=True).parts())
    return _built(_body(rng, _LARGE_VAN, "truck", panes=1, panel_van=True).parts())


def pickup(rng: np.random.Generator) -> Mesh:
    """A large or small pick-up (class truck) whose bed is empty, loaded or covered."""
    style = _PICKUP if rng.random() < 0.6 else _SMALL_PICKUP
    body = _body(rng, style, "truck", open_bed=True, panes=int(rng.integers(1, 3)))
    kind = rng.random()
    cargo = [_hard_top(body)] if kind < 0.2 else [_lid(body)] if kind < 0.35 else _load(rng, body) if kind < 0.6 else []
    return _built([*body.parts(), body.bed(), *cargo])


def _body(rng: np.random.Generator, style: _Ranges, label: str, **fixed: int) -> CarBody:
    """A body with dimensions drawn from a style."""
    size = rng.random()
    share = {name: np.clip(size + rng.uniform(-0.2, 0.2), 0, 1) if name in _SIZED else rng.random() for name in style}
    measures = {name: float(low + share[name] * (high - low)) for name, (low, high) in style.items()}
    bumper = "trim" if rng.random() < 0.2 else "car_paint"
    return CarBody(label=label, bumper=bumper, american=bool(rng.random() < 0.5), **measures, **fixed)


def _hard_top(body: CarBody) -> Mesh:
    """A cover over a pick-up's bed, as high as its cab."""
    middle, length, half = body.bed_floor
    base, top = body.belt + body.tail - 0.02, body.height - 0.1
    outline = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (length / 2, half)
    cover = prism(outline, top - base, "car_paint", body.label, (middle, 0, base))
    return tapered(cover, base, top, 0.92 * body.roof * body.width / 2 / half)


def _lid(body: CarBody) -> Mesh:
    """A flat lid on a pick-up's bed."""
    middle, length, half = body.bed_floor
    return box((length, 2 * half + 0.06, 0.04), "trim", body.label, (middle, 0, body.belt + body.tail - 0.03))


def _load(rng: np.random.Generator, body: CarBody) -> list[Mesh]:
    """One to three boxes on a pick-up's bed."""
    middle, length, half = body.bed_floor
    count = int(rng.integers(1, min(4, int(length / 0.5) + 1)))
    places = middle + length * (np.arange(count) - (count - 1) / 2) / count
    material = str(rng.choice(("metal", "wood", "plastic", "tarpaulin")))
    size = rng.uniform((0.4, 0.5, 0.3), (0.8 * length / count, 1.8 * half, 0.9), (count, 3))
    return [box(s, material, body.label, (x, 0, body.belt - 0.5)) for s, x in zip(size, places, strict=True)]


def _built(parts: Sequence[Mesh]) -> Mesh:
    return without_slivers(merge(parts))
