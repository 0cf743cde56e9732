"""One sweep in the PointCloud2 layouts of all drivers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from test.fuzz.mutation import Mutator
from test.fuzz.ros_messages import in_either_library, size
from test.fuzz.seed_messages import FRAME, header, make
from test.fuzz.target import InvariantError, Target, ensure
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.messages.clouds import to_cloud
from xmodelkd_ros.messages.point_times import point_times

CODES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8, "i8": 9, "u8": 10}
"""numpy type codes and PointField datatypes, those of newer sensor_msgs too."""
_COUNT = 96
_RNG = np.random.default_rng(0)
_XYZ = _RNG.uniform([-40, -40, -3], [40, 40, 5], (_COUNT, 3)).astype(np.float32)
_INTENSITY = _RNG.integers(0, 100, _COUNT)
_RING = _RNG.integers(0, 16, _COUNT)


@dataclass(frozen=True)
class Column:
    """A field to write: name, numpy type code, values, and the ``count`` that its PointField declares."""

    name: str
    code: str
    values: NDArray[Any]
    count: int = 1


def write_cloud(
    columns: list[Column], gaps: list[int], height: int = 1, padding: int = 0, big: bool = False, stamp_ns: int = 10**9
) -> Any:
    """A PointCloud2.

    Args:
        columns: the fields in order.
        gaps: unused bytes after each field.
        height: rows, of equal length.
        padding: unused bytes after each row.
        big: write it big-endian.
        stamp_ns: the stamp.
    """
    offsets = np.cumsum([0, *(np.dtype(c.code).itemsize + gap for c, gap in zip(columns, gaps, strict=True))])
    step, width = int(offsets[-1]), len(columns[0].values) // height
    formats = [(">" if big else "<") + column.code for column in columns]
    names = [f"{column.name} {number}" for number, column in enumerate(columns)]
    kind = np.dtype({"names": names, "formats": formats, "offsets": offsets[:-1].tolist(), "itemsize": step})
    points = np.full((height, width * step + padding), 0xA5, np.uint8)
    for name, column in zip(names, columns, strict=True):
        for row, values in zip(points, column.values.reshape(height, width), strict=True):
            row[: width * step].view(kind)[name] = values
    fields = [
        make("sensor_msgs/msg/PointField", name=c.name, offset=int(at), datatype=CODES[c.code], count=c.count)
        for c, at in zip(columns, offsets[:-1], strict=True)
    ]
    return make(
        "sensor_msgs/msg/PointCloud2", header=header(stamp_ns, FRAME), height=height, width=width, fields=fields,
        is_bigendian=big, point_step=step, row_step=width * step + padding, data=points.ravel(), is_dense=True,
    )  # fmt: skip


class CloudLayouts(Target):
    """Fields in any order, type and spelling, rows with any padding and ``row_step``: the same points."""

    name = "cloud_layouts"

    def seed_input(self) -> Any:
        return write_cloud([*_positions("f4"), Column("intensity", "f4", _INTENSITY)], [0] * 4), False

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        columns = _positions(mutator.pick(("f4", "f4", "f8")))
        names = ("intensity", "intensity", "i", "reflectivity")
        columns.append(Column(mutator.pick(names), mutator.pick(("f4", "u1", "u2", "f8", "i4")), _INTENSITY))
        has_ring = mutator.chance(0.6)
        if has_ring:
            codes = ("u1", "u2", "i4", "f4", "i8", "u8")
            columns.append(Column(mutator.pick(("ring", "channel")), mutator.pick(codes), _RING))
        for number in range(mutator.below(4)):
            code = mutator.pick(list(CODES))
            columns.append(Column(f"extra_{number}", code, np.arange(_COUNT), mutator.pick((0, 1))))
        mutator.random.shuffle(columns)
        height, padding = mutator.pick((1, 2, 4)), mutator.pick((0, 0, 1, 13))
        gaps = [mutator.pick((0, 0, 1, 4)) for _ in columns]
        message = write_cloud(columns, gaps, height, padding, mutator.chance(0.2))
        _misdeclare(mutator, message, padding)
        return (in_either_library(mutator, message), has_ring), size(message)

    def execute(self, value: Any) -> None:
        message, has_ring = value
        try:
            cloud = to_cloud(message)
        except XModelKDError as error:
            raise _refused(error) from error
        ensure(np.array_equal(cloud.xyz, _XYZ), "positions differ")
        ensure(np.array_equal(cloud.intensity, _INTENSITY), "intensities differ")
        ensure((cloud.ring is None) != has_ring, "the ring is lost, or invented")
        ensure(not has_ring or np.array_equal(cloud.ring, _RING), "rings differ")


def _refused(error: XModelKDError) -> InvariantError:
    return InvariantError(f"refused without need: {error}"[:200])


def _positions(code: str) -> list[Column]:
    return [Column(axis, code, _XYZ[:, number]) for number, axis in enumerate("xyz")]


def _misdeclare(mutator: Mutator, message: Any, padding: int) -> None:
    """What drivers get wrong without harm: the row step, the size of unused fields, the end of the last row."""
    packed = message.width * message.point_step
    if mutator.chance(0.4) and message.fields:
        unused = [field for field in message.fields if field.name.startswith("extra")]
        for field in unused[:1]:
            field.datatype = mutator.pick((0, 11, 12, 200))
    kind = mutator.below(4)
    if kind == 0:
        message.row_step = mutator.pick((0, message.width, message.point_step, packed, len(message.data)))
    elif kind == 1 and message.height == 1:
        message.row_step = mutator.integer(32)
    elif kind == 2 and padding:
        message.data = message.data[:-padding]


_SPAN_S = 0.1
_STAMP_NS = 1_700_000_000_123_456_789
_FROM_START_S = np.linspace(0, _SPAN_S, _COUNT)
_UNITS = {"s": 1e-9, "ms": 1e-6, "us": 1e-3, "ns": 1.0}
_TIME_NAMES = ("time", "t", "timestamp", "offset_time", "time_stamp", "time_offset", "point_time", "ts", "Time")
_NO_TIMES = ("beta", "when", "temperature", "near_ir")
_TOLERANCE_S = 2e-6


class PointTimes(Target):
    """Firing times in any spelling, unit, type and reference: the same times, or zeros with a note."""

    name = "point_times"

    def seed_input(self) -> Any:
        message = write_cloud([*_positions("f4"), Column("time", "f4", _FROM_START_S)], [0] * 4, stamp_ns=_STAMP_NS)
        return message, _FROM_START_S

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        unit, reference = mutator.pick(list(_UNITS)), mutator.pick(("start", "start", "end", "epoch"))
        wanted = _FROM_START_S - (_SPAN_S if reference == "end" else 0)
        times_ns = np.rint(wanted * 1e9).astype(np.int64) + (_STAMP_NS if reference == "epoch" else 0)
        whole = mutator.chance(0.6) and unit in ("us", "ns")
        if whole:
            code = {"start": "u4", "end": "i4", "epoch": "u8"}[reference]
        else:
            code = "f8" if reference == "epoch" else mutator.pick(("f4", "f8"))
        values = times_ns * _UNITS[unit]
        name = mutator.pick((*_TIME_NAMES, *_TIME_NAMES, *_NO_TIMES))
        columns = [*_positions("f4"), Column(name, code, np.rint(values).astype(code) if whole else values)]
        if reference == "epoch" and mutator.chance(0.2):
            columns = [*columns[:3], Column("sec", "u4", times_ns // 10**9), Column("nsec", "u4", times_ns % 10**9)]
        mutator.random.shuffle(columns)
        message = write_cloud(columns, [0] * len(columns), stamp_ns=_STAMP_NS)
        return (message, wanted), size(message)

    def execute(self, value: Any) -> None:
        message, wanted = value
        found = point_times(message, _XYZ, _STAMP_NS)
        ensure(
            np.allclose(found.seconds, wanted, atol=_TOLERANCE_S) or (not found.seconds.any() and found.note),
            "times differ, silently",
        )
