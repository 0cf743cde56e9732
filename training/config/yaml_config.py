"""Settings as frozen dataclasses that are read from YAML: every mistake is named by its key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from training.config.renamed_keys import renamed, renamed_path
from training.config.safe_yaml import parse_yaml
from xmodelkd_ros.console import print_notes
from xmodelkd_ros.core.errors import ConfigError, listed, one_line, quoted

if TYPE_CHECKING:
    from typing_extensions import Self


class YamlConfig:
    """A configuration that is read from YAML and stored in checkpoints."""

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = (), given: Mapping[str, Any] | None = None) -> Self:
        """Read a YAML file and apply ``section.key=value`` overrides; a number goes into a list: ``data.train.0.path``.

        Args:
            path: the file.
            overrides: applied last.
            given: values that replace those of the file; a mapping replaces only the keys of its section that it has.

        Raises:
            ConfigError: the file cannot be read, or names the key that is unknown, missing or wrong.
        """
        try:
            data = parse_yaml(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read {path}: {one_line(error)}") from error
        if not isinstance(data, dict):
            raise ConfigError(f"{path} is not a table of settings")
        try:
            data, notes = renamed(data)
            _update(data, given or {})
            for override in overrides:
                notes += _override(data, override)
            data, more = renamed(data)
            config = cls.from_dict(data)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        print_notes(f"{path}: {note}" for note in (*notes, *more))
        return config

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`; errors as in :meth:`read`."""
        config = _build(cls, renamed(data)[0] if isinstance(data, Mapping) else data, "")
        assert isinstance(config, cls)
        return config

    def to_dict(self) -> dict[str, Any]:
        """As it stands in YAML and in checkpoints."""
        return asdict(self)  # type: ignore[call-overload]


def require(name: str, value: object, holds: bool, wanted: str) -> None:
    """Raise a ConfigError that names a setting and what it must be, unless that holds."""
    if not holds:
        raise ConfigError(f"{name} is {quoted(value)}, but must be {wanted}")


def _build(kind: type, data: Any, prefix: str) -> Any:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')} is {quoted(data)}, but must be a table of settings")
    hints = get_type_hints(kind)
    unknown = set(data) - set(hints)
    if unknown:
        raise ConfigError(f"{prefix}{_first(unknown)} is not a setting; known are {listed(sorted(hints))}")
    required = {f.name for f in fields(kind) if f.default is f.default_factory}  # both MISSING
    absent = required - set(data)
    if absent:
        raise ConfigError(f"{prefix}{_first(absent)} is missing")
    values = {name: _value(hints[name], value, prefix + name) for name, value in data.items()}
    try:
        return kind(**values)
    except ConfigError as error:  # it names the setting, but does not know in which section it stands
        raise ConfigError(f"{prefix}{error}") from error


def _value(kind: Any, value: Any, name: str) -> Any:
    options = [option for option in get_args(kind) if option is not NoneType]
    if NoneType in get_args(kind):
        return None if value is None else _value(options[0], value, name)
    if is_dataclass(kind):
        assert isinstance(kind, type)
        return _build(kind, value, f"{name}.")
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} is {quoted(value)}, but must be a list")
        return tuple(_value(get_args(kind)[0], v, f"{name}[{k}]") for k, v in enumerate(value))
    if kind is float and not isinstance(value, bool):
        return _number(value, name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{name} is {quoted(value)}, but must be of type {kind.__name__}")
    return value


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)  # YAML 1.1 takes 1e-3 for a text
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{name} is {quoted(value)}, but must be a number")
    return number


def _first(names: Iterable[Any]) -> str:
    """The first of some names, which in YAML may be anything that a table can have as a key."""
    return min(name if isinstance(name, str) else repr(name) for name in names)


def _update(data: dict[str, Any], given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if isinstance(value, Mapping) and isinstance(data.get(key), dict):
            _update(data[key], value)
        else:
            data[key] = value


def _override(data: dict[str, Any], text: str) -> list[str]:
    path, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"'{text}' is not an override; write section.key=value")
    (*sections, key), notes = renamed_path(path.split("."))
    place: Any = data
    for section in sections:
        place = _enter(place, section, text)
    try:
        given = parse_yaml(value)
    except ValueError as error:
        raise ConfigError(f"'{text}': the value is not YAML") from error
    if not isinstance(place, dict):
        raise ConfigError(f"'{text}': {'.'.join(sections)} is not a table")
    place[key] = given
    return notes


def _enter(place: Any, section: str, text: str) -> Any:
    """A section of a table, or an entry of a list by its number."""
    if isinstance(place, dict):
        return place.setdefault(section, {})
    if isinstance(place, list) and section.isdigit() and int(section) < len(place):
        return place[int(section)]
    raise ConfigError(f"'{text}': there is no {section} to go into")
