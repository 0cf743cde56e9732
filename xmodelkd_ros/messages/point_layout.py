"""PointCloud2 memory layout: validated views for reading, a structured array for writing.

Existing readers ignore row padding, swap big-endian data in place and scramble organised clouds.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import CloudError, listed

_DTYPE_CODES = ("", "i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
"""numpy type code of each PointField.datatype, INT8 = 1 to FLOAT64 = 8."""


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
        row_step: bytes from row to row, 0 without points.
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
        byte_order = ">" if msg.is_bigendian else "<"
        height, width, point_step, row_step = int(msg.height), int(msg.width), int(msg.point_step), int(msg.row_step)
        if height * width == 0:
            return cls(msg.data, msg.fields, byte_order, height, width, 0, 0)
        if row_step == 0 and height == 1:
            # Some drivers omit it, and it has no meaning with one row.
            row_step = width * point_step
        _check_sizes(height, width, point_step, row_step, memoryview(msg.data).nbytes)
        return cls(msg.data, msg.fields, byte_order, height, width, point_step, row_step)

    def __len__(self) -> int:
        return self.height * self.width

    @property
    def field_names(self) -> str:
        """Names of all fields, for error messages."""
        return listed(f.name for f in self.fields) or "none"

    def find(self, names: Sequence[str]) -> Any | None:
        """The first of these fields that exists, or None."""
        for name in names:
            fields = [f for f in self.fields if f.name == name]
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
        values = self._view(field.offset, self._dtype(field)).reshape(-1)
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
        if not 1 <= field.datatype < len(_DTYPE_CODES):
            raise CloudError(f"field '{field.name}' has datatype {field.datatype}; PointField defines 1 to 8")
        dtype = np.dtype(self.byte_order + _DTYPE_CODES[field.datatype])
        # A count of 0 means one element, as in PCL: some drivers omit it.
        end = field.offset + dtype.itemsize * max(field.count, 1)
        if end > self.point_step and len(self) > 0:
            raise CloudError(f"field '{field.name}' ends at byte {end}, but point_step is {self.point_step}")
        return dtype


def _check_sizes(height: int, width: int, point_step: int, row_step: int, size: int) -> None:
    if point_step == 0:
        raise CloudError(f"point_step is 0 in a cloud of {height} x {width} points")
    if row_step < width * point_step:
        raise CloudError(f"row_step is {row_step}, but {width} points of {point_step} bytes take {width * point_step}")
    if size < height * row_step:
        raise CloudError(
            f"data holds {size} bytes, but height {height} x row_step {row_step} declares {height * row_step}; "
            "the message is truncated"
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
