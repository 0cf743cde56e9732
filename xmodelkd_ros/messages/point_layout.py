"""PointCloud2 memory layout: validated views for reading, a structured array for writing.

Existing readers ignore row padding, swap big-endian data in place and scramble organised clouds.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import CloudError, listed

_DTYPE_CODES = ("", "i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8", "?")
"""numpy type code of each PointField.datatype, INT8 = 1 to FLOAT64 = 8.

Newer sensor_msgs add INT64, UINT64 and BOOLEAN."""
_SAMPLE = 512
"""Number of points whose positions are looked at, where the message leaves its own layout open."""
_MIN_ORDER_POINTS = 16
"""Minimum number of points to recognise the byte order from."""


@dataclass(frozen=True)
class MessageTypes:
    """The message classes to construct, of rclpy or rosbags."""

    PointCloud2: Any
    PointField: Any


@dataclass(frozen=True)
class PointLayout:
    """Validated memory layout of the N points of a PointCloud2.

    Attributes:
        data: the message's data, any contiguous byte buffer.
        fields: the message's PointFields.
        byte_order: numpy's ``<`` or ``>``.
        height: number of rows.
        width: points in a row.
        point_step: bytes from point to point, 0 without points.
        row_step: bytes from row to row, 0 without points; what the data holds, whatever the message declares.
    """

    data: Any
    fields: Sequence[Any]
    byte_order: str
    height: int
    width: int
    point_step: int
    row_step: int

    @classmethod
    def from_message(cls, msg: Any) -> PointLayout:
        """Validate the sizes declared in a message; those of a cloud without points are ignored.

        Raises:
            CloudError: the sizes are inconsistent, or the data is too short.
        """
        order = ">" if msg.is_bigendian else "<"
        height, width, point_step = int(msg.height), int(msg.width), int(msg.point_step)
        if height * width == 0:
            return cls(msg.data, msg.fields, order, height, width, 0, 0)
        _check_sizes(height, width, point_step, memoryview(msg.data).nbytes)
        layout = cls(msg.data, msg.fields, order, height, width, point_step, width * point_step)
        layout = layout._with_row_step(int(msg.row_step))
        return layout._little_endian_if_flag_is_wrong() if msg.is_bigendian else layout

    def _with_row_step(self, declared: int) -> PointLayout:
        """With the row step that fits the size of the data.

        Drivers leave it out, or write the width, the point step or the step without padding. With one row it has no
        meaning. With several, it is taken as declared if it accounts for every byte; the last row may lack its padding.
        Else the size decides between packed rows, padded rows and unused bytes at the end; if several are possible, the
        positions do.
        """
        packed, size, gaps = self.row_step, memoryview(self.data).nbytes, self.height - 1
        if gaps == 0 or size == self.height * packed:
            return self
        fits = declared >= packed and gaps * declared + packed <= size
        if fits and size in (self.height * declared, gaps * declared + packed):
            return replace(self, row_step=declared)
        steps = [declared] if fits else []
        steps += [size // self.height] if size % self.height == 0 else []
        steps += [(size - packed) // gaps] if (size - packed) % gaps == 0 else []
        layouts = [replace(self, row_step=step) for step in dict.fromkeys([*steps, packed])]
        return max(layouts, key=PointLayout._plausible_share)  # the first of equally good ones

    def _little_endian_if_flag_is_wrong(self) -> PointLayout:
        """With little-endian data if the positions leave no doubt: some drivers set ``is_bigendian`` for no reason."""
        other = replace(self, byte_order="<")
        wrong = len(self) >= _MIN_ORDER_POINTS and self._plausible_share() < 0.05 and other._plausible_share() > 0.9
        return other if wrong else self

    def _plausible_share(self) -> float:
        """Share of a sample of the points whose positions are plausible in metres: 0 to 100 km and not all zero."""
        try:
            fields = [self.require(name) for name in "xyz"]
            axes = [self._view(field.offset, self._dtype(field))[:, :, 0] for field in fields]
        except CloudError:  # raised again, with its message, where the positions are needed
            return 0.0
        index = np.unique(np.linspace(0, len(self) - 1, _SAMPLE).astype(np.intp))
        rows, columns = np.divmod(index, self.width)
        with np.errstate(all="ignore"):
            xyz = np.abs(np.stack([axis[rows, columns].astype(np.float64) for axis in axes]))
            plausible = ((xyz < 1e5) & ((xyz > 1e-6) | (xyz == 0))).all(axis=0) & xyz.any(axis=0)
        return float(plausible.mean())

    def __len__(self) -> int:
        return self.height * self.width

    @property
    def field_names(self) -> str:
        """Names of all fields, for error messages."""
        return listed(f.name for f in self.fields) or "none"

    def find(self, names: Sequence[str]) -> Any | None:
        """The first of these fields that exists, or None. Without any, capitals do not count (``Intensity``).

        Raises:
            CloudError: the cloud has several fields of that name.
        """
        for fold in (str, str.lower):
            for name in names:
                fields = [f for f in self.fields if fold(f.name) == name]
                if len(fields) > 1:
                    raise CloudError(f"the cloud has {len(fields)} fields named '{name}'; names must be unique")
                if fields:
                    return fields[0]
        return None

    def require(self, name: str) -> Any:
        """The field with this name.

        Raises:
            CloudError: the field is missing.
        """
        field = self.find((name,))
        if field is None:
            raise CloudError(f"the cloud has no field '{name}'; it has {self.field_names}")
        return field

    def values(self, field: Any) -> NDArray[Any]:
        """(N,) values of a field in native byte order; a view if the data is native and without row padding."""
        dtype = self._dtype(field)
        if dtype.kind == "b":
            return np.asarray(self._view(field.offset, np.dtype("u1")).reshape(-1) != 0)  # any byte but 0 is true
        values = self._view(field.offset, dtype).reshape(-1)
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def xyz(self) -> NDArray[np.float32]:
        """(N, 3) positions; a view if x, y, z are adjacent native float32 and rows are not padded."""
        fields = [self.require(name) for name in "xyz"]
        dtypes = [self._dtype(f) for f in fields]
        steps = {b.offset - a.offset for a, b in pairwise(fields)}
        if len(set(dtypes)) == 1 and steps == {dtypes[0].itemsize}:
            return to_float32(self._view(fields[0].offset, dtypes[0], 3).reshape(-1, 3))
        xyz = np.empty((len(self), 3), np.float32)
        for axis, field in enumerate(fields):
            xyz[:, axis] = to_float32(self.values(field))
        return xyz

    def records(self) -> NDArray[np.void]:
        """(N,) points as opaque bytes; a view if rows are not padded."""
        return self._view(0, np.dtype((np.void, self.point_step))).reshape(-1)

    def _view(self, offset: int, dtype: np.dtype[Any], elements: int = 1) -> NDArray[Any]:
        """(height, width, elements) read-only view of the data."""
        shape = (self.height, self.width, elements)
        if len(self) == 0:
            return np.empty(shape, dtype)
        strides = (self.row_step, self.point_step, dtype.itemsize)
        view: NDArray[Any] = np.ndarray(shape, dtype, memoryview(self.data), offset, strides)
        view.flags.writeable = False
        return view

    def _dtype(self, field: Any) -> np.dtype[Any]:
        """Element type of a field, after checking that the field lies within the point."""
        if not is_known_datatype(field):
            defined = len(_DTYPE_CODES) - 1
            raise CloudError(f"field '{field.name}' has datatype {field.datatype}; PointField defines 1 to {defined}")
        dtype = np.dtype(self.byte_order + _DTYPE_CODES[field.datatype])
        # A count of 0 means one element, as in PCL: some drivers omit it.
        end = field.offset + dtype.itemsize * max(field.count, 1)
        if end > self.point_step and len(self) > 0:
            raise CloudError(f"field '{field.name}' ends at byte {end}, but point_step is {self.point_step}")
        return dtype


def is_known_datatype(field: Any) -> bool:
    """Whether the datatype of a PointField is one of those that ROS defines."""
    return bool(1 <= field.datatype < len(_DTYPE_CODES))


def _check_sizes(height: int, width: int, point_step: int, size: int) -> None:
    if point_step == 0:
        raise CloudError(f"point_step is 0 in a cloud of {height} x {width} points")
    if size < height * width * point_step:
        raise CloudError(
            f"data holds {size} bytes, but height {height} x width {width} points of {point_step} bytes take "
            f"{height * width * point_step}; the message is truncated"
        )


def to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Convert to native float32, without a copy if possible. Values out of range become infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


class Column(NamedTuple):
    """A field of a cloud to write.

    Attributes:
        name: the field's name.
        offset: byte offset in the point.
        code: numpy type code, such as ``f4``.
        values: (N,) values.
    """

    name: str
    offset: int
    code: str
    values: NDArray[Any]

    def field(self, types: MessageTypes) -> Any:
        """The PointField of this column."""
        return types.PointField(name=self.name, offset=self.offset, datatype=_DTYPE_CODES.index(self.code), count=1)


def write_points(
    header: Any,
    shape: tuple[int, int],
    columns: Sequence[Column],
    point_step: int,
    is_dense: bool,
    types: MessageTypes,
) -> Any:
    """Encode a little-endian PointCloud2 without row padding.

    Args:
        header: the message's header.
        shape: height and width.
        columns: the fields with their values.
        point_step: bytes of a point; bytes outside the columns are zero.
        is_dense: whether every value is finite.
        types: the classes to construct.
    """
    height, width = shape
    row_step = width * point_step if height else 0
    fields = [c.field(types) for c in columns]
    msg = types.PointCloud2(
        header=header, height=height, width=width, fields=fields, is_bigendian=False,
        point_step=point_step, row_step=row_step, data=b"", is_dense=is_dense,
    )  # fmt: skip
    names, offsets, codes, _ = zip(*columns, strict=True)
    formats = ["<" + code for code in codes]
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": point_step})
    points = allocate_data(msg, height * row_step).view(dtype)
    for column in columns:
        points[column.name] = column.values
    return msg


def extended(
    msg: Any, layout: PointLayout, columns: Sequence[Column], point_step: int, is_dense: bool, types: MessageTypes
) -> Any:
    """A copy of a cloud with more fields behind those that it has, without row padding.

    Args:
        msg: the cloud.
        layout: its layout.
        columns: the new fields, beyond its point step, written in its byte order.
        point_step: bytes of a point of the copy.
        is_dense: of the copy.
        types: the classes to construct.
    """
    big, row_step = layout.byte_order == ">", layout.width * point_step if layout.height else 0
    fields = [*msg.fields, *(column.field(types) for column in columns)]
    copy = types.PointCloud2(
        header=msg.header, height=layout.height, width=layout.width, fields=fields, is_bigendian=big,
        point_step=point_step, row_step=row_step, data=b"", is_dense=bool(is_dense),
    )  # fmt: skip
    points = allocate_data(copy, layout.height * row_step).reshape(-1, point_step)
    if len(points):
        points[:, : layout.point_step] = layout._view(0, np.dtype(np.uint8), layout.point_step).reshape(len(points), -1)
    for column in columns:
        values = np.ascontiguousarray(column.values, layout.byte_order + column.code)
        points[:, column.offset : column.offset + values.itemsize] = values.view(np.uint8).reshape(len(points), -1)
    return copy


def allocate_data(msg: Any, size: int) -> NDArray[np.uint8]:
    """Set a message's data to zeros of the type it expects, and return a writable view.

    rclpy's setter checks numpy arrays element by element (100 times slower than an array.array, which it uses as it
    is); the rosbags library needs numpy.
    """
    if isinstance(msg.data, array.array):
        msg.data = array.array("B", bytes(size))
        return np.frombuffer(msg.data, np.uint8) if size else np.empty(0, np.uint8)
    data = np.zeros(size, np.uint8)
    msg.data = data
    return data
