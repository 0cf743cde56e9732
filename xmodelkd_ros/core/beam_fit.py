"""The beams of a LiDAR from a few of its sweeps: by ring field, rows, point order, or clusters of elevation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

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
_BY_FRAME = (
    "for a cloud in base_link or another frame, set projection_frame to the LiDAR's own frame and write the product's "
    "table without a bag (xmodelkd fit-sensor --like {} --out FILE)"
)
_RING, _CLUSTERS, _TABLE = "ring field", "clusters of elevations", "table of "
_IGNORED = "the field 'ring' does not number the beams and is ignored"


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

    @property
    def clustered(self) -> bool:
        """Whether elevations told the beams, rather than ring numbers or the order of the points."""
        return self.source == _CLUSTERS or self.source.startswith(_TABLE)


@dataclass(frozen=True, eq=False)
class _Points:
    """Usable points of the sweeps, concatenated.

    Attributes:
        xyz: (N, 3) positions, metres.
        sweeps: the same by sweep.
        groups: group number of each point, by what they were grouped by.
    """

    xyz: NDArray[np.float64]
    sweeps: tuple[NDArray[np.float64], ...]
    groups: Mapping[str, NDArray[np.integer]]


@dataclass(frozen=True)
class _Known:
    """What is known before the sweeps are looked at.

    Attributes:
        tables: beams of known products, degrees, by name.
        number: number of beams that the user gave.
        like: product in ``tables`` that the user named, or empty.
        name_product: whether the product is of interest where the beams are clear without it.
    """

    tables: Tables
    number: int | None
    like: str
    name_product: bool = True

    @property
    def expected(self) -> int | None:
        """Number of beams by product or by number."""
        return len(self.tables[self.like]) if self.like else self.number

    def product(self, beams: Sequence[float]) -> Match | None:
        """The known product with these beams, or the nearest one; None where it is of no interest."""
        wanted = self.name_product or len(beams) not in USUAL_COUNTS
        return nearest_product(beams, self.tables) if wanted else None


def fit_sweeps(
    clouds: Sequence[PointCloud],
    tables: Tables,
    beams: int | None = None,
    like: str = "",
    *,
    name_product: bool = True,
) -> BeamFit:
    """Find the beams of the LiDAR that recorded some sweeps.

    The ring field counts if each number holds one elevation. Otherwise the rows or columns of organised clouds and the
    scan lines of clouds in the order of a range image are tried likewise, then clusters of elevation. What is found
    without a ring field must be a known product, or have a usual number of beams.

    Args:
        clouds: sweeps of one LiDAR.
        tables: beams of known products, degrees, by name.
        beams: number of beams, if known.
        like: name of the product in ``tables``, if known.
        name_product: whether to compare beams with all ``tables`` even if their number is a usual one (0.1 s).

    Raises:
        SensorError: the beams cannot be told apart, or contradict ``beams`` or ``like``.
    """
    known = _Known(tables, beams, like, name_product)
    points = _usable_points(clouds)
    if not len(points.xyz):
        raise SensorError(f"the sweeps have no point beyond {MIN_RANGE_M:g} m to find beams with")
    notes = _unnumbered(clouds)
    for source, groups in _candidates(points):
        if groups.problem:
            notes += [f"{_IGNORED}: {groups.problem}"] if source == _RING else []
            continue
        found = _by_ring(groups, points, known) if source == _RING else _by_order(source, groups, known)
        if found is not None:
            break
    else:
        found = _from_clusters(points, known, notes)
    if like:
        found = replace(found, product=_named_product(found, tables, like))
    return replace(found, notes=(*notes, *found.notes))


def usable_points(clouds: Sequence[PointCloud]) -> list[NDArray[np.bool_]]:
    """Mask of each sweep's points that tell its beams: finite, off the vehicle, and with a ring number if any has."""
    masks = [usable_mask(cloud.xyz, MIN_RANGE_M) for cloud in clouds]
    if not _numbered(clouds):
        return masks
    rings = [cloud.ring for cloud in clouds]
    return [mask if ring is None else mask & (ring >= 0) for mask, ring in zip(masks, rings, strict=True)]


def _numbered(clouds: Sequence[PointCloud]) -> bool:
    return any(cloud.ring is not None and (cloud.ring >= 0).any() for cloud in clouds)


def _unnumbered(clouds: Sequence[PointCloud]) -> list[str]:
    """Note about a ring field without numbers."""
    if _numbered(clouds) or not any(cloud.ring is not None and len(cloud.ring) for cloud in clouds):
        return []
    return ["the field 'ring' has no number for any point and is ignored"]


def _named_product(found: BeamFit, tables: Tables, like: str) -> Match:
    """The beams compared with the product that the user named.

    Raises:
        SensorError: they are not that product's.
    """
    product = nearest_product(found.beams_deg, {like: tables[like]})
    if product is None or product.matched < _MIN_LIKE:
        raise SensorError(
            f"the sweeps' {len(found.beams_deg)} beams from {found.beams_deg[0]:+.1f} to "
            f"{found.beams_deg[-1]:+.1f} degrees (by {found.source}) are not those of {like}; leave --like out; "
            f"{_BY_FRAME.format(like)}"
        )
    return product


def _candidates(points: _Points) -> Iterator[tuple[str, BeamGroups]]:
    """What may number the beams, best first, each measured when its turn comes."""
    for source, group in points.groups.items():
        yield source, group_beams(points.xyz, group)
    lines = [line for line in map(scan_lines, points.sweeps) if line is not None]
    if len(lines) == len(points.sweeps):
        elevations = [elevations_deg(xyz) for xyz in points.sweeps]
        yield "point order", group_beams(points.xyz, joined_lines(lines, elevations))


def _by_ring(groups: BeamGroups, points: _Points, known: _Known) -> BeamFit:
    """The beams by ring number, or by clusters where the numbers hold several beams each.

    Raises:
        SensorError: the user gave another number of beams.
    """
    beams = groups.beams_deg
    count = int(np.isfinite(groups.elevations_deg).sum())
    if known.number is not None and count != known.number:
        raise SensorError(f"the sweeps' ring field counts {count} beams, not {known.number}; leave --beams out")
    rings = tuple(float(v) for v in groups.elevations_deg)
    missing = np.flatnonzero(np.isnan(groups.elevations_deg))
    gaps = [f"{missing.size} of {len(rings)} ring numbers occur in no sweep (such as {n})" for n in missing[:1]]
    finer = _finer_clusters(points, known, len(beams))
    if finer is not None:
        return finer
    return BeamFit(beams, rings, _RING, groups.spread, known.product(beams), tuple(gaps))


def _by_order(source: str, groups: BeamGroups, known: _Known) -> BeamFit | None:
    """The beams by rows, columns or scan lines; None if their number is not the expected or a usual one."""
    beams = groups.beams_deg
    found = BeamFit(beams, (), source, groups.spread, known.product(beams))
    if known.expected is None:
        return _completed(found) if len(beams) > 1 and _is_plausible(found) else None
    return _completed(found) if len(beams) == known.expected else None


def _finer_clusters(points: _Points, known: _Known, count: int) -> BeamFit | None:
    """Sharp clusters of elevation if there are clearly more than ``count`` ring numbers, which then hold several beams.

    Converters that compute ``ring`` from the elevation in even steps write such numbers.
    """
    try:
        found, origin = _sharpest_clusters(points, known)
    except SensorError:
        return None
    if len(found.beams_deg) < _MANY_MORE * count or found.spread > _SHARP:
        return None
    note = f"{_IGNORED}: {count} numbers for {len(found.beams_deg)} beams"
    return replace(found, beams_deg=_seen(found.beams_deg, origin), notes=(note,))


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
    ) + "".join(f"; for a {name}, add --like {name}" for name in product.alike)
    beams = tuple(float(v) for v in np.sort(table)[::-1])
    return replace(found, beams_deg=beams, notes=(*found.notes, note))


def _from_clusters(points: _Points, known: _Known, notes: Sequence[str]) -> BeamFit:
    """The beams by clusters of elevation."""
    try:
        found, origin = _sharpest_clusters(points, known)
    except SensorError as error:
        return _from_tables(points, known, notes, error)
    completed = _completed(found)
    return completed if completed is not found else replace(found, beams_deg=_seen(found.beams_deg, origin))


def _sharpest_clusters(points: _Points, known: _Known) -> tuple[BeamFit, Origin]:
    """Clusters seen from the sensor's origin if they are sharp there, else from the beams' own.

    Raises:
        SensorError: as :func:`_clusters`.
    """
    with suppress(SensorError):
        found = _clusters(Origin().elevations_deg(points.xyz), known)
        if found.spread <= _SHARP / 2:
            return found, Origin()
    origin = find_origin(points.xyz)
    return _clusters(origin.elevations_deg(points.xyz), known), origin


def _from_tables(points: _Points, known: _Known, notes: Sequence[str], error: SensorError) -> BeamFit:
    """The beams of the known product on whose table the points lie, or as many as the user gave.

    Args:
        points: the points.
        known: what is known.
        notes: what was tried before.
        error: why clusters of elevation do not tell the beams.
    """
    tables, like = known.tables, known.like
    origin = find_origin(points.xyz)
    elevations = origin.elevations_deg(points.xyz)
    prior = _by_table(elevations, {like: tables[like]} if like else {} if known.number else tables)
    if prior is None and known.number is not None and not like:
        return _known_number(elevations, origin, tables, known.number)
    if prior is None:
        before = "".join(f"{note}; " for note in notes)
        tried = f"the points do not lie on {like}'s beams" if like else "no known product's table fits"
        remedy = f"leave --like out if it is another product, or {_RECORD}" if like else f"{_RECORD}, or {_NAME}"
        by_frame = _BY_FRAME.format(like or "NAME")
        raise SensorError(f"{before}{_reason(error)}, and {tried}: {remedy}; {by_frame}") from error
    name, fitted, spread = prior
    match = nearest_product(fitted, {name: tables[name]})
    return BeamFit(_seen(fitted, origin), (), f"{_TABLE}{name}", spread, match)


def _clusters(elevations: NDArray[np.float64], known: _Known) -> BeamFit:
    """As many clusters as stand out.

    Raises:
        SensorError: their number is not clear, not the expected one, or one that no LiDAR has.
    """
    beams = fit_beams(elevations)
    near = known.product(beams)
    spread = cluster_spread(elevations, np.sort(np.asarray(beams)))
    found = BeamFit(beams, (), _CLUSTERS, spread, near)
    if known.expected is not None and len(beams) != known.expected:
        raise SensorError(f"{len(beams)} clusters of elevation stand out")
    if known.expected is None and not _is_plausible(found):
        raise SensorError(f"{len(beams)} clusters of elevation stand out, which is no LiDAR's number of beams")
    return found


def _known_number(elevations: NDArray[np.float64], origin: Origin, tables: Tables, number: int) -> BeamFit:
    """The given number of most prominent clusters."""
    try:
        beams = fit_beams(elevations, number)
    except SensorError as error:
        raise SensorError(f"{error}; {_BY_FRAME.format('NAME')}") from error
    spread = cluster_spread(elevations, np.sort(np.asarray(beams)))
    seen = _seen(beams, origin)
    return BeamFit(seen, (), _CLUSTERS, spread, nearest_product(beams, tables))


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


def _usable_points(clouds: Sequence[PointCloud]) -> _Points:
    """Usable points, and the numbers that may group them by beam: ring field, rows and columns."""
    masks = usable_points(clouds)
    sweeps = tuple(cloud.xyz[mask].astype(np.float64) for cloud, mask in zip(clouds, masks, strict=True))
    groups: dict[str, NDArray[np.integer]] = {}
    rings = [cloud.ring[mask] for cloud, mask in zip(clouds, masks, strict=True) if cloud.ring is not None]
    if len(rings) == len(clouds) and _numbered(clouds):
        groups[_RING] = np.concatenate(rings)
    if len({(cloud.height, cloud.width) for cloud in clouds}) == 1 and clouds[0].height > 1:
        width = max(clouds[0].width, 1)
        index = np.arange(clouds[0].height * width)
        groups["rows"] = np.concatenate([index[mask] // width for mask in masks])
        groups["columns"] = np.concatenate([index[mask] % width for mask in masks])
    return _Points(np.concatenate(sweeps), sweeps, groups)
