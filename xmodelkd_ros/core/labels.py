"""Label sets and translations between them.

A label set is a table of classes: id, name, colour and aliases. A translation maps the class names of one set to those
of another. It is directed, since classes may merge. Both are JSON files in ``config/labels/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import LabelError, listed, quoted
from xmodelkd_ros.core.strict_json import parse_json

IGNORE = 255
"""Id of points without a label: not annotated, or invalid."""


@dataclass(frozen=True)
class LabelClass:
    """One class of a label set: id, name, sRGB colour and alternative names."""

    id: int
    name: str
    color: tuple[int, int, int]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelMap:
    """A label set. Ids are 0 to 254 and need not be consecutive.

    Attributes:
        name: name of the set.
        classes: the classes.
        mean_over_all: whether classes that do not occur count as 0 in the mean IoU, as in SemanticKITTI's benchmark.
        min_points: classes with fewer points of ground truth are left out of the mean IoU: a few points decide nothing.
    """

    name: str
    classes: tuple[LabelClass, ...]
    mean_over_all: bool = False
    min_points: int = 1

    def __post_init__(self) -> None:
        ids = [str(c.id) for c in self.classes]
        names = [name.lower() for c in self.classes for name in (c.name, *c.aliases)]
        for what, values in (("id", ids), ("name", names)):
            duplicates = sorted({v for v in values if values.count(v) > 1})
            if duplicates:
                raise LabelError(f"label set '{self.name}': {what} {listed(duplicates)} is not unique")
        for c in self.classes:
            if not 0 <= c.id < IGNORE:
                raise LabelError(f"label set '{self.name}': id {c.id} is not in 0..254")
            if not all(0 <= value <= 255 for value in c.color):
                raise LabelError(f"label set '{self.name}': colour {c.color} of '{c.name}' is not in 0..255")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of the classes."""
        return tuple(c.name for c in self.classes)

    @cached_property
    def _id_by_name(self) -> dict[str, int]:
        named = [(c.name, c.id) for c in self.classes] + [(name, c.id) for c in self.classes for name in c.aliases]
        return {_plain(name): class_id for name, class_id in reversed(named)}  # names come before aliases

    def id_of(self, name: str) -> int:
        """Id of the class with this name or alias; case, ``-``, ``_`` and blanks do not matter."""
        try:
            return self._id_by_name[_plain(name)]
        except KeyError:
            raise LabelError(
                f"label set '{self.name}' has no class {quoted(name)}; it has {listed(self.names)}"
            ) from None

    def has_class(self, name: str) -> bool:
        """Whether a class has this name or alias."""
        return _plain(name) in self._id_by_name

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """(256, 3) sRGB colour of each id; ids without a class are dark grey."""
        palette = np.full((256, 3), 64, np.uint8)
        for c in self.classes:
            palette[c.id] = c.color
        return palette

    def to_dict(self) -> dict[str, Any]:
        """The set as stored in JSON files and sent in ``label_info_json``."""
        rows = [{"id": c.id, "name": c.name, "color": list(c.color), "aliases": list(c.aliases)} for c in self.classes]
        mean: dict[str, Any] = {"mean_over_all": True} if self.mean_over_all else {}
        if self.min_points > 1:
            mean["min_points"] = self.min_points
        return {"name": self.name, "ignore": IGNORE, **mean, "classes": rows}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabelMap:
        """Inverse of :meth:`to_dict`.

        Raises:
            LabelError: a key is missing or has the wrong type, or classes contradict each other.
        """
        try:
            rows = tuple(_label_class(row) for row in data["classes"])
            mean_over_all, min_points = bool(data.get("mean_over_all", False)), int(data.get("min_points", 1))
            return cls(str(data["name"]), rows, mean_over_all, min_points)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise LabelError(f"not a label set: {quoted(error)}; needs name and classes of id, name, color") from error

    @classmethod
    def read(cls, path: Path) -> LabelMap:
        """Read a label set from a JSON file."""
        return cls.from_dict(_read_json(path))


def _label_class(row: Mapping[str, Any]) -> LabelClass:
    red, green, blue = (int(v) for v in row["color"])
    return LabelClass(int(row["id"]), str(row["name"]), (red, green, blue), _aliases(row.get("aliases", ())))


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ")


def _aliases(names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"aliases is {quoted(names)}, not a list of names")
    return tuple(names)


@dataclass(frozen=True, eq=False)
class LabelTranslation:
    """Mapping of every class of ``source`` to a class of ``target``, or to ignore."""

    source: LabelMap
    target: LabelMap
    table: Mapping[str, str | None]

    def __post_init__(self) -> None:
        missing = set(self.source.names) - set(self.table)
        unknown = set(self.table) - set(self.source.names)
        if missing or unknown:
            raise LabelError(
                f"{self.source.name} -> {self.target.name}: "
                f"the table lacks {sorted(missing)} and has unknown classes {sorted(unknown)}"
            )
        for name in self.table.values():
            if name is not None:
                self.target.id_of(name)

    @cached_property
    def lookup(self) -> NDArray[np.uint8]:
        """(256,) target id of each source id; 255 if ignored."""
        lookup = np.full(256, IGNORE, np.uint8)
        for source_name, target_name in self.table.items():
            if target_name is not None:
                lookup[self.source.id_of(source_name)] = self.target.id_of(target_name)
        return lookup

    def apply(self, labels: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Translate an array of source ids (uint8 range) to target ids."""
        translated: NDArray[np.uint8] = self.lookup[labels]
        return translated

    def merge(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum the probabilities of source classes that map to the same target class.

        Args:
            probabilities: (C, N), row i for the i-th class of the source set.

        Returns:
            (D, N), row j for the j-th class of the target set. Ignored classes are left out.
        """
        row_of = {c.id: j for j, c in enumerate(self.target.classes)}
        merged = np.zeros((len(self.target), probabilities.shape[1]), np.float32)
        for i, c in enumerate(self.source.classes):
            target_id = int(self.lookup[c.id])
            if target_id != IGNORE:
                merged[row_of[target_id]] += probabilities[i]
        return merged

    def then(self, following: LabelTranslation) -> LabelTranslation:
        """This translation followed by one from its target."""
        between = {c.id: c.name for c in following.source.classes}
        table = {
            name: None if middle is None else following.table[between[self.target.id_of(middle)]]
            for name, middle in self.table.items()
        }
        return LabelTranslation(self.source, following.target, table)

    @classmethod
    def by_name(cls, source: LabelMap, target: LabelMap) -> LabelTranslation:
        """Match classes by name or alias; classes without a match are ignored.

        Raises:
            LabelError: no class matches.
        """
        table = {c.name: next((n for n in (c.name, *c.aliases) if target.has_class(n)), None) for c in source.classes}
        if not any(table.values()):
            raise LabelError(
                f"label sets '{source.name}' and '{target.name}' share no class name; "
                f"add config/labels/{source.name}_to_{target.name}.json"
            )
        return cls(source, target, table)

    @classmethod
    def read(cls, path: Path, source: LabelMap, target: LabelMap) -> LabelTranslation:
        """Read ``{"source": ..., "target": ..., "table": {source name: target name or null}}``.

        An optional ``"comment"`` documents the table.
        """
        data = _read_json(path)
        if (data.get("source"), data.get("target")) != (source.name, target.name):
            raise LabelError(f"{path} is not a table from '{source.name}' to '{target.name}'")
        table = data.get("table", {})
        if not isinstance(table, dict) or not all(isinstance(name, str | None) for name in table.values()):
            raise LabelError(f"{path}: table does not map names to names")
        return cls(source, target, table)


def ids_of(label_map: LabelMap, names: Iterable[str]) -> tuple[int, ...]:
    """Ids of several classes by name."""
    return tuple(label_map.id_of(name) for name in names)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabelError(f"cannot read label table {path}: {error}") from error
    if not isinstance(data, dict):
        raise LabelError(f"label table {path} is not a JSON object")
    return data
