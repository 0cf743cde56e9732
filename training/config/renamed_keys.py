"""Old names of settings, which configuration files and checkpoints of earlier releases still use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xmodelkd_ros.core.errors import ConfigError

_KEYS = {
    ("data", "choose"): "validation",
    ("model", "table"): "head_channels",
    ("teacher", "dark_cameras"): "camera_dropout",
}
"""Section and old key -> new key."""
_LISTS = {"drive": "drives"}
"""Old table -> list whose first entry it is now."""
_LABELS = {"carried": "propagated"}
"""Old -> new values of the ``labels`` of a source."""
_DEPTH = 4
"""Levels of tables and lists above the settings of a source, at most."""


def renamed(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Settings under their present names, and a note for each old name that they used.

    Raises:
        ConfigError: a setting is given under both names.
    """
    result, notes = dict(settings), []
    for (section, old), new in _KEYS.items():
        table = result.get(section)
        if not isinstance(table, Mapping) or old not in table:
            continue
        if new in table:
            raise ConfigError(f"{section}.{old} is the old name of {section}.{new}; remove {section}.{old}")
        result[section] = {new if key == old else key: value for key, value in table.items()}
        notes.append(f"{section}.{old} is now named {section}.{new}")
    for old, new in _LISTS.items():
        if isinstance(result.get(old), Mapping):
            if new in result:
                raise ConfigError(f"{old} is the old name of {new}; remove {old}")
            result[new] = [result.pop(old)]
            notes.append(f"{old} is now the list {new}")
    return {key: _renamed_labels(value, notes, _DEPTH) for key, value in result.items()}, notes


def renamed_path(path: list[str]) -> tuple[list[str], list[str]]:
    """The keys of an override under their present names, and notes as in :func:`renamed`."""
    if path[0] in _LISTS and len(path) > 1:
        new = _LISTS[path[0]]
        return [new, "0", *path[1:]], [f"{path[0]}.{path[1]} is now named {new}.0.{path[1]}"]
    new = _KEYS.get((path[0], path[1])) if len(path) > 1 else None
    if new is None:
        return path, []
    return [path[0], new, *path[2:]], [f"{path[0]}.{path[1]} is now named {path[0]}.{new}"]


def _renamed_labels(value: Any, notes: list[str], depth: int) -> Any:
    if isinstance(value, (list, tuple)) and depth:
        return [_renamed_labels(entry, notes, depth - 1) for entry in value]
    if not isinstance(value, Mapping) or not depth:
        return value
    result = {key: _renamed_labels(entry, notes, depth - 1) for key, entry in value.items()}
    labels = result.get("labels")
    if "dataset" in result and isinstance(labels, str) and labels in _LABELS:
        result["labels"] = _LABELS[labels]
        notes.append(f"labels: {labels} is now named labels: {_LABELS[labels]}")
    return result
