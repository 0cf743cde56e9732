"""Cross-section of a road: lanes, parking, kerbs or soft edges, verges, pavements."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely

from training.worldgen.street.ribbon import Ribbon
from training.worldgen.street.street_style import RURAL, StreetStyle, pick


@dataclass(frozen=True)
class Side:
    """One side of a road, from the lanes outwards; all widths in metres.

    Attributes:
        cycle: lane for bicycles on the carriageway.
        shoulder: paved strip beside the lanes without markings.
        parking: strip of parking bays; deeper than 4 m: perpendicular parking.
        verge: strip between carriageway and pavement, or of open ground without a pavement.
        track: cycle track beside the pavement.
        pavement: 0 for none.
        soft: the carriageway borders on open ground without a kerb.
        ditch: a ditch runs along it.
    """

    cycle: float = 0.0
    parking: float = 0.0
    verge: float = 0.0
    track: float = 0.0
    pavement: float = 0.0
    soft: bool = False
    ditch: bool = False
    shoulder: float = 0.0

    @property
    def border(self) -> float:
        """Width between the carriageway and the plots."""
        return self.verge + self.track + self.pavement


@dataclass(frozen=True, eq=False)
class Road:
    """A road; vehicles travel towards increasing s on its right side (d < 0).

    Attributes:
        ribbon: centre line.
        lanes: number in each direction.
        lane_width: metres.
        median: width between the directions, metres.
        median_kind: "none", "grass", "paved", "painted" or "barrier" (part of the carriageway).
        left: the side d > 0.
        right: the side d < 0.
        main: whether the ego vehicle follows it.
    """

    ribbon: Ribbon
    lanes: int
    lane_width: float
    median: float
    median_kind: str
    left: Side
    right: Side
    main: bool

    def side(self, sign: int) -> Side:
        """Left for +1, right for -1."""
        return self.left if sign > 0 else self.right

    @property
    def lanes_edge(self) -> float:
        """Distance from the centre line to the outer edge of the lanes, metres."""
        return self.median / 2 + self.lanes * self.lane_width

    def edge(self, sign: int) -> float:
        """Distance from the centre line to the edge of the carriageway, metres."""
        side = self.side(sign)
        return self.lanes_edge + side.cycle + side.parking + side.shoulder

    def band(self, sign: int, inner: float, outer: float, start: float, end: float) -> shapely.Geometry:
        """The strip between two distances from the centre line on one side."""
        right, left = sorted((sign * inner, sign * outer))
        return self.ribbon.strip(start, end, right, left)

    def carriageway(self, start: float, end: float) -> shapely.Polygon:
        """Lanes and parking between two stations."""
        return self.ribbon.strip(start, end, -self.edge(-1), self.edge(1))


def sample_road(
    rng: np.random.Generator, style: StreetStyle, ribbon: Ribbon, lanes: int, main: bool, layout: str = "usual"
) -> Road:
    """Draw the cross-section of a road along a curve; ``layout`` as in :class:`Network`, for the main road."""
    median, kind = _median(rng, style, lanes, layout) if main else (0.0, "none")
    track = rng.uniform(1.6, 2.4) if layout == "boulevard" else 0.0
    cycle = style.cycle_lane if main else 0.0
    if layout == "boulevard":
        lanes, cycle = 2, 0.0
    left, right = (_side(rng, style, cycle, track, main) for _ in range(2))
    if left.pavement == right.pavement == 0 and style.kind not in ("suburban", *RURAL):
        right = replace(right, pavement=rng.uniform(*style.district.pavement_width), soft=False, ditch=False)
    return Road(ribbon, lanes, style.lane_width, median, kind, left, right, main)


def _median(rng: np.random.Generator, style: StreetStyle, lanes: int, layout: str) -> tuple[float, str]:
    if layout == "boulevard":
        return rng.uniform(4.5, 9.0), "grass"
    if style.kind == "motorway":
        kind = pick(rng, grass=0.5, barrier=0.5)
        return (rng.uniform(3.5, 9.0) if kind == "grass" else rng.uniform(2.0, 4.0)), kind
    if layout != "usual" or style.kind in ("residential", "country"):
        return 0.0, "none"
    many = lanes > 1
    kind = pick(rng, none=0.5 if many else 0.82, painted=0.2 if many else 0.18, grass=0.2 * many, paved=0.1 * many)
    width = {"none": 0.0, "painted": rng.uniform(2.0, 3.2), "grass": rng.uniform(1.6, 4), "paved": rng.uniform(1, 2)}
    return width[kind], kind


def _side(rng: np.random.Generator, style: StreetStyle, cycle: float, track: float, main: bool) -> Side:
    district = style.district
    parking = rng.uniform(2.0, 2.5) if rng.random() < district.parking * (1 if main else 0.7) else 0.0
    if parking and style.kind in ("residential", "industrial") and rng.random() < 0.15:
        parking = rng.uniform(4.7, 5.3)
    verge = rng.uniform(*district.verge_width) if rng.random() < district.verge else 0.0
    width = rng.uniform(*district.pavement_width)
    if rng.random() < district.no_pavement and not track:
        open_land = style.kind in RURAL
        soft = open_land or (style.kind in ("suburban", "industrial") and not parking and rng.random() < 0.6)
        ditch = soft and rng.random() < {"motorway": 0.3}.get(style.kind, 0.5)
        shoulder = rng.uniform(2.0, 3.2) if style.kind == "motorway" else 0.0
        return Side(cycle, parking, max(verge, 3.4 if soft else 1.0), 0.0, 0.0, soft, ditch, shoulder)
    return Side(cycle, parking, verge, track, width)
