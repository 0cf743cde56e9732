"""What the classes of an image network mean: each stands for a set of the classes that points are labelled with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ConfigError, LabelError, listed, quoted
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.resources import find_config, label_map, shipped_image_classes

_NEVER = "never"
"""In place of a set: the class says nothing of points, such as sky, which no LiDAR measures."""


@dataclass(frozen=True)
class ImageClasses:
    """Classes of an image network, each with the classes of points that it may mean.

    A network that knows fewer classes merges several of ours (Cityscapes has no lane markings: its road is road or
    road_marking), and some of its classes are split in ours.

    Attributes:
        name: of the table.
        names: the K classes in the order of the network's output.
        sets: the classes of ``label_set`` that each may mean; empty if it says nothing of points.
        labels: the label set.
    """

    name: str
    names: tuple[str, ...]
    sets: tuple[tuple[str, ...], ...]
    labels: LabelMap

    def __post_init__(self) -> None:
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ConfigError(f"image classes {self.name}: {listed(twice)} occur twice")
        if not any(self.sets):
            raise ConfigError(f"image classes {self.name}: no class means anything in {self.labels.name}")
        for name, meant in zip(self.names, self.sets, strict=True):
            unknown = [own for own in meant if own not in self.labels.names]
            if unknown:
                raise ConfigError(
                    f"image classes {self.name}: {quoted(name)} means {listed(unknown)}, but {self.labels.name} has "
                    f"{listed(self.labels.names)}"
                )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def means(self) -> NDArray[np.bool_]:
        """(K, C + 1) whether class k may mean class c of the label set; in the last column, whether none of them."""
        return np.array([[*(own in meant for own in self.labels.names), not meant] for meant in self.sets])

    def possible(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """(C + 1, ...) how probable it is that each class of the label set is meant, alone or among others.

        The last one is the probability that none of them is. So what networks with different classes say can be read
        by one teacher.

        Args:
            probabilities: (K, ...) of these classes.
        """
        return np.asarray(np.tensordot(self.means.T.astype(np.float32), probabilities, axes=1))

    @cached_property
    def groups(self) -> ImageClasses:
        """The same with all classes of one meaning merged, named after their meaning; G <= K classes."""
        sets = tuple(dict.fromkeys(self.sets))
        return ImageClasses(self.name, tuple("|".join(meant) or _NEVER for meant in sets), sets, self.labels)

    def grouped(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """(G, ...) probabilities of :attr:`groups` from (K, ...) ones."""
        order = self.groups.sets
        grouped = np.zeros((len(order), *probabilities.shape[1:]), np.float32)
        for number, meant in enumerate(self.sets):
            grouped[order.index(meant)] += probabilities[number]
        return grouped

    @classmethod
    def read(cls, path: Path) -> ImageClasses:
        """Read a table from a JSON file (:meth:`from_dict`).

        Raises:
            ConfigError: the file cannot be read, or names unknown classes.
        """
        try:
            return cls.from_dict(parse_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, LabelError) as error:
            raise ConfigError(
                f"cannot read image classes {path}: {quoted(error)}; needs name, label_set, classes (name, means)"
            ) from error

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageClasses:
        """From ``{"name": ..., "label_set": ..., "classes": [{"name": ..., "means": [...] or "never"}, ...]}``."""
        rows = [(str(row["name"]), _meant(row)) for row in data["classes"]]
        names, sets = tuple(name for name, _ in rows), tuple(meant for _, meant in rows)
        return cls(str(data["name"]), names, sets, label_map(str(data["label_set"])))

    def to_dict(self) -> dict[str, Any]:
        """Inverse of :meth:`from_dict`."""
        rows = [{"name": n, "means": list(m) or _NEVER} for n, m in zip(self.names, self.sets, strict=True)]
        return {"name": self.name, "label_set": self.labels.name, "classes": rows}

    @classmethod
    def find(cls, name: str, folder: Path) -> ImageClasses:
        """Read a table by the name of a shipped one, or from a file relative to a folder.

        Raises:
            ConfigError: there is none, or it cannot be read.
        """
        if (folder / name).is_file():
            return cls.read(folder / name)
        shipped = shipped_image_classes()
        if name not in shipped:
            raise ConfigError(
                f"no image classes {quoted(name)}: neither a file in {folder} nor one of {listed(shipped)}"
            )
        return cls.read(find_config(f"image_classes/{name}.json"))


def _meant(row: Mapping[str, Any]) -> tuple[str, ...]:
    meant = row["means"]
    if meant == _NEVER:
        return ()
    if not isinstance(meant, list):
        raise TypeError(f"means of {row['name']} is {meant}, but must be a list of classes, or {_NEVER}")
    return tuple(str(own) for own in meant)
