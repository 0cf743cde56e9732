"""The beams of a LiDAR from a few of its sweeps: by ring field, rows, point order, or clusters of elevation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.beam_groups import BeamGroups, group_beams, joined_lines, scan_lines
from xmodelkd_ros.core.beam_table import Origin, cluster_spread, elevations_deg, find_origin, fit_beams, seen_deg
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.known_beams import USUAL_COUNTS, Match, fit_to_table, nearest_product
from xmodelkd_ros.core.sensor import nearest
from xmodelkd_ros.core.usable_points import usable_mask

MIN_RANGE_M = 1.0
"""Closer points are returns from the vehicle, and their elevations are imprecise."""

_MIN_LIKE = 0.5
"""Share of the beams that must lie near one of the product that the user named; units differ from nominal."""

_MANY_MORE, _SHARP = 1.2, 0.1
"""Clusters per ring number, and their spread relative to their distance, from which the numbers count as too few."""

Tables = Mapping[str, Sequence[float]]

_RECORD = (
    "record raw clouds (with the driver's ring field, not motion-compensated, in the sensor's own frame) while the "
    "vehicle stands still"
)
_NAME = "name the product with --like (or the number of beams with --beams)"


@dataclass(frozen=True)
class BeamFit:
    """Beams found in the sweeps.

    Attributes:
        beams_deg: elevations, degrees, descending.
        rings_deg: elevation of each ring number; NaN for numbers that do not occur. Empty without a usable ring field.
        source: what the beams were found by.
        spread: robust standard deviation of a beam's elevation, relative to the distance to the next beam.
        product: the known product with these beams, or the nearest one; None if none is near.
        notes: what was ignored or filled in, and why.
    """

    beams_deg: tuple[float, ...]
    rings_deg: tuple[float, ...]
    source: str
    spread: float
    product: Match | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Points:
    """Usable points of the sweeps, concatenated; ``groups`` holds group numbers of each point by name."""

    xyz: NDArray[np.float64]
    sweeps: tuple[NDArray[np.float64], ...]
    groups: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)


def fit_sweeps(clouds: Sequence[PointCloud], tables: Tables, beams: int | None = None, like: str = "") -> BeamFit:
    """Find the beams of the LiDAR that recorded some sweeps.

    The ring field counts if each number holds one elevation. Otherwise the rows or columns of organised clouds and the
    scan lines of clouds in the order of a range image are tried likewise, then clusters of elevation. What is found
    without a ring field must be a known product, or have a usual number of beams.

    Args:
        clouds: sweeps of one LiDAR.
        tables: beams of known products, degrees, by name.
        beams: number of beams, if known.
        like: name of the product in ``tables``, if known.

    Raises:
        SensorError: the beams cannot be told apart, or contradict ``beams`` or ``like``.
    """
    expected = len(tables[like]) if like else beams
    notes: list[str] = []
    points = _usable_points(clouds, notes)
    if not len(points.xyz):
        raise SensorError(f"the sweeps have no point beyond {MIN_RANGE_M:g} m to find beams with")
    for source, groups in _candidates(points):
        found = _from_groups(source, groups, tables, beams, expected, notes)
        if found is not None:
            found = _finer_clusters(points, tables, expected, found, notes) or found
            break
    else:
        found = _from_clusters(points, tables, expected, like, notes)
    if like:
        product = nearest_product(found.beams_deg, {like: tables[like]})
        if product is None or product.matched < _MIN_LIKE:
            raise SensorError(
                f"the sweeps' {len(found.beams_deg)} beams from {found.beams_deg[0]:+.1f} to "
                f"{found.beams_deg[-1]:+.1f} degrees (by {found.source}) are not those of {like}; leave --like out"
            )
        found = replace(found, product=product)
    return replace(found, notes=(*notes, *found.notes))


def _candidates(points: _Points) -> Iterator[tuple[str, BeamGroups]]:
    """What may number the beams, best first, each measured when its turn comes."""
    for source, group in points.groups.items():
        yield source, group_beams(points.xyz, group)
    lines = [line for line in map(scan_lines, points.sweeps) if line is not None]
    if len(lines) == len(points.sweeps):
        elevations = [elevations_deg(xyz) for xyz in points.sweeps]
        yield "point order", group_beams(points.xyz, joined_lines(lines, elevations))


def _from_groups(
    source: str,
    groups: BeamGroups,
    tables: Tables,
    number: int | None,
    expected: int | None,
    notes: list[str],
) -> BeamFit | None:
    """The beams by groups of points, or None and a note if these are no beams."""
    is_ring = source == "ring field"
    if groups.problem:
        if is_ring:
            notes.append(f"the field 'ring' does not number the beams and is ignored: {groups.problem}")
        return None
    beams = groups.beams_deg
    if is_ring:
        count = int(np.isfinite(groups.elevations_deg).sum())
        if number is not None and count != number:
            raise SensorError(f"the sweeps' ring field counts {count} beams, not {number}; leave --beams out")
        rings = tuple(float(v) for v in groups.elevations_deg)
        missing = np.flatnonzero(np.isnan(groups.elevations_deg))
        gaps = [f"{missing.size} of {len(rings)} ring numbers occur in no sweep (such as {n})" for n in missing[:1]]
        product = nearest_product(beams, tables)
        return BeamFit(beams, rings, source, groups.spread, product, tuple(gaps))
    found = BeamFit(beams, (), source, groups.spread, nearest_product(beams, tables))
    if len(beams) == expected or (expected is None and len(beams) > 1 and _is_plausible(found)):
        return _completed(found)
    return None


def _finer_clusters(
    points: _Points, tables: Tables, expected: int | None, by_ring: BeamFit, notes: list[str]
) -> BeamFit | None:
    """Sharp clusters of elevation if there are clearly more of them than ring numbers, which then hold several beams.

    Converters that compute ``ring`` from the elevation in even steps write such numbers.
    """
    if not by_ring.rings_deg:
        return None
    origin = find_origin(points.xyz)
    try:
        found = _clusters(origin.elevations_deg(points.xyz), tables, expected)
    except SensorError:
        return None
    count = len(by_ring.beams_deg)
    if len(found.beams_deg) < _MANY_MORE * count or found.spread > _SHARP:
        return None
    notes.append(
        f"the field 'ring' does not number the beams and is ignored: {count} numbers for {len(found.beams_deg)} beams"
    )
    return replace(found, beams_deg=_seen(found.beams_deg, origin))


def _is_plausible(found: BeamFit) -> bool:
    return len(found.beams_deg) in USUAL_COUNTS or (found.product is not None and found.product.fits)


def _completed(found: BeamFit) -> BeamFit:
    """With the beams of the known product that had no returns, if the number of beams is not a product's own."""
    product = found.product
    if product is None or not product.fits or len(found.beams_deg) >= len(product.beams_deg):
        return found
    if len(found.beams_deg) in USUAL_COUNTS:
        return found
    measured, table = np.sort(found.beams_deg), np.sort(product.beams_deg)
    table[nearest(table, measured)] = measured
    note = (
        f"{len(table) - len(measured)} of {product.name}'s {len(table)} beams have no returns here; "
        "their elevations are its table's"
    )
    beams = tuple(float(v) for v in np.sort(table)[::-1])
    return replace(found, beams_deg=beams, notes=(*found.notes, note))


def _from_clusters(points: _Points, tables: Tables, expected: int | None, like: str, notes: Sequence[str]) -> BeamFit:
    """The beams by clusters of elevation."""
    origin = find_origin(points.xyz)
    elevations = origin.elevations_deg(points.xyz)
    try:
        found = _clusters(elevations, tables, expected)
    except SensorError as error:
        prior = _by_table(elevations, {like: tables[like]} if like else {} if expected else tables)
        if prior is None and expected is not None and not like:
            return _known_number(elevations, origin, tables, expected)
        if prior is None:
            before = "".join(f"{note}; " for note in notes)
            tried = f"the points do not lie on {like}'s beams" if like else "no known product's table fits"
            remedy = f"leave --like out, or {_RECORD}" if like else f"{_RECORD}, or {_NAME}"
            raise SensorError(f"{before}{_reason(error)}, and {tried}: {remedy}") from error
        name, fitted, spread = prior
        match = nearest_product(fitted, {name: tables[name]})
        return BeamFit(_seen(fitted, origin), (), f"table of {name}", spread, match)
    completed = _completed(found)
    return completed if completed is not found else replace(found, beams_deg=_seen(found.beams_deg, origin))


def _clusters(elevations: NDArray[np.float64], tables: Tables, expected: int | None) -> BeamFit:
    """As many clusters as stand out.

    Raises:
        SensorError: their number is not clear, not the expected one, or one that no LiDAR has.
    """
    beams = fit_beams(elevations)
    near = nearest_product(beams, tables)
    spread = cluster_spread(elevations, np.sort(np.asarray(beams)))
    found = BeamFit(beams, (), "clusters of elevations", spread, near)
    if expected is not None and len(beams) != expected:
        raise SensorError(f"{len(beams)} clusters of elevation stand out")
    if expected is None and not _is_plausible(found):
        raise SensorError(f"{len(beams)} clusters of elevation stand out, which is no LiDAR's number of beams")
    return found


def _known_number(elevations: NDArray[np.float64], origin: Origin, tables: Tables, number: int) -> BeamFit:
    """The given number of most prominent clusters."""
    beams = fit_beams(elevations, number)
    spread = cluster_spread(elevations, np.sort(np.asarray(beams)))
    seen = _seen(beams, origin)
    return BeamFit(seen, (), "clusters of elevations", spread, nearest_product(beams, tables))


def _reason(error: SensorError) -> str:
    return str(error).partition("; use")[0]


def _by_table(elevations: NDArray[np.float64], tables: Tables) -> tuple[str, tuple[float, ...], float] | None:
    """The one known table on which the points lie; None if none or several of different size do."""
    fits = {name: fit for name, table in tables.items() if (fit := fit_to_table(elevations, table)) is not None}
    if len({len(beams) for beams, _ in fits.values()}) != 1:
        return None
    name = min(fits, key=lambda name: fits[name][1])
    return name, *fits[name]


def _seen(beams: Sequence[float], origin: Origin) -> tuple[float, ...]:
    """The beams' elevations as seen from the sensor's origin, where the runtime measures them."""
    if origin == Origin():
        return tuple(beams)
    seen = seen_deg(np.tan(np.radians(beams)), origin.height_m, origin.radius_m)
    return tuple(float(round(v, 3)) for v in np.sort(seen)[::-1])


def _usable_points(clouds: Sequence[PointCloud], notes: list[str]) -> _Points:
    rings = [cloud.ring for cloud in clouds]
    if not any(ring is not None and (ring >= 0).any() for ring in rings):
        if any(ring is not None and len(ring) for ring in rings):
            notes.append("the field 'ring' has no number for any point and is ignored")
        rings = [None] * len(clouds)
    sweeps, masks = [], []
    for cloud, ring in zip(clouds, rings, strict=True):
        mask = usable_mask(cloud.xyz, MIN_RANGE_M)
        if ring is not None:
            mask &= ring >= 0
        masks.append(mask)
        sweeps.append(cloud.xyz[mask].astype(np.float64))
    groups: dict[str, NDArray[np.integer]] = {}
    numbers = [ring[mask] for ring, mask in zip(rings, masks, strict=True) if ring is not None]
    if len(numbers) == len(clouds):
        groups["ring field"] = np.concatenate(numbers)
    if len({(cloud.height, cloud.width) for cloud in clouds}) == 1 and clouds[0].height > 1:
        width = max(clouds[0].width, 1)
        index = np.arange(clouds[0].height * width)
        groups["rows"] = np.concatenate([index[mask] // width for mask in masks])
        groups["columns"] = np.concatenate([index[mask] % width for mask in masks])
    return _Points(np.concatenate(sweeps), tuple(sweeps), groups)
