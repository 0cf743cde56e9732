"""Firing times of the points of a PointCloud2, in the spellings and units of the LiDAR drivers.

| driver | field | values |
|---|---|---|
| Velodyne, Leishen | ``time`` | float seconds from the stamp; older drivers: negative, up to the stamp |
| Ouster | ``t`` | uint32 nanoseconds from the stamp |
| Hesai, RoboSense, Seyond | ``timestamp`` | float64 seconds since 1970 |
| Livox | ``offset_time``; ``timestamp`` | uint32 nanoseconds from the stamp; float64 nanoseconds since 1970 |
| Autoware, Nebula | ``time_stamp`` | uint32 nanoseconds from the stamp; before: float64 seconds since 1970 |
| Aeva | ``time_offset_ns`` | int32 nanoseconds from the stamp |
| raw packets | ``timestamp`` | uint32 microseconds past the hour; seconds of the day |
| several | ``sec`` and ``nsec``, ``stamp_high`` and ``stamp_low`` | two parts of a time since 1970 |

Converters change names, types and units. So a field is recognised by its name, and its unit by its values: the points
of a sweep span 5 ms to 0.5 s, within a second of its stamp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import quoted
from xmodelkd_ros.messages.point_layout import PointLayout, is_known_datatype

_USUAL = ("time", "t", "timestamp", "offsettime")
"""These names come first, if a cloud has several time fields."""
_LONG_NAME, _NO_TIME = re.compile("time|stamp"), re.compile("flight|exposure")
_SHORT_NAME = re.compile(r"(delta|rel|point|gps|utc)?(toffset|toff|ts|dt|t)|offset(?=ns|us|ms|nsec|usec)")
_UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_UNIT_NAMES = {"ns": "nanoseconds", "us": "microseconds", "ms": "milliseconds", "s": "seconds"}
_SUFFIX = re.compile(r"(n|nano|u|micro|m|milli)?(s|secs?|seconds?)")
_PARTS = (
    (("seconds", "second", "secs", "sec"), {"nanoseconds": 1, "nanosecond": 1, "nanosec": 1, "nsecs": 1, "nsec": 1}),
    (("seconds", "second", "secs", "sec"), {"microseconds": 1_000, "usecs": 1_000, "usec": 1_000}),
    (("high", "hi", "msb"), {"low": 0, "lo": 0, "lsb": 0}),
)
"""Ends of the names of two parts of a time, the second with its unit in nanoseconds; 0 for the lower 32 bits."""
_PERIODS_NS = (0, 3_600_000_000_000, 86_400_000_000_000)
"""Times start in 1970, or at the full hour or day."""
_MIN_SPAN_NS, _MAX_SPAN_NS, _MAX_OFFSET_NS = 5e6, 5e8, 1e9
_MAX_STEP_NS = 1e6
"""Maximum resolution of a number that counts as a time: float32 cannot hold seconds since 1970."""

_AT_STAMP = "all points count as taken at the stamp, so cameras get a time_offset of 0 ms"


@dataclass(frozen=True, eq=False)
class PointTimes:
    """Firing times of the N points of a cloud.

    Attributes:
        seconds: (N,) float32, from the stamp; zeros if unknown.
        note: one line for the user: why they are unknown, or what was inferred; empty if neither.
    """

    seconds: NDArray[np.float32]
    note: str = ""


@dataclass(frozen=True, eq=False)
class _Field:
    """A field, or a pair of fields, that may hold times.

    Attributes:
        name: its name.
        unit: the unit that the name states, or that drivers use for this type.
        values: (N,) values.
        is_stated: whether the name states the unit.
    """

    name: str
    unit: str
    values: NDArray[Any]
    is_stated: bool


@dataclass(frozen=True, eq=False)
class _Reading:
    """Values read in a unit, as (N,) nanoseconds from the stamp; relative ones count from it in the message, too."""

    unit: str
    offsets_ns: NDArray[np.float64]
    is_relative: bool


def point_times(msg: Any, xyz: NDArray[np.float32], stamp_ns: int) -> PointTimes:
    """Firing times of the points of a PointCloud2.

    Args:
        msg: sensor_msgs/PointCloud2.
        xyz: (N, 3) its positions. Times of missing returns (not finite, or all zero) do not count and are 0.
        stamp_ns: its stamp.

    Raises:
        CloudError: the declared layout is inconsistent.
    """
    seconds = np.zeros(len(xyz), np.float32)
    layout, valid = PointLayout.from_message(msg), has_position(xyz)
    fields = sorted(_time_fields(layout), key=lambda field: _plain(field.name) not in _USUAL)
    if not fields:
        return PointTimes(seconds, f"the clouds have no field with the times of their points: {_AT_STAMP}")
    if not valid.any():
        return PointTimes(seconds)
    constant = None
    for field in fields:
        known = valid & np.isfinite(field.values) if field.values.dtype.kind == "f" else valid
        found = _offsets_ns(field, field.values[known], stamp_ns)
        if found is None:
            continue
        if np.ptp(found[0]) == 0 and len(seconds) > 1:
            constant = constant or (field, float(found[0][0]))  # another field may tell the points apart
            continue
        seconds[known] = found[0] * 1e-9
        missing = 1 - np.count_nonzero(known) / np.count_nonzero(valid)
        unknown = (
            f"field {quoted(field.name)} is NaN for {missing:.1%} of the points, which count as taken at the stamp"
        )
        return PointTimes(seconds, "; ".join(note for note in (found[1], unknown if missing else "") if note))
    if constant is not None:
        field, offset_ns = constant
        seconds[valid] = offset_ns * 1e-9
        note = f"field {quoted(field.name)} has one time for all points, as of a flash LiDAR"
        return PointTimes(seconds, f"{note}: all cameras get the same time_offset")
    return PointTimes(seconds, _unused(fields[0], fields[0].values[valid], stamp_ns))


def _unused(field: _Field, values: NDArray[Any], stamp_ns: int) -> str:
    """Why the times of a field are not used."""
    known = values[np.isfinite(values)]
    if not len(known):
        return f"field {quoted(field.name)} is NaN for all points: {_AT_STAMP}"
    what = f"field {quoted(field.name)} ({values.dtype}, {known.min():.10g} to {known.max():.10g}) is not used"
    return (
        f"{what}: in no unit are these times within a second of the sweep's stamp, {stamp_ns} ns: {_AT_STAMP}. "
        "Give stamp and points one clock"
    )


def has_position(xyz: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) which of (N, 3) points are returns: drivers write NaN, infinity or zeros for missing ones."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(xyz).all(axis=1) & (xyz != 0).any(axis=1))


def _time_fields(layout: PointLayout) -> Iterator[_Field]:
    """The fields that may hold times, pairs first."""
    plain = {_plain(field.name): field for field in layout.fields if is_known_datatype(field)}
    for name, field in plain.items():
        for ends, rest in _PARTS:
            stem = next((name.removesuffix(end) for end in ends if name.endswith(end)), None)
            end = next((end for end in rest if stem is not None and f"{stem}{end}" in plain), "")
            if not end or (rest[end] == 0 and not _LONG_NAME.search(name)):
                continue
            other = plain[f"{stem}{end}"]
            with np.errstate(invalid="ignore"):
                first, second = (np.nan_to_num(layout.values(part)).astype(np.int64) for part in (field, other))
            values = first * 1_000_000_000 + second * rest[end] if rest[end] else (first << 32) + (second & 0xFFFFFFFF)
            yield _Field(f"{field.name}, {other.name}", "ns", values, bool(rest[end]))
    for name, field in plain.items():
        short = _SHORT_NAME.match(name)
        is_short = short is not None and _SUFFIX.fullmatch(name[short.end() :] or "s")
        if (is_short or _LONG_NAME.search(name)) and not _NO_TIME.search(name):
            values, unit = layout.values(field), _stated_unit(field.name)
            if values.dtype.kind != "b":
                yield _Field(field.name, unit or ("s" if values.dtype.kind == "f" else "ns"), values, bool(unit))


def _plain(name: str) -> str:
    """A field's name in lower case and without separators: ``timeStamp`` and ``time_stamp`` are one name."""
    return re.sub(r"[\W_]", "", name.lower())


def _stated_unit(name: str) -> str:
    """The unit that ends a name, as in ``t_us`` and ``timeNsec``; empty without one."""
    last = re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name)[-1].lower()
    suffix = _SUFFIX.fullmatch(last)
    return {"n": "ns", "u": "us", "m": "ms"}.get((suffix[1] or "")[:1] or "", "s") if suffix and last != name else ""


def _offsets_ns(field: _Field, values: NDArray[Any], stamp: int) -> tuple[NDArray[np.float64], str] | None:
    """Nanoseconds from the stamp, and a note if the unit was inferred; None if the values are no times of the sweep."""
    if not len(values) or not np.isfinite(values).all():
        return None
    units = [field.unit, *(unit for unit in _UNITS_NS if unit != field.unit)]
    with np.errstate(all="ignore"):
        relative = [_relative(values, unit) for unit in units]
        epoch, hour, day = ([_absolute(values, unit, stamp, period) for unit in units] for period in _PERIODS_NS)
        # In simulations, stamps are small: only the name tells times since their start from those since the stamp.
        is_stamp = "stamp" in field.name.lower() and values.dtype.itemsize == 8
        readings = [*(epoch + relative if is_stamp else relative + epoch), *hour, *day]
        for reading in readings:
            if reading is None or not _MIN_SPAN_NS <= np.ptp(reading.offsets_ns) <= _MAX_SPAN_NS:
                continue
            if not reading.is_relative or reading.unit == field.unit:
                return reading.offsets_ns, ""
            usual = "its name" if field.is_stated else f"drivers' {values.dtype}"
            why = f"{np.ptp(values):.10g} {_UNIT_NAMES[field.unit]} are no sweep"
            return (
                reading.offsets_ns,
                f"field {quoted(field.name)} is read in {_UNIT_NAMES[reading.unit]}, unlike {usual}: {why}",
            )
    # A flash LiDAR, a slow one, a packet, or a part of a sweep: in the usual unit only.
    usual_readings = [*epoch, relative[0]] if is_stamp else [relative[0], *epoch]
    first = next((reading for reading in usual_readings if reading is not None), None)
    if first is None:
        return None
    span_ns = np.ptp(first.offsets_ns)
    what = f"field {quoted(field.name)} spans {span_ns * 1e-9:.3g} s"
    long = f"{what}, longer than usual sweeps: is it a fraction of the sweep?"
    return first.offsets_ns, long if span_ns > _MAX_SPAN_NS else ""


def _relative(values: NDArray[Any], unit: str) -> _Reading | None:
    """The reading of values that count from the stamp; None if they are beyond a second."""
    offsets = values.astype(np.float64) * _UNITS_NS[unit]
    return _Reading(unit, offsets, True) if np.abs(offsets).max() <= _MAX_OFFSET_NS else None


def _absolute(values: NDArray[Any], unit: str, stamp: int, period_ns: int) -> _Reading | None:
    """The reading of values that count from 1970 or the last full period; None if beyond a second of the stamp.

    The origin is subtracted in the values' unit first: a double cannot hold nanoseconds since 1970.
    """
    unit_ns = _UNITS_NS[unit]
    origin, rest = divmod(stamp % period_ns if period_ns else stamp, unit_ns)
    if values.dtype.kind == "f":
        if np.spacing(np.abs(values).max()) * unit_ns > _MAX_STEP_NS:
            return None
        difference = values.astype(np.float64) - origin
    else:
        difference = (values.astype(np.int64) - origin).astype(np.float64)
    offsets = np.asarray(difference * unit_ns - rest)
    if period_ns:
        offsets = (offsets + period_ns / 2) % period_ns - period_ns / 2
        if (values < 0).any() or float(values.max()) * unit_ns > period_ns + _MAX_OFFSET_NS:
            return None
    return _Reading(unit, offsets, False) if np.abs(offsets).max() <= _MAX_OFFSET_NS else None
