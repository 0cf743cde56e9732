"""Bicycles, motorcycles and scooters, with or without a rider: class two_wheeler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from training.worldgen.assets.bodywork import draw, number_plate
from training.worldgen.assets.people import Pose
from training.worldgen.assets.people import rider as person_riding
from training.worldgen.assets.skins import hoop, limb, without_slivers
from training.worldgen.mesh import Mesh, box, cylinder, merge, tube

_LABEL = "two_wheeler"


def bicycle(rng: np.random.Generator, rider: bool) -> Mesh:
    """A bicycle: upright, touring or racing."""
    radius, base = draw(rng, (0.31, 0.35)), draw(rng, (1.0, 1.12))
    sporty = rng.random()
    saddle = np.array((-0.22, 0.0, draw(rng, (0.86, 0.98))))
    bar = np.array((0.33, 0.0, 1.12 - 0.14 * sporty))
    parts = [*_bicycle(rng, radius, base, saddle, bar)]
    if rider:
        turn = rng.uniform(0, 2 * np.pi)
        pedals = np.array((-0.04, 0.0, 0.28)) + 0.17 * np.array(
            [(np.cos(a), 0.0, np.sin(a)) for a in (turn, turn + np.pi)]
        )
        feet = pedals + np.array(((0.0, 0.1, 0.0), (0.0, -0.1, 0.0)))
        hands = bar + np.array(((-0.03, 0.24, 0.0), (-0.03, -0.24, 0.0)))
        hip = saddle + np.array((0.02, 0.0, 0.08))
        parts.append(person_riding(rng, Pose(hip, 0.25 + 0.45 * sporty, hands, feet), _LABEL))
    return without_slivers(merge(parts))


def _bicycle(rng: np.random.Generator, radius: float, base: float, saddle: ArrayLike, bar: ArrayLike) -> list[Mesh]:
    """Wheels, frame, saddle, handlebar; sometimes mudguards, a rack or a basket."""
    saddle, bar = np.asarray(saddle), np.asarray(bar)
    rear, front, crank = np.array((-base / 2, 0, radius)), np.array((base / 2, 0, radius)), np.array((-0.04, 0, 0.28))
    head, seat = bar + np.array((0.04, 0, -0.16)), saddle + np.array((0.03, 0, -0.12))
    tubes = [
        (crank, seat),
        (crank, head),
        (np.add(seat, (0.01, 0, -0.05)), np.add(head, (0, 0, 0.04))),
        (rear, crank),
        (rear, seat),
    ]
    paint = str(rng.choice(("metal_painted", "metal_bright")))
    frame = [_rod([a, b], 0.018, paint) for a, b in tubes]
    fork = [_rod([head, front], 0.018, paint), _rod([head, bar], 0.016, "metal"), _rod([seat, saddle], 0.015, "metal")]
    grips = _rod(
        [np.add(bar, (-0.04, 0.28, 0)), np.add(bar, (0, 0, 0.0)), np.add(bar, (-0.04, -0.28, 0))], 0.016, "trim"
    )
    seat_top = box((0.26, 0.15, 0.06), "leather", _LABEL, saddle - (0.02, 0, 0.03))
    lamp = box((0.04, 0.06, 0.06), "taillight", _LABEL, saddle - (0.12, 0, 0.09))
    tyres = [hoop(radius, 0.05, "tyre", _LABEL).placed(x, 0, 0) for x in (rear[0], front[0])]
    discs = [_spokes(radius - 0.04).placed(x, 0, radius) for x in (rear[0], front[0])]
    extras = (
        [box((0.35, 0.14, 0.03), "metal", _LABEL, (rear[0] - 0.02, 0, 2 * radius + 0.03))] if rng.random() < 0.4 else []
    )
    if rng.random() < 0.2:
        extras.append(box((0.28, 0.36, 0.24), "wood", _LABEL, np.add(bar, (0.2, 0, -0.22))))
    return [*tyres, *discs, *frame, *fork, grips, seat_top, lamp, *extras]


def _spokes(radius: float) -> Mesh:
    """Four thin bars through a hub, enough to produce some LiDAR returns."""
    ends = [radius * np.array((np.cos(a), 0, np.sin(a))) for a in np.arange(4) * np.pi / 4 + 0.2]
    return merge([_rod([-e, e], 0.004, "metal", 3) for e in ends])


def _rod(path: Sequence[ArrayLike], radius: float, material: str, sides: int = 4) -> Mesh:
    return limb(np.asarray(path), [radius] * len(path), material, _LABEL, sides=sides)


def motorcycle(rng: np.random.Generator, rider: bool) -> Mesh:
    """A motorcycle: naked, touring with a fairing and cases, or sporting."""
    base, radius = draw(rng, (1.35, 1.55)), draw(rng, (0.29, 0.33))
    saddle, bar = np.array((-0.2, 0.0, draw(rng, (0.74, 0.84)))), np.array((0.35, 0.0, draw(rng, (0.95, 1.1))))
    parts = _motorcycle(rng, base, radius, saddle, bar)
    if rider:
        feet = np.array(((0.0, 0.2, 0.28), (0.0, -0.2, 0.28)))
        hands = bar + np.array(((-0.06, 0.33, 0.02), (-0.06, -0.33, 0.02)))
        parts.append(
            person_riding(rng, Pose(np.add(saddle, (0.0, 0.0, 0.1)), draw(rng, (0.05, 0.45)), hands, feet), _LABEL)
        )
    return without_slivers(merge(parts))


def _motorcycle(rng: np.random.Generator, base: float, radius: float, saddle: ArrayLike, bar: ArrayLike) -> list[Mesh]:
    """Wheels, engine, tank, seat, fork, handlebar, lamps, number plate."""
    saddle, bar = np.asarray(saddle), np.asarray(bar)
    x = base / 2
    tyres = [_fat_wheel(radius, w).placed(at, 0, 0) for at, w in ((-x, 0.17), (x, 0.12))]
    engine = [
        box((0.5, 0.34, 0.36), "metal", _LABEL, (0.0, 0, 0.25)),
        box((0.9, 0.2, 0.16), "trim", _LABEL, (-0.1, 0, 0.55)),
    ]
    tank = limb(
        [(-0.05, 0, 0.8), (0.1, 0, 0.86), (0.36, 0, 0.82)], (0.1, 0.15, 0.1), "car_paint", _LABEL, sides=6, flat=1.1
    )
    seat = limb(
        [(-x - 0.1, 0, saddle[2] + 0.08), np.add(saddle, (-0.15, 0, 0.02)), np.add(saddle, (0.2, 0, -0.02))],
        (0.06, 0.09, 0.08),
        "leather",
        _LABEL,
        sides=6,
        flat=1.6,
    )
    fork = [_rod([(x, s * 0.09, radius), np.add(bar, (0.02, s * 0.09, -0.06))], 0.03, "metal") for s in (1, -1)]
    grips = _rod([np.add(bar, (-0.08, 0.38, 0)), bar, np.add(bar, (-0.08, -0.38, 0))], 0.02, "trim")
    swing = [_rod([(-x, s * 0.11, radius), (-0.15, s * 0.1, 0.4)], 0.03, "metal") for s in (1, -1)]
    pipe = _rod([(0.2, -0.16, 0.25), (-0.3, -0.17, 0.26), (-x - 0.1, -0.19, 0.4)], 0.05, "metal", 5)
    lamp = limb([(x - 0.2, 0, 0.88), (x - 0.08, 0, 0.88)], (0.06, 0.1), "headlight", _LABEL, sides=6)
    tail = box((0.06, 0.18, 0.08), "taillight", _LABEL, (-x - 0.16, 0, saddle[2] + 0.02))
    plate = number_plate(-x - 0.2, 0.6, _LABEL, True)
    parts = [*tyres, *engine, tank, seat, *fork, grips, *swing, pipe, lamp, tail, plate]
    if rng.random() < 0.35:
        parts += [box((0.42, 0.22, 0.34), "trim", _LABEL, (-x + 0.05, s * 0.28, 0.45)) for s in (1, -1)]
    if rng.random() < 0.5:
        parts.append(
            limb(
                [(x - 0.35, 0, 0.8), (x - 0.15, 0, 1.0), (x - 0.3, 0, 1.3)],
                (0.24, 0.22, 0.14),
                "car_paint",
                _LABEL,
                sides=5,
            )
        )
    return parts


def _fat_wheel(radius: float, width: float) -> Mesh:
    """A wheel of a motorcycle: tyre and a disc within."""
    wheel = cylinder(radius, width, "tyre", _LABEL, sides=12)
    disc = cylinder(0.62 * radius, width + 0.02, "rim", _LABEL, sides=8, base=(0, 0, -0.01))
    lying = np.array([(1, 0, 0, 0), (0, 0, 1, -width / 2), (0, -1, 0, radius), (0, 0, 0, 1)], np.float64)
    return merge([wheel, disc]).transformed(lying)


def scooter(rng: np.random.Generator, rider: bool) -> Mesh:
    """A motor scooter, or a kick scooter."""
    if rng.random() < 0.5:
        return without_slivers(merge(_kick_scooter(rng, rider)))
    x, bar, saddle = 0.63, np.array((0.4, 0.0, 1.05)), np.array((-0.25, 0.0, 0.74))
    shield = np.array([(0.28, 0, 0.3), (0.42, 0, 0.6), (0.44, 0, 0.95)])
    parts = [
        *[_fat_wheel(0.22, 0.12).placed(at, 0, 0) for at in (-x, x)],
        limb([(-x - 0.2, 0, 0.62), (-0.4, 0, 0.52), (0.0, 0, 0.36)], (0.12, 0.2, 0.12), "car_paint", _LABEL, sides=6),
        limb(shield, (0.18, 0.24, 0.1), "car_paint", _LABEL, sides=5, flat=1.2),
        box((0.5, 0.34, 0.08), "trim", _LABEL, (0.1, 0, 0.26)),
        box((0.7, 0.3, 0.12), "leather", _LABEL, saddle - (0.05, 0, 0.12)),
        _rod([(x, 0, 0.22), bar], 0.035, "metal"),
        _rod([np.add(bar, (-0.05, 0.34, 0)), bar, np.add(bar, (-0.05, -0.34, 0))], 0.02, "trim"),
        limb(
            [np.add(bar, (0.02, 0, -0.02)), np.add(bar, (0.12, 0, -0.02))], (0.06, 0.08), "headlight", _LABEL, sides=6
        ),
        box((0.05, 0.2, 0.08), "taillight", _LABEL, (-x - 0.28, 0, 0.58)),
        number_plate(-x - 0.28, 0.45, _LABEL, True),
    ]
    if rng.random() < 0.3:
        parts.append(box((0.4, 0.42, 0.42), "plastic", _LABEL, (-x - 0.1, 0, 0.73)))
    if rider:
        feet = np.array(((0.2, 0.13, 0.34), (0.2, -0.13, 0.34)))
        hands = bar + np.array(((-0.06, 0.3, 0.0), (-0.06, -0.3, 0.0)))
        parts.append(person_riding(rng, Pose(np.add(saddle, (0.05, 0, 0.1)), 0.05, hands, feet), _LABEL))
    return without_slivers(merge(parts))


def _kick_scooter(rng: np.random.Generator, rider: bool) -> list[Mesh]:
    """Deck, post, handlebar and two small wheels."""
    bar = np.array((0.38, 0.0, draw(rng, (0.95, 1.1))))
    parts = [
        *[_fat_wheel(0.11, 0.05).placed(x, 0, 0) for x in (-0.45, 0.48)],
        box((0.75, 0.16, 0.06), "trim", _LABEL, (-0.03, 0, 0.12)),
        _rod([(0.48, 0, 0.11), bar], 0.025, "metal_painted"),
        tube([np.add(bar, (0, 0.24, 0)), np.add(bar, (0, -0.24, 0))], 0.018, "trim", _LABEL),
    ]
    if rider:
        feet = np.array(((0.1, 0.04, 0.18), (-0.18, -0.04, 0.18)))
        hands = bar + np.array(((-0.02, 0.22, 0.0), (-0.02, -0.22, 0.0)))
        parts.append(person_riding(rng, Pose(np.array((-0.08, 0.0, 1.04)), 0.05, hands, feet), _LABEL))
    return parts
