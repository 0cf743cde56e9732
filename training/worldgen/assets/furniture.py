"""Street furniture with label other_static; signs and hazards come from ``posts`` and ``barriers``.

Objects face the road with +x and stand on the ground at the origin. Several are decoys: as large as a person or a
car, or with the image of a person on them.
"""

from __future__ import annotations

import numpy as np

from training.worldgen.assets.barriers import barrier, cone, debris, guard_rail, jersey_barrier, pylon, railing
from training.worldgen.assets.parts import boxes, limbs, panels, pick, picture
from training.worldgen.assets.posts import (
    billboard,
    direction_sign,
    lamp,
    overhead_sign,
    pole,
    street_name_sign,
    traffic_light,
    traffic_sign,
    utility_pole,
)
from training.worldgen.mesh import Mesh, box, cylinder, ellipsoid, extrude, merge

__all__ = [
    "advert_column",
    "barrier",
    "bench",
    "bike_rack",
    "billboard",
    "bin",
    "bollard",
    "bus_shelter",
    "cafe_table",
    "cone",
    "debris",
    "direction_sign",
    "dumpster",
    "electrical_cabinet",
    "guard_rail",
    "hydrant",
    "jersey_barrier",
    "lamp",
    "news_box",
    "overhead_sign",
    "parking_meter",
    "phone_box",
    "pole",
    "post_box",
    "poster_stand",
    "pylon",
    "railing",
    "street_name_sign",
    "traffic_light",
    "traffic_sign",
    "utility_pole",
]

STATIC = "other_static"
_COATS = ("metal_painted", "metal_painted", "metal_bright", "metal", "plastic")


def bin(rng: np.random.Generator) -> Mesh:
    """A litter bin, a wheeled bin, or a box with the proportions of a person."""
    kind = rng.random()
    if kind < 0.3:
        radius, height = rng.uniform(0.2, 0.32), rng.uniform(0.7, 1.1)
        body = cylinder(radius, height, pick(rng, ("metal", "metal_painted", "planks")), STATIC)
        return merge(
            [body, cylinder(radius * 1.08, 0.08, "trim", STATIC, top_radius=radius * 0.5, base=(0, 0, height))]
        )
    if kind < 0.65:
        return _wheeled_bin(rng)
    wide, deep, height = rng.uniform(0.4, 0.65), rng.uniform(0.3, 0.5), rng.uniform(1.2, 1.85)
    front = picture(wide * 0.7, height * 0.6, pick(rng, ("print", "poster", "metal")), STATIC)
    return merge([box((deep, wide, height), _coat(rng), STATIC), front.placed(deep / 2 + 0.01, 0, height / 2)])


def _wheeled_bin(rng: np.random.Generator) -> Mesh:
    """One to three wheeled bins side by side."""
    height, half, deep = rng.uniform(0.95, 1.3), rng.uniform(0.22, 0.32), rng.uniform(0.25, 0.38)
    side = [(-deep * 0.7, 0.05), (deep * 0.8, 0.05), (deep, height - 0.1), (-deep, height - 0.1)]
    lid = [(-deep - 0.04, height - 0.1), (deep + 0.05, height - 0.1), (deep, height - 0.03), (-deep, height)]
    wheels = boxes([(-deep, -deep * 0.5, y - 0.03, y + 0.03, 0.0, 0.2) for y in (-half, half)], "tyre", STATIC)
    body = extrude(side, 2 * half, pick(rng, ("plastic", "trim")), STATIC)
    one = merge([body, extrude(lid, 2 * half + 0.04, pick(rng, ("trim", "plastic")), STATIC), wheels])
    count = int(rng.choice((1, 1, 2, 3)))
    return merge([one.placed(rng.normal(scale=0.04), (k - (count - 1) / 2) * (2 * half + 0.12)) for k in range(count)])


def dumpster(rng: np.random.Generator) -> Mesh:
    """A skip or large container, as big as a car."""
    long, wide, height = rng.uniform(1.8, 4.4), rng.uniform(1.1, 1.9), rng.uniform(1.1, 1.7)
    x = wide / 2
    side = [(-x, 0.12), (x * 0.85, 0.12), (x, height * 0.75), (x * 0.9, height * 0.8), (-x, height)]
    body = extrude(side, long, pick(rng, ("metal_bright", "metal_painted", "truck_steel")), STATIC)
    feet = boxes(
        [(-x * 0.8, x * 0.8, y - 0.08, y + 0.08, 0.0, 0.14) for y in (-0.4 * long, 0.4 * long)], "tyre", STATIC
    )
    ribs = [(x * 0.85, x * 1.02, y - 0.04, y + 0.04, 0.2, height * 0.72) for y in np.linspace(-0.42, 0.42, 5) * long]
    return merge([body, feet, boxes(ribs, "metal_painted", STATIC)])


def electrical_cabinet(rng: np.random.Generator) -> Mesh:
    """A steel box on a plinth."""
    deep, wide, height = rng.uniform(0.3, 0.7), rng.uniform(0.5, 1.7), rng.uniform(0.9, 1.7)
    front = pick(rng, ("metal_painted", "mural", "print", "metal", "metal"))
    door = panels([(-wide * 0.45, wide * 0.45, 0.2, height - 0.08)], deep / 2 + 0.01, front, STATIC)
    plinth = box((deep + 0.06, wide + 0.06, 0.12), "concrete", STATIC)
    return merge([box((deep, wide, height), pick(rng, ("metal", "metal_painted")), STATIC), door, plinth])


def bench(rng: np.random.Generator) -> Mesh:
    """A seat of boards on legs or blocks, with or without a back."""
    half, seat = rng.uniform(0.6, 1.1), rng.uniform(0.4, 0.48)
    boards = [(x, x + 0.11, -half, half, seat, seat + 0.04) for x in (-0.2, -0.06, 0.08)]
    if rng.random() < 0.65:
        boards += [(-0.28, -0.24, -half, half, z, z + 0.11) for z in (seat + 0.12, seat + 0.28)]
    legs = [(-0.24, 0.18, y - 0.04, y + 0.04, 0.0, seat) for y in (-half * 0.8, half * 0.8)]
    backs = [(-0.24, -0.2, y - 0.03, y + 0.03, seat, seat + 0.38) for y in (-half * 0.8, half * 0.8)]
    top = pick(rng, ("wood", "wood", "planks_painted", "metal_painted"))
    frame = pick(rng, ("metal_painted", "concrete", "metal"))
    return merge([boxes(boards, top, STATIC), boxes(legs + (backs if len(boards) > 3 else []), frame, STATIC)])


def bus_shelter(rng: np.random.Generator) -> Mesh:
    """A roof on posts with glass on three sides, a bench, and often an advertisement; open towards +x."""
    half, deep, height = rng.uniform(1.5, 2.4), rng.uniform(1.2, 1.6), rng.uniform(2.3, 2.7)
    roof = boxes(
        (-deep, 0.25, -half - 0.1, half + 0.1, height, height + 0.12),
        pick(rng, ("metal", "metal_painted")),
        STATIC,
    )
    y = np.linspace(-half, half, 4)
    posts = [(-deep, -deep + 0.07, a - 0.035, a + 0.035, 0.0, height) for a in y]
    posts += [(-0.07, 0.0, a - 0.035, a + 0.035, 0.0, height) for a in (-half, half)]
    back = panels([(-half, half, 0.25, height - 0.2)], -deep + 0.03, "window", STATIC)
    side = panels([(-deep / 2 + 0.1, deep / 2 - 0.1, 0.25, height - 0.2)], 0.0, "window", STATIC)
    parts = [roof, boxes(posts, "metal_painted", STATIC), back, side.placed(-deep / 2, half, 0, np.pi / 2)]
    parts.append(boxes((-deep + 0.15, -deep + 0.5, -half * 0.7, half * 0.4, 0.42, 0.48), "wood", STATIC))
    advert = picture(deep - 0.25, 1.75, "poster" if rng.random() < 0.6 else "print", STATIC)
    panel = boxes((-deep + 0.1, -0.1, -half - 0.05, -half + 0.05, 0.2, height - 0.2), "metal_painted", STATIC)
    faces = [advert.placed(-deep / 2, -half + s * 0.06, 1.25, s * np.pi / 2) for s in (1, -1)]
    return merge(parts + ([panel, *faces] if rng.random() < 0.6 else [side.placed(-deep / 2, -half, 0, -np.pi / 2)]))


def hydrant(rng: np.random.Generator) -> Mesh:
    """A fire hydrant."""
    height, radius, coat = (
        rng.uniform(0.6, 0.85),
        rng.uniform(0.1, 0.14),
        pick(rng, ("metal_bright", "metal_bright", "frame", "metal")),
    )
    body = cylinder(radius, height * 0.8, coat, STATIC, sides=8)
    cap = ellipsoid((radius * 1.1, radius * 1.1, height * 0.2), coat, STATIC, (0, 0, height * 0.8), rings=4, sides=8)
    sides = (-0.05, 0.05, -radius - 0.07, radius + 0.07, height * 0.55, height * 0.65)
    nozzles = boxes([(-0.06, radius + 0.08, -0.06, 0.06, height * 0.5, height * 0.65), sides], coat, STATIC)
    return merge([body, cap, nozzles, cylinder(radius * 1.5, 0.06, coat, STATIC, sides=8)])


def post_box(rng: np.random.Generator) -> Mesh:
    """A letter box: a round-topped chest on legs, a pillar, or a chest on a post."""
    coat, height = pick(rng, ("metal_bright", "metal_bright", "metal_painted")), rng.uniform(1.1, 1.5)
    if rng.random() < 0.3:
        dome = ellipsoid((0.25, 0.25, 0.1), coat, STATIC, (0, 0, height), rings=4)
        return merge([cylinder(0.24, height, coat, STATIC), dome, cylinder(0.27, 0.15, "trim", STATIC)])
    half, legs = rng.uniform(0.22, 0.32), rng.uniform(0.12, 0.5)
    turn = np.linspace(0, np.pi, 7)
    arch = np.column_stack([np.cos(turn) * half, height - half + np.sin(turn) * half])
    chest = extrude([(-half, legs), (half, legs), *arch], 2 * half, coat, STATIC)
    feet = [
        (x - 0.04, x + 0.04, y - 0.04, y + 0.04, 0.0, legs)
        for x in (-half * 0.8, half * 0.8)
        for y in (-half * 0.8, half * 0.8)
    ]
    slot = panels([(-half * 0.7, half * 0.7, height * 0.62, height * 0.66)], half + 0.01, "trim", STATIC)
    return merge([chest, boxes(feet, coat, STATIC), slot])


def news_box(rng: np.random.Generator) -> Mesh:
    """One to four newspaper boxes side by side."""
    parts = []
    for k in range(rng.integers(1, 5)):
        low, height = rng.uniform(0.2, 0.45), rng.uniform(1.0, 1.3)
        chest = box((0.42, 0.46, height - low), _coat(rng), STATIC, (0, 0.52 * k, low))
        glass = panels([(-0.16, 0.16, height - 0.5, height - 0.15)], 0.22, "window", STATIC).placed(0, 0.52 * k)
        parts += [chest, glass, box((0.1, 0.1, low), "metal", STATIC, (0, 0.52 * k, 0))]
    return merge(parts)


def bollard(rng: np.random.Generator) -> Mesh:
    """A short post: steel, concrete or striped."""
    height, radius = rng.uniform(0.5, 1.15), rng.uniform(0.05, 0.16)
    coat = pick(rng, ("metal", "metal_painted", "concrete", "metal_bright", "barrier_stripes", "stone"))
    parts = [cylinder(radius, height, coat, STATIC, top_radius=radius * rng.uniform(0.7, 1.0), sides=8)]
    if rng.random() < 0.4:
        parts.append(cylinder(radius * 1.1, 0.1, "frame", STATIC, sides=8, base=(0, 0, height * 0.8)))
    return merge(parts)


def bike_rack(rng: np.random.Generator) -> Mesh:
    """Bent pipes in a row along y; no bicycles."""
    count, height, half = int(rng.integers(2, 6)), rng.uniform(0.75, 0.9), rng.uniform(0.3, 0.4)
    bow = np.array(
        [
            (-half, 0.0),
            (-half, height * 0.85),
            (-half * 0.7, height),
            (half * 0.7, height),
            (half, height * 0.85),
            (half, 0.0),
        ]
    )
    y = (np.arange(count) - (count - 1) / 2) * 0.8
    points = np.stack(np.broadcast_arrays(bow[:, 0], y[:, None], bow[:, 1]), axis=-1)
    material = pick(rng, ("metal", "metal", "metal_painted"))
    return limbs(points[:, :-1].reshape(-1, 3), points[:, 1:].reshape(-1, 3), 0.025, 0.025, material, STATIC, sides=5)


def advert_column(rng: np.random.Generator) -> Mesh:
    """An advertising column."""
    radius, height = rng.uniform(0.45, 0.7), rng.uniform(2.4, 3.4)
    body = cylinder(radius, height, pick(rng, ("print", "mural", "poster")), STATIC, sides=12)
    foot, cap = (cylinder(radius * 1.06, 0.25, "metal_painted", STATIC, sides=12, base=(0, 0, z)) for z in (0, height))
    bills = [picture(0.6, 0.9, "poster", STATIC).placed(np.cos(a) * radius * 1.02, np.sin(a) * radius * 1.02, 1.4, a)
             for a in rng.uniform(0, 2 * np.pi, 3)]  # fmt: skip
    return merge([body, foot, cap, *bills])


def poster_stand(rng: np.random.Generator) -> Mesh:
    """A decoy: an upright poster of a standing person in life size."""
    wide, height, low = rng.uniform(0.6, 1.2), rng.uniform(1.6, 2.0), rng.uniform(0.05, 0.6)
    face = picture(wide, height, "poster" if rng.random() < 0.85 else "print", STATIC)
    half = rng.uniform(0.02, 0.08)
    frame = boxes(
        (-half, half, -wide / 2 - 0.05, wide / 2 + 0.05, low - 0.05, low + height + 0.05), "metal_painted", STATIC
    )
    legs = boxes(
        [(-0.15, 0.15, y - 0.03, y + 0.03, 0.0, low) for y in (-wide * 0.4, wide * 0.4)], "metal_painted", STATIC
    )
    faces = [face.placed(side * (half + 0.01), 0, low + height / 2, yaw) for side, yaw in ((1, 0.0), (-1, np.pi))]
    return merge([frame, legs, *faces])


def phone_box(rng: np.random.Generator) -> Mesh:
    """A glass phone booth, or a hooded phone on a post."""
    coat = pick(rng, ("metal_bright", "metal_painted", "metal"))
    if rng.random() < 0.4:
        hood = boxes((-0.2, 0.3, -0.35, 0.35, 1.1, 2.1), coat, STATIC)
        return merge(
            [hood, box((0.12, 0.12, 1.1), "metal", STATIC), panels([(-0.28, 0.28, 1.2, 2.0)], 0.31, "trim", STATIC)]
        )
    half, height = rng.uniform(0.42, 0.5), rng.uniform(2.1, 2.4)
    posts = [(x - 0.04, x + 0.04, y - 0.04, y + 0.04, 0.0, height) for x in (-half, half) for y in (-half, half)]
    roof = box((2 * half + 0.12, 2 * half + 0.12, 0.15), coat, STATIC, (0, 0, height))
    pane = panels([(-half + 0.04, half - 0.04, 0.25, height - 0.1)], half, "window", STATIC)
    panes = [pane.placed(0, 0, 0, turn) for turn in (0.0, np.pi / 2, np.pi, -np.pi / 2)]
    return merge([boxes(posts, coat, STATIC), roof, *panes, box((0.3, 0.15, 0.9), "trim", STATIC, (-0.2, 0, 0.9))])


def parking_meter(rng: np.random.Generator) -> Mesh:
    """A small head on a post, or a pay station."""
    if rng.random() < 0.3:
        height = rng.uniform(1.4, 1.8)
        screen = panels([(-0.12, 0.12, height - 0.4, height - 0.2)], 0.16, "window", STATIC)
        return merge([box((0.3, 0.38, height), _coat(rng), STATIC), screen])
    height = rng.uniform(1.05, 1.3)
    twin = rng.random() < 0.3
    heads = [ellipsoid((0.09, 0.1, 0.16), "metal", STATIC, (0, y, height + 0.14), rings=5, sides=8)
             for y in ((-0.12, 0.12) if twin else (0.0,))]  # fmt: skip
    return merge([cylinder(0.035, height, "metal", STATIC, sides=7), *heads])


def cafe_table(rng: np.random.Generator) -> Mesh:
    """A table with two to four chairs, sometimes under a parasol."""
    material, top = pick(rng, ("wood", "metal_painted", "plastic")), rng.uniform(0.7, 0.78)
    radius = rng.uniform(0.3, 0.5)
    parts = [cylinder(0.03, top, "metal", STATIC, sides=6), cylinder(radius, 0.03, material, STATIC, base=(0, 0, top))]
    parts.append(cylinder(0.2, 0.03, "metal", STATIC, sides=8))
    for turn in rng.uniform(0, 2 * np.pi) + np.arange(rng.integers(2, 5)) * (np.pi / 2):
        parts.append(
            chair(material).placed(np.cos(turn) * (radius + 0.35), np.sin(turn) * (radius + 0.35), 0, turn + np.pi)
        )
    if rng.random() < 0.4:
        cloth = pick(rng, ("awning", "tarpaulin", "frame"))
        parts.append(cylinder(0.025, 2.5, "metal", STATIC, sides=6))
        parts.append(cylinder(rng.uniform(1.0, 1.5), 0.45, cloth, STATIC, top_radius=0.05, sides=8, base=(0, 0, 2.1)))
    return merge(parts)


def chair(material: str) -> Mesh:
    """A chair that faces +x."""
    legs = [(x - 0.015, x + 0.015, y - 0.015, y + 0.015, 0.0, 0.44) for x in (-0.18, 0.18) for y in (-0.18, 0.18)]
    seat = [(-0.21, 0.21, -0.21, 0.21, 0.44, 0.47), (-0.22, -0.19, -0.2, 0.2, 0.55, 0.88)]
    rails = [(-0.22, -0.19, y - 0.015, y + 0.015, 0.44, 0.6) for y in (-0.18, 0.18)]
    return merge([boxes(seat, material, STATIC), boxes(legs + rails, "metal", STATIC)])


def _coat(rng: np.random.Generator) -> str:
    return pick(rng, _COATS)
