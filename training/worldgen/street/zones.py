"""Partition of the ground into zones: carriageway, kerbs, verges, pavements, islands, land behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import shapely

from training.worldgen.street.areas import GRID_M, polygons, without_slivers
from training.worldgen.street.cross_section import Road, Side
from training.worldgen.street.frontage import Frontage
from training.worldgen.street.road_network import Network
from training.worldgen.street.street_plan import KERBSTONE_M, StreetPlan
from training.worldgen.street.street_style import StreetStyle

_LABELS = {
    "road": "road",
    "bay": "road",
    "driveway": "road",
    "lot": "road",
    "track": "road",
    "kerb": "sidewalk",
    "pavement": "sidewalk",
    "plaza": "sidewalk",
    "path": "sidewalk",
    "paved_island": "sidewalk",
    "green_island": "terrain",
    "verge": "terrain",
    "yard": "terrain",
    "field": "terrain",
    "meadow": "terrain",
    "wood": "terrain",
    "ground": "terrain",
}


@dataclass(frozen=True, eq=False)
class Zone:
    """A part of the ground of one kind and material; the zones of a drive do not overlap.

    Attributes:
        kind: "road", "bay" (parking beside the lanes), "kerb", "pavement", "verge", "track" (for bicycles),
            "paved_island", "green_island", "driveway", "lot", "plaza", "path", "yard", "field", "meadow", "wood", or
            "ground" (all the rest).
        shape: polygons, metres.
        material: name of the material.
        label: drive13 class.
    """

    kind: str
    shape: shapely.Geometry
    material: str
    label: str

    @property
    def raised(self) -> bool:
        """Whether it lies at kerb height."""
        return self.kind not in ("road", "bay")


def partition_ground(
    style: StreetStyle,
    network: Network,
    plan: StreetPlan,
    frontage: Frontage,
    area: shapely.Geometry,
    soft: shapely.Geometry,
) -> tuple[Zone, ...]:
    """Partition the area into zones; earlier layers take precedence over later ones."""
    layers = [(kind, shape, style.pavement if kind == "paved_island" else style.verge) for kind, shape in plan.islands]
    layers = [(k, s.buffer(-KERBSTONE_M) if style.kerbstones else s, m) for k, s, m in layers]
    if style.kerbstones and style.kerb > 0:
        layers.append(("kerb", _kerbs(network, plan, soft), "kerbstone"))
    layers += [("bay", plan.bays, style.road), ("road", plan.carriageway, style.road)]
    layers += [("driveway", shapely.union_all(frontage.driveways).difference(_pavements(network)), style.driveway)]
    layers += [("verge", _verges(network, plan), style.verge), ("track", _tracks(network), "paving_asphalt")]
    layers += [("pavement", plan.corridor, style.pavement), ("verge", _open_sides(network), style.verge)]
    layers += _grouped_patches(frontage)
    if style.forecourt:
        layers.append(("plaza", plan.corridor.buffer(style.forecourt, 4), style.pavement))
    return tuple(_remove_overlaps(layers, area, style.ground))


def _grouped_patches(frontage: Frontage) -> list[tuple[str, shapely.Geometry, str]]:
    """Patches merged by kind and material; paths come first and so take precedence."""
    groups: dict[tuple[str, str], list[shapely.Geometry]] = {}
    for kind in ("path", "lot", "plaza", "yard", "field", "meadow", "wood"):
        for patch in frontage.patches:
            if patch.kind == kind:
                groups.setdefault((kind, patch.material), []).append(patch.shape)
    return [(kind, shapely.union_all(shapes), material) for (kind, material), shapes in groups.items()]


def _remove_overlaps(
    layers: list[tuple[str, shapely.Geometry, str]], area: shapely.Geometry, ground: str
) -> list[Zone]:
    """Zones of layers (kind, shape, material), each without the area of earlier layers."""
    merged: dict[tuple[str, str], list[shapely.Geometry]] = {}
    covered = shapely.Polygon()
    for kind, shape, material in layers:
        whole = shapely.union_all(polygons(shape))
        rest = without_slivers(shapely.difference(whole, covered, grid_size=GRID_M))
        if not rest.is_empty:
            merged.setdefault((kind, material), []).append(rest)
            covered = shapely.union_all(polygons(shapely.union(covered, rest, grid_size=GRID_M)))
    zones = [
        Zone(kind, shapely.union_all(parts, grid_size=GRID_M), material, _label(kind, material))
        for (kind, material), parts in merged.items()
    ]
    return [*zones, Zone("ground", shapely.difference(area, covered, grid_size=GRID_M), ground, "terrain")]


def _label(kind: str, material: str) -> str:
    return "terrain" if kind == "path" and material == "gravel" else _LABELS[kind]


def _kerbs(network: Network, plan: StreetPlan, soft: shapely.Geometry) -> shapely.Geometry:
    """Kerbstones along the carriageway and around islands."""
    outer = plan.carriageway.buffer(KERBSTONE_M, 4).difference(plan.carriageway).difference(soft)
    rims = [shape.difference(shape.buffer(-KERBSTONE_M)) for _, shape in plan.islands]
    ends = [shapely.Point(road.ribbon.points[k]).buffer(0.2) for road in network.roads for k in (0, -1)]
    return shapely.union_all([outer, *rims]).difference(shapely.union_all(ends))


def _sides(network: Network) -> Iterator[tuple[Road, int, Side]]:
    for road in network.roads:
        for sign in (-1, 1):
            yield road, sign, road.side(sign)


def _verges(network: Network, plan: StreetPlan) -> shapely.Geometry:
    """Strips between carriageway and pavement, except next to crossings."""
    clear = [crossing.shape.buffer(3.0) for crossing in plan.crossings]
    bands = [shapely.Polygon()]
    for road, sign, side in _sides(network):
        if side.pavement and side.verge:
            spans = [(a, b) for a, b in network.open_spans(road, 1.5) if b - a > 4]
            bands += [road.band(sign, road.edge(sign), road.edge(sign) + side.verge, *span) for span in spans]
    return shapely.union_all(bands).difference(shapely.union_all(clear))


def _tracks(network: Network) -> shapely.Geometry:
    """Cycle tracks between verge and pavement."""
    bands = [shapely.Polygon()]
    for road, sign, side in _sides(network):
        inner = road.edge(sign) + side.verge
        if side.track:
            bands += [road.band(sign, inner, inner + side.track, *span) for span in network.open_spans(road)]
    return shapely.union_all(bands)


def _pavements(network: Network) -> shapely.Geometry:
    """Pavement strips, which driveways cross without changing their material."""
    bands = [shapely.Polygon()]
    for road, sign, side in _sides(network):
        if side.pavement:
            inner = road.edge(sign) + side.verge
            bands.append(road.band(sign, inner, road.edge(sign) + side.border, 0.0, road.ribbon.length))
    return shapely.union_all(bands)


def _open_sides(network: Network) -> shapely.Geometry:
    """Strips beside carriageways without a pavement."""
    bands = [shapely.Polygon()]
    for road, sign, side in _sides(network):
        if side.verge and not side.pavement:
            bands.append(road.band(sign, road.edge(sign), road.edge(sign) + side.verge, 0.0, road.ribbon.length))
    return shapely.union_all(bands)
