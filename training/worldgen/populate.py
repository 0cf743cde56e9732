"""Static objects along the streets: buildings, gardens, lamps, trees, signs, parked vehicles, roadworks, people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import shapely

from training.worldgen.assets import barriers, buildings, furniture, greenery, people, posts, seats, vehicles, woodland
from training.worldgen.fences import add_fences_and_wires, add_pieces
from training.worldgen.placement import Maker, Placement, Pose2D
from training.worldgen.planting import add_plants
from training.worldgen.rural import furnish_country, furnish_motorway
from training.worldgen.street.street_style import RURAL
from training.worldgen.street.streets import Bay, Place, Plot


@dataclass(frozen=True)
class SceneDensity:
    """Object densities and probabilities of a drive.

    Attributes:
        parked: share of occupied parking spaces.
        tree_spacing: metres between street trees.
        lamp_spacing: metres between lamps.
        clutter_spacing: metres between other objects on the pavement.
        garden_border: probability that a front garden has a hedge, fence or wall.
        roadworks: number of roadworks.
        unseen_style: probability that a building has a style reserved for test drives.
    """

    parked: float
    tree_spacing: float
    lamp_spacing: float
    clutter_spacing: float
    garden_border: float
    roadworks: int
    unseen_style: float

    @classmethod
    def sample(cls, rng: np.random.Generator, unseen: bool, kind: str) -> SceneDensity:
        """Draw the densities of a drive in a district of a kind; ``unseen``: with building styles of test drives."""
        return cls(
            parked=1.0 - 0.75 * rng.random() ** 2,  # half of the drives: over four fifths
            tree_spacing=rng.choice((7.0, 9.0, 14.0, 22.0, 60.0)),
            lamp_spacing=rng.uniform(22.0, 40.0),
            clutter_spacing=rng.uniform(5.0, 18.0),
            garden_border=rng.uniform(0.3, 0.95),
            roadworks=int(rng.integers(0, 4) if kind in RURAL else rng.integers(3, 8)),
            unseen_style=0.35 if unseen else 0.0,
        )


_CLUTTER: dict[str, tuple[Maker, float]] = {
    # builder, relative frequency
    "bin": (furniture.bin, 1.5),
    "bench": (furniture.bench, 1.0),
    "hydrant": (furniture.hydrant, 0.7),
    "post_box": (furniture.post_box, 0.6),
    "bollard": (furniture.bollard, 1.2),
    "bike_rack": (furniture.bike_rack, 0.6),
    "bicycle": (lambda rng: vehicles.bicycle(rng, rider=False), 2.0),
    "motorcycle": (lambda rng: vehicles.motorcycle(rng, rider=False), 0.8),
    "news_box": (furniture.news_box, 0.7),
    "street_name": (posts.street_name_sign, 0.7),
    "billboard": (posts.billboard, 0.3),
    "pylon": (barriers.pylon, 1.0),
    "advert_column": (furniture.advert_column, 0.5),
    "poster_stand": (furniture.poster_stand, 1.3),
    "phone_box": (furniture.phone_box, 0.4),
    "cabinet": (furniture.electrical_cabinet, 0.9),
    "dumpster": (furniture.dumpster, 0.5),
    "parking_meter": (furniture.parking_meter, 0.8),
    "planter": (greenery.planter, 1.0),
    "cafe_table": (furniture.cafe_table, 0.4),
    "used_table": (seats.used_table, 0.5),
    "used_bench": (seats.used_bench, 0.7),
    "sign": (posts.traffic_sign, 2.2),
    "pole": (posts.pole, 0.8),
    "bush": (greenery.bush, 0.8),
    "standing": (people.standing, 2.2),
    "cone": (barriers.cone, 1.2),
}
_SIGNS = ("sign", "street_name")
"""Objects that face oncoming traffic."""
_FACING = ("billboard", "dumpster", "cabinet", "bike_rack", "phone_box", "news_box")
"""Objects that always face the road."""
_RARE: tuple[tuple[float, float, Maker, float], ...] = (
    # spacing in metres, distance from the road in metres, builder, yaw relative to facing the road
    (140.0, 1.8, furniture.bus_shelter, 0.0),
    (220.0, 0.7, posts.overhead_sign, np.pi / 2),
    (160.0, 1.6, posts.direction_sign, np.pi / 2),
    (260.0, 2.6, buildings.hut, 0.0),
)
_PARKED: tuple[tuple[Maker, float, float], ...] = (
    # builder, relative frequency, half the length in metres
    (vehicles.car, 7.0, 2.3),
    (vehicles.van, 1.8, 2.5),
    (vehicles.pickup, 3.0, 2.9),
    (vehicles.truck, 0.5, 4.5),
)
_AT_VEHICLE, _AT_WALL, _OVERGROWN, _ON_PAVEMENT = 0.05, 0.12, 0.07, 0.35
"""Probabilities of a person beside a parked vehicle, of people at a front wall, of climbers on it, and of a drive with
vehicles parked on pavements."""
_EGO_ROOM_M = 2.2
"""Minimum distance of objects on the road from the ego path."""


def populate(placement: Placement, rng: np.random.Generator, unseen: bool) -> None:
    """Add static objects to the streets; earlier ones take precedence where two would overlap."""
    density = SceneDensity.sample(rng, unseen, placement.streets.style.kind)
    _add_signals_and_signs(placement, rng)
    for plot in (*placement.streets.plots, *placement.streets.back_plots):
        _add_building(placement, rng, plot, density)
    _add_roadworks(placement, rng, density)
    for bay in placement.streets.bays:
        _add_parked_vehicle(placement, rng, bay, density.parked)
    if placement.streets.style.kind not in RURAL and rng.random() < _ON_PAVEMENT:
        _add_pavement_parking(placement, rng)
    if placement.streets.style.kind == "motorway":
        furnish_motorway(placement, rng)
    elif placement.streets.style.kind == "country":
        furnish_country(placement, rng)
    else:
        lamp_seed = int(rng.integers(1 << 32))  # all lamps of a street are identical
        for place in placement.streets.kerbside(density.lamp_spacing, rng):
            placement.add(posts.lamp, np.random.default_rng(lamp_seed), Pose2D(place.x, place.y, place.yaw))
        _add_street_trees(placement, rng, density.tree_spacing)
        _add_clutter(placement, rng, density.clutter_spacing)
    add_fences_and_wires(placement, rng)
    _add_benches(placement, rng)
    add_plants(placement, rng)


def _add_building(placement: Placement, rng: np.random.Generator, plot: Plot, density: SceneDensity) -> None:
    x, y = plot.points([(-plot.depth / 2, 0.0)])[0]
    if not placement.within_reach(x, y):
        return
    house = buildings.building(rng, plot.width, plot.depth, unseen=bool(rng.random() < density.unseen_style))
    placement.add_building(house, plot)
    if rng.random() < _AT_WALL and plot.setback > 0.3:
        local = [
            (rng.uniform(0.25, 0.6), rng.uniform(-0.45, 0.45) * plot.width) for _ in range(int(rng.integers(1, 4)))
        ]
        for px, py in plot.points(local):
            at = Pose2D(float(px), float(py), plot.yaw + rng.normal(0, 0.8))
            placement.add(people.standing, rng, at, slack=0.3)
    if rng.random() < _OVERGROWN:
        wide, tall = min(plot.width * rng.uniform(0.2, 0.9), 9.0), rng.uniform(2.0, 7.0)
        (x, y), *_ = plot.points([(0.02, rng.uniform(-0.3, 0.3) * plot.width)])
        placement.add_overhead(woodland.ivy(rng, wide, tall), Pose2D(float(x), float(y), plot.yaw))
    if plot.setback > 1.6 and rng.random() < density.garden_border:
        _add_front_garden(placement, rng, plot)


def _add_front_garden(placement: Placement, rng: np.random.Generator, plot: Plot) -> None:
    """Add a hedge, fence, wall or flower bed with an opening along the pavement, and plants behind it."""
    makers = (greenery.hedge, buildings.fence, buildings.wall, greenery.ivy_wall, greenery.flower_bed)
    maker, seed = makers[int(rng.choice(len(makers), p=(0.3, 0.3, 0.25, 0.05, 0.1)))], int(rng.integers(1 << 32))
    opening = rng.uniform(1.2, 3.5)
    half = (plot.width + min(plot.gap, 1.0) - opening) / 2
    if half > 1.5:
        for side in (-1, 1):
            ends = sorted((side * opening / 2, side * (opening / 2 + half)))
            start, end = plot.points([(plot.setback - 0.4, y) for y in ends])
            if not _paved(placement, *(start + end) / 2):
                add_pieces(placement, maker, seed, start, end)
    for _ in range(int(rng.integers(0, 8))):
        local = (rng.uniform(0.7, plot.setback - 0.6), rng.uniform(-0.5, 0.5) * plot.width)
        x, y = plot.points([local])[0]
        tall = plot.setback > 4 and rng.random() < 0.3
        if not _paved(placement, x, y):
            low = greenery.bush if rng.random() < 0.5 else woodland.shrub
            placement.add(greenery.tree if tall else low, rng, Pose2D(x, y, rng.uniform(-np.pi, np.pi)))


def _paved(placement: Placement, x: float, y: float) -> bool:
    """Whether a point is in a zone for driving or walking."""
    return _zone(placement, x, y) not in ("yard", "ground", "verge", "green_island", "plaza", "field", "meadow", "wood")


def _add_signals_and_signs(placement: Placement, rng: np.random.Generator) -> None:
    for junction in placement.streets.junctions:
        seed = int(rng.integers(1 << 32))
        for approach in junction.approaches:
            post = Pose2D(approach.post_x, approach.post_y, approach.post_yaw)
            if approach.control == "lights":
                own = np.random.default_rng(seed)
                placement.add(posts.traffic_light, own, post)
            elif approach.control != "none":
                placement.add(posts.traffic_sign, rng, post)


def _add_parked_vehicle(placement: Placement, rng: np.random.Generator, bay: Bay, share: float) -> None:
    occupied, kind = rng.random() < share, int(rng.choice(len(_PARKED), p=_frequencies([p[1] for p in _PARKED])))
    if not occupied or not placement.within_reach(bay.x, bay.y):
        return
    maker, _, half = _PARKED[kind]
    if half > bay.length / 2 + 1.0:  # too long for the bay: use a car
        maker, _, half = _PARKED[0]
    turned = np.pi * (rng.random() < (0.5 if bay.kind != "kerb" else 0.08))
    yaw = bay.yaw + turned + rng.normal(0, 0.02)
    placement.add_parked(maker(rng), Pose2D(bay.x + rng.normal(0, 0.1), bay.y + rng.normal(0, 0.1), yaw))
    if rng.random() < _AT_VEHICLE:
        side, along = rng.choice((-1, 1)) * rng.uniform(1.25, 1.6), rng.uniform(-1.0, 1.0) * half
        x, y = bay.x + along * np.cos(yaw) - side * np.sin(yaw), bay.y + along * np.sin(yaw) + side * np.cos(yaw)
        if placement.distance_to_path(x, y) > _EGO_ROOM_M:
            at = Pose2D(x, y, rng.uniform(-np.pi, np.pi))
            placement.add(people.standing, rng, at, on_road=True, slack=0.9)


def _add_pavement_parking(placement: Placement, rng: np.random.Generator) -> None:
    """Park cars on pavements and verges of roads without parking bays."""
    share = rng.uniform(0.2, 0.9)
    for place in placement.streets.kerbside(6.5, rng, back=rng.uniform(0.7, 1.1)):
        maker = _PARKED[int(rng.choice(2, p=(0.85, 0.15)))][0]
        before = place.x + 1.6 * np.cos(place.yaw), place.y + 1.6 * np.sin(place.yaw)
        turn = np.pi / 2 * rng.choice((-1, 1)) + rng.normal(0, 0.03)
        if rng.random() > share or place.kind not in ("pavement", "verge", "kerb"):
            continue
        if placement.distance_to_path(place.x, place.y) > _EGO_ROOM_M and _zone(placement, *before) == "road":
            placement.add_parked(maker(rng), Pose2D(place.x, place.y, place.yaw + turn))


def _zone(placement: Placement, x: float, y: float) -> str:
    """Kind of the zone at a point."""
    streets = placement.streets
    return streets.zones[int(streets.zone_at(x, y))].kind


def _add_street_trees(placement: Placement, rng: np.random.Generator, spacing: float) -> None:
    planted, big = rng.random() < 0.6, rng.random() < 0.35
    kind = int(rng.integers(1 << 32))  # a street has one species, in four variants
    for place in placement.streets.kerbside(spacing, rng, back=0.9):
        own = rng if rng.random() < 0.3 else np.random.default_rng((kind, int(rng.integers(4))))
        maker = greenery.street_tree if planted and rng.random() < 0.8 else greenery.tree
        if big and rng.random() < 0.7:
            maker = woodland.big_tree
        placement.add(maker, own, Pose2D(place.x, place.y, rng.uniform(-np.pi, np.pi)))


def _add_clutter(placement: Placement, rng: np.random.Generator, spacing: float) -> None:
    names = list(_CLUTTER)
    frequencies = _frequencies([weight for _, weight in _CLUTTER.values()])
    for back in (0.6, 1.6):
        for place in placement.streets.kerbside(spacing, rng, back=back):
            name = names[int(rng.choice(len(names), p=frequencies))]
            turn = np.pi / 2 if name in _SIGNS else 0.0 if name in _FACING else rng.choice((0.0, np.pi / 2, -np.pi / 2))
            yaw = place.yaw + turn + rng.normal(0, 0.1)
            placement.add(_CLUTTER[name][0], rng, Pose2D(place.x, place.y, yaw), back=None if turn else back)
    for spacing, back, maker, turn in _RARE:
        for place in placement.streets.kerbside(spacing, rng, back=back):
            placement.add(maker, rng, Pose2D(place.x, place.y, place.yaw + turn), back=None if turn else back)
    for place in placement.streets.kerbside(110.0, rng, back=0.5):
        _add_kerb_row(placement, rng, place)


def _add_kerb_row(placement: Placement, rng: np.random.Generator, place: Place) -> None:
    """Add a row of bollards or a railing along the kerb."""
    along = place.yaw + np.pi / 2
    if rng.random() < 0.5:
        seed = int(rng.integers(1 << 32))
        for k in range(int(rng.integers(4, 9))):
            x, y = place.x + 1.6 * k * np.cos(along), place.y + 1.6 * k * np.sin(along)
            if not _on_carriageway(placement, x, y):
                placement.add(furniture.bollard, np.random.default_rng(seed), Pose2D(x, y, place.yaw))
    elif not _on_carriageway(placement, place.x, place.y):
        maker = barriers.railing if rng.random() < 0.6 else barriers.guard_rail
        placement.add(partial(maker, length=rng.uniform(4.0, 9.0)), rng, Pose2D(place.x, place.y, place.yaw), slack=0.2)


def _on_carriageway(placement: Placement, x: float, y: float) -> bool:
    return bool(shapely.contains_xy(placement.streets.road, x, y))


def _add_roadworks(placement: Placement, rng: np.random.Generator, density: SceneDensity) -> None:
    """Add cones or barriers along a strip at the edge of the carriageway, with debris inside it."""
    places = placement.streets.kerbside(40.0, rng, back=-1.4)
    reachable = [p for p in places if placement.within_reach(p.x, p.y)]
    sites = [p for p in reachable if placement.distance_to_path(p.x, p.y) > _EGO_ROOM_M]
    for k in rng.permutation(len(sites))[: density.roadworks]:
        place = sites[int(k)]
        along = place.yaw + np.pi / 2
        length, seed = rng.uniform(5.0, 16.0), int(rng.integers(1 << 32))
        for s in np.arange(0.0, length, rng.uniform(1.2, 2.5)):
            x, y = place.x + s * np.cos(along), place.y + s * np.sin(along)
            if placement.distance_to_path(x, y) < _EGO_ROOM_M:
                continue
            maker = (barriers.cone, barriers.pylon, barriers.barrier)[int(rng.choice(3, p=(0.55, 0.25, 0.2)))]
            placement.add(maker, np.random.default_rng(seed), Pose2D(x, y, place.yaw), on_road=True)
        for _ in range(int(rng.integers(1, 5))):
            s, back = rng.uniform(0.5, length), rng.uniform(0.5, 1.2)
            x = place.x + s * np.cos(along) - back * np.cos(place.yaw)
            y = place.y + s * np.sin(along) - back * np.sin(place.yaw)
            if placement.distance_to_path(x, y) > _EGO_ROOM_M:
                placement.add(barriers.debris, rng, Pose2D(x, y, rng.uniform(-np.pi, np.pi)), on_road=True)


def _add_benches(placement: Placement, rng: np.random.Generator) -> None:
    """Add benches on squares."""
    streets = placement.streets
    x0, y0, x1, y1 = shapely.bounds(streets.road)
    for x, y in rng.uniform((x0, y0), (x1, y1), (80, 2)):
        if placement.within_reach(x, y) and streets.zones[int(streets.zone_at(x, y))].kind == "plaza":
            placement.add(furniture.bench, rng, Pose2D(float(x), float(y), rng.uniform(-np.pi, np.pi)))


def _frequencies(weights: list[float]) -> np.ndarray:
    values = np.asarray(weights)
    return np.asarray(values / values.sum())
