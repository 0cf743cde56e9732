"""District type and street parameters, drawn once per drive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("urban", "residential", "suburban", "industrial", "country", "motorway")
RURAL = ("country", "motorway")
"""Kinds without pavements and kerbs."""
_SHARES = (0.29, 0.2, 0.11, 0.12, 0.18, 0.1)

_EDGE_LINES = {"suburban": 0.6, "industrial": 0.6, "country": 0.5, "motorway": 1.0}
"""Probability of marked edges of the carriageway; elsewhere 0.15."""


@dataclass(frozen=True)
class DistrictProfile:
    """Parameter ranges and probabilities of one kind of district.

    The last ones describe the main road: speed of the ego vehicle (metres per second), length of its path and of the
    road beyond each end of it (metres), number of junctions, amplitude (radians) and wavelength (metres) of its bends.
    """

    lane_width: tuple[float, float]
    two_lanes: float
    parking: float
    verge: float
    verge_width: tuple[float, float]
    pavement_width: tuple[float, float]
    no_pavement: float
    crossing: float
    lights: float
    setback: tuple[float, float]
    gap: tuple[float, float]
    front: tuple[float, float]
    depth: tuple[float, float]
    driveway: float
    speed: tuple[float, float]
    ego_speed: tuple[float, float] = (5.0, 14.0)
    ego_length: float = 350.0
    beyond: float = 60.0
    junctions: tuple[int, int] = (2, 4)
    sweep: tuple[float, float] = (0.1, 0.6)
    wavelength: tuple[float, float] = (180.0, 420.0)


DISTRICTS = {
    "urban": DistrictProfile(
        (3.0, 3.5), 0.5, 0.8, 0.2, (0.8, 1.8), (2.4, 5.0), 0.0, 0.9, 0.75, (0, 0.8), (0, 0.4),
        (9, 26), (11, 18), 0.08, (7, 14)),
    "residential": DistrictProfile(
        (2.8, 3.6), 0.0, 0.75, 0.45, (0.8, 2.2), (1.5, 2.6), 0.1, 0.55, 0.1, (1.5, 8), (1.5, 7),
        (8, 16), (9, 13), 0.5, (6, 11)),
    "suburban": DistrictProfile(
        (3.0, 3.6), 0.05, 0.15, 0.6, (1.5, 4.0), (1.5, 2.2), 0.45, 0.3, 0.05, (4.5, 13), (4, 14),
        (10, 18), (9, 13), 0.85, (9, 16)),
    "industrial": DistrictProfile(
        (3.3, 3.9), 0.3, 0.65, 0.3, (1.0, 3.0), (1.5, 2.4), 0.3, 0.35, 0.2, (0.2, 10), (4, 14),
        (18, 40), (16, 30), 0.8, (8, 14)),
    "country": DistrictProfile(
        (2.6, 3.6), 0.0, 0.0, 1.0, (1.2, 4.5), (1.5, 2.2), 1.0, 0.0, 0.03, (6, 25), (4, 25),
        (10, 22), (9, 14), 0.9, (14, 24), (7, 23), junctions=(0, 3), sweep=(0.05, 0.7)),
    "motorway": DistrictProfile(
        (3.4, 3.75), 1.0, 0.0, 1.0, (5, 12), (1.5, 2.2), 1.0, 0.0, 0.0, (4, 15), (0, 10),
        (25, 60), (16, 30), 0.0, (24, 33), (20, 33), 620.0, 130.0, (0, 0), (0.0, 0.12), (500, 900)),
}  # fmt: skip


@dataclass(frozen=True)
class StreetStyle:
    """Street parameters of one drive.

    Attributes:
        kind: one of :data:`KINDS`.
        district: parameter ranges of that kind.
        lane_width: metres.
        kerb: height of raised kerbs, metres; 0: all kerbs flush.
        kerbstones: whether kerbs have a visible row of stones.
        ramp: length over which a lowered kerb rises, metres.
        corner: radius of kerbs at corners, metres.
        bay_lines: whether parking bays are marked.
        build_outs: whether the pavement replaces parking before junctions.
        centre: kind of centre line: "none", "dashed", "solid", "double".
        centre_material: material of the centre line.
        edge_lines: whether carriageway edges are marked.
        crossing: kind of crossings: "zebra", "lines", "bricks", "plain".
        worn: share of worn-off paint, 0 to 1.
        cycle_lane: width of a cycle lane on the carriageway, metres; 0: none.
        cycle_painted: whether the whole surface of the cycle lane is painted.
        bus_lane: whether the kerb lane of roads with two lanes is painted.
        patches: repairs per 100 m of road.
        tar: tar lines per 100 m of road.
        letters: whether words and arrows are painted on lanes.
        road: material of roads.
        side_road: material of side roads.
        pavement: material of pavements.
        verge: material of verges.
        ground: material of open ground.
        driveway: material of driveways.
        forecourt: width of paved ground behind the pavement, metres; 0: none.
        banks: heights of the ground beside the main road on its left and right, metres; 0: level.
    """

    kind: str
    district: DistrictProfile
    lane_width: float
    kerb: float
    kerbstones: bool
    ramp: float
    corner: float
    bay_lines: bool
    build_outs: bool
    centre: str
    centre_material: str
    edge_lines: bool
    crossing: str
    worn: float
    cycle_lane: float
    cycle_painted: bool
    bus_lane: bool
    patches: float
    tar: float
    letters: bool
    road: str
    side_road: str
    pavement: str
    verge: str
    ground: str
    driveway: str
    forecourt: float
    banks: tuple[float, float]

    @classmethod
    def sample(cls, rng: np.random.Generator, kind: str = "", junctions: bool = False) -> StreetStyle:
        """Draw the street parameters of a drive.

        Args:
            rng: randomness.
            kind: one of :data:`KINDS`; empty: drawn.
            junctions: draw a kind that has junctions.
        """
        shares = np.array(_SHARES) * [not junctions or DISTRICTS[name].junctions[0] > 0 for name in KINDS]
        kind = kind or str(rng.choice(KINDS, p=shares / shares.sum()))
        district, urban, rural = DISTRICTS[kind], kind == "urban", kind in RURAL
        cobbles = 0.0 if urban or rural else 0.08
        road = pick(rng, asphalt=0.64, asphalt_new=0.18, concrete_road=0.12, cobbles=cobbles)
        return cls(
            kind=kind,
            district=district,
            lane_width=rng.uniform(*district.lane_width),
            kerb=0.0 if rural else _kerb_height(rng),
            kerbstones=rng.random() < 0.7 and not rural,
            ramp=rng.uniform(0.8, 1.5),
            corner=rng.uniform(4.0, 9.0),
            bay_lines=rng.random() < (0.6 if urban else 0.35),
            build_outs=rng.random() < 0.4,
            centre=_centre(rng, kind, road),
            centre_material=pick(rng, marking_white=0.55, marking_yellow=0.45),
            edge_lines=rng.random() < _EDGE_LINES.get(kind, 0.15),
            crossing=pick(rng, zebra=0.5, lines=0.3, bricks=0.08, plain=0.12),
            worn=rng.uniform(0.1, 0.7) if rng.random() < 0.5 else 0.0,
            cycle_lane=rng.uniform(1.3, 1.9) if rng.random() < (0.25 if urban else 0.1) and not rural else 0.0,
            cycle_painted=rng.random() < 0.6,
            bus_lane=rng.random() < 0.2 and not rural,
            patches=rng.uniform(0, 5),
            tar=rng.uniform(0, 8) if rng.random() < 0.5 else 0.0,
            letters=rng.random() < 0.45 and not rural,
            road=road,
            side_road=road if rng.random() < 0.75 else pick(rng, asphalt=0.5, asphalt_new=0.3, concrete_road=0.2),
            pavement=pick(rng, paving_slabs=0.35, paving_concrete=0.3, paving_asphalt=0.2, paving_bricks=0.15),
            verge=pick(rng, grass=0.6, dry_grass=0.25, soil=0.08, gravel=0.07),
            ground=pick(rng, grass=0.5, dry_grass=0.25, soil=0.15, gravel=0.1),
            driveway=pick(rng, paving_concrete=0.4, asphalt=0.3, paving_bricks=0.3),
            forecourt=rng.uniform(3, 9) if rng.random() < {"urban": 0.85, "industrial": 0.3}.get(kind, 0.0) else 0.0,
            banks=(_bank(rng, kind), _bank(rng, kind)),
        )


def pick(rng: np.random.Generator, **shares: float) -> str:
    """One of the names, with probabilities in proportion to the shares."""
    weights = np.array(list(shares.values()))
    return str(rng.choice(list(shares), p=weights / weights.sum()))


def _kerb_height(rng: np.random.Generator) -> float:
    way = pick(rng, flush=0.25, low=0.2, raised=0.55)
    return {"flush": 0.0, "low": rng.uniform(0.025, 0.07), "raised": rng.uniform(0.07, 0.18)}[way]


def _bank(rng: np.random.Generator, kind: str) -> float:
    """Height of the ground beside the main road: a cutting (positive) or an embankment (negative)."""
    share, low, high = {
        "residential": (0.25, -0.5, 1.2), "suburban": (0.35, -0.8, 1.6), "country": (0.6, -2.0, 3.0),
        "motorway": (0.8, -5.0, 6.0)}.get(kind, (0.0, 0.0, 0.0))  # fmt: skip
    return float(rng.uniform(low, high)) if rng.random() < share else 0.0


def _centre(rng: np.random.Generator, kind: str, road: str) -> str:
    if road == "cobbles":
        return "none"
    if kind in ("residential", "country"):
        return pick(rng, none=0.5, dashed=0.3, double=0.1, solid=0.1)
    return pick(rng, none=0.05, dashed=0.4, solid=0.2, double=0.35)
