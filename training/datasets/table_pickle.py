"""Columns of pickled pandas tables, of any version of pandas and numpy, without running code of the pickle's choice.

Unpickling calls whatever classes and functions a pickle names. Here, only the type :class:`numpy.dtype` and Python's
``slice`` are what they are called; arrays are created together with their data, and everything of pandas, pyarrow and
the few libraries whose objects tables hold is an inert :class:`_Record` of its arguments and state. All other names are
refused. The columns are then read from the records, so that neither pandas nor pyarrow is needed, whatever version of
them wrote the table.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import quoted


class _Record:
    """An object of pandas or pyarrow: the arguments and the state it would be restored from."""

    def __new__(cls, *args: Any, **_: Any) -> _Record:
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    args: tuple[Any, ...]
    state: Any

    def __repr__(self) -> str:
        return f"a {type(self).__name__}"

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array:
    """Stands in for numpy's array class: arrays are only created together with their data."""


def _empty(kind: object, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An empty array to be filled; rejects a size that the data do not back up."""
    if kind is not _Array or shape != (0,):
        raise pickle.UnpicklingError(f"it allocates an array of shape {quoted(shape)} without data")
    return np.ndarray(shape, dtype)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, data: bytes) -> Any:
    return np.frombuffer(data, dtype)[0]


def _bytes(data: Any = b"", *_: str) -> bytes:
    """Bytes from bytes, or from Latin-1 text as old protocols store them; no other argument, such as a size."""
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError(f"it allocates {quoted(data)} bytes without data")
    return bytes(data)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _bytes,
    **{(module, "slice"): slice for module in ("builtins", "__builtin__")},
    **{(module, "bytearray"): _bytes for module in ("builtins", "__builtin__")},
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")  # numpy 1 and 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _empty),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


_INERT = ("pandas", "pyarrow", "datetime", "decimal", "pathlib", "zoneinfo")
"""Libraries whose objects tables hold, in columns or attributes that are not read here."""

_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
"""Operations that store an object under a number, for which memory is allocated."""

_WRAPPERS = ("StringArray", "StringArrayNumpySemantics", "PandasArray", "NumpyExtensionArray")
"""Arrays of pandas that hold just one of numpy."""


@lru_cache(maxsize=256)
def _record_class(name: str) -> type[_Record]:
    return type(name, (_Record,), {})


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; nothing is imported."""
        if module.split(".")[0] in _INERT:
            return _record_class(name)
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it uses {module}.{name}, which tables do not need")
        return _ALLOWED[module, name]


def unpickled(data: bytes) -> Any:
    """The content of a pickle, with records in place of pandas' objects.

    Raises:
        pickle.UnpicklingError: it uses other classes than tables do, or allocates memory without data for it.
        Exception: any other kind, for damaged content.
    """
    # Detects damaged lengths and numbers before memory is allocated for them.
    for operation, value, _ in pickletools.genops(data):
        if operation.name in _MEMO and isinstance(value, int) and value > len(data):
            raise pickle.UnpicklingError(f"it stores an object as number {value}, without as many objects")
    return _Unpickler(io.BytesIO(data)).load()


def columns(table: Any, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """(N,) values of the named columns of a table from :func:`unpickled`; other columns are not decoded.

    Raises:
        ValueError: it is not a table, or a column is missing, or is not of numbers.
    """
    _require(_is(table, "DataFrame") and isinstance(table.state, Mapping), f"it is not a table but {quoted(table)}")
    manager = table.state.get("_mgr", table.state.get("_data"))  # _data: before pandas 1.1
    _require(_is(manager, "BlockManager"), "its table has no columns")
    axes, blocks = _axes_and_blocks(manager)
    titles = _titles(axes[0])
    found = {name: value for values, rows in blocks for name, value in _named(values, rows, titles)}
    missing = [name for name in names if name not in found]
    _require(not missing, f"it has no column {', '.join(map(quoted, missing))}, but {quoted(titles)}")
    return {name: _numbers(found[name], name) for name in names}


def _axes_and_blocks(manager: _Record) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """The axes, and the values and column numbers of each block."""
    if manager.args:
        blocks, axes = manager.args
        return axes, [(block.args[0], block.args[1]) for block in blocks]
    state = manager.state[3]["0.14.1"]  # the format before pandas 1.3
    return state["axes"], [(block["values"], block["mgr_locs"]) for block in state["blocks"]]


def _named(values: Any, rows: Any, titles: list[str]) -> Iterable[tuple[str, Any]]:
    """The columns of a block by name."""
    numbers = range(len(titles))[rows] if isinstance(rows, slice) else np.asarray(rows, np.int64).tolist()
    if isinstance(values, _Record):  # one column, or several of dates
        values = [values] * len(numbers)
    elif values.ndim == 1:
        values = [values]
    _require(len(values) == len(numbers), "its columns and their names differ in number")
    return ((titles[number], value) for number, value in zip(numbers, values, strict=True))


def _titles(axis: Any) -> list[str]:
    """The names of the columns, whatever array pandas holds them in."""
    _require(_is(axis, "_new_Index") and isinstance(axis.args[1], Mapping), "the names of its columns are not an index")
    data = axis.args[1].get("data")
    _require(data is not None, "its columns have no names")
    return [str(title) for title in _values(data).tolist()]


def _numbers(values: Any, name: str) -> NDArray[Any]:
    array = _values(values)
    _require(array.ndim == 1 and array.dtype.kind in "iufbO", f"column {quoted(name)} is not of numbers")
    return array


def _values(data: Any) -> NDArray[Any]:
    """The array within a column or index: of numpy, of a nullable, string or categorical type, or of Arrow."""
    if isinstance(data, np.ndarray):
        return data
    kind = data.args[0].__name__ if _is(data, "__pyx_unpickle_NDArrayBacked") else type(data).__name__
    state = data.state if isinstance(data, _Record) else None
    parts = list(state.values()) if isinstance(state, Mapping) else list(state or ())
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    arrow = [part for part in parts if _is(part, "_restore_array")]
    if arrow:
        return _arrow_values(*arrow[0].args[0][:5])
    if isinstance(state, Mapping) and "_mask" in state:
        _require(not state["_mask"].any(), "it has missing values")
        return np.asarray(state["_data"])
    if kind == "Categorical":
        categories = next(part for part in parts if _is(part, "CategoricalDtype")).state["categories"]
        _require(bool((arrays[0] >= 0).all()), "it has missing values")
        return np.asarray(_values(categories.args[1]["data"])[arrays[0]])
    _require(kind in _WRAPPERS and len(arrays) == 1, f"it has columns of {quoted(kind)}, which cannot be read")
    return arrays[0]


def _arrow_values(kind: Any, length: int, _: int, offset: int, buffers: list[Any]) -> NDArray[Any]:
    """The values of an Arrow array (https://arrow.apache.org/docs/format/Columnar.html) of numbers or strings."""
    (name,) = kind.args
    valid, *data = (buffer and bytes(buffer.args[0]) for buffer in buffers)
    if valid:
        bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")[offset : offset + length]
        _require(bool(bits.all()), "it has missing values")
    if name in ("string", "large_string"):
        ends = np.frombuffer(data[0], np.int64 if name == "large_string" else np.int32)[offset : offset + length + 1]
        text = data[1] or b""
        return np.array([text[a:b].decode() for a, b in pairwise(ends)], object)
    dtype = np.dtype({"double": "f8", "float": "f4"}.get(name, name))
    _require(dtype.kind in "iuf", f"it has a column of Arrow type {quoted(name)}")
    return np.frombuffer(data[0], dtype)[offset : offset + length]


def _is(thing: Any, name: str) -> bool:
    return isinstance(thing, _Record) and type(thing).__name__ == name


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)
