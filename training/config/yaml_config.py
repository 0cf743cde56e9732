"""Configurations read from YAML: frozen dataclasses with constraints, whose errors are one line naming the setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from training.config.renamed_keys import renamed, renamed_path
from training.config.safe_yaml import parse_yaml
from xmodelkd_ros.console import print_notes
from xmodelkd_ros.core.errors import ConfigError, listed, one_line, quoted

if TYPE_CHECKING:
    from typing_extensions import Self

_T = TypeVar("_T")


class Constraint(NamedTuple):
    """What a value must be, for error messages, and the test of it; stands in an ``Annotated`` type."""

    wanted: str
    holds: Callable[[Any], bool]


def one_of(*names: str) -> Constraint:
    """One of some names; an empty one is accepted but not listed in the error."""
    return Constraint(f"one of {', '.join(filter(None, names))}", lambda value: value in names)


def at_most(limit: float) -> Constraint:
    """A number with an upper limit."""
    return Constraint(f"at most {limit}", lambda value: value <= limit)


def below(limit: float) -> Constraint:
    """A number with an exclusive upper limit."""
    return Constraint(f"below {limit}", lambda value: value < limit)


def length(least: int, most: int) -> Constraint:
    """A list with a number of entries."""
    entries = str(least) if least == most else f"{least} to {most}"
    return Constraint(f"a list of {entries}", lambda value: least <= len(value) <= most)


NOT_EMPTY = Constraint("a list with at least one entry", bool)
PositiveInt = Annotated[int, Constraint("positive", lambda value: value > 0)]
Count = Annotated[int, Constraint(">= 0", lambda value: value >= 0)]
Positive = Annotated[float, Constraint("positive", lambda value: value > 0)]
NonNegative = Annotated[float, Constraint(">= 0", lambda value: value >= 0)]
Probability = Annotated[float, Constraint("in 0..1", lambda value: 0 <= value <= 1)]
Fraction = Annotated[NonNegative, below(1)]


def require(name: str, value: object, holds: bool, wanted: str) -> None:
    """Raise a ConfigError that names a setting and what it must be, unless ``holds``."""
    if not holds:
        raise ConfigError(f"{name} is {quoted(value)}, but must be {wanted}")


def settings(cls: type[_T]) -> type[_T]:
    """Class decorator: a frozen dataclass that checks and converts its fields before ``__post_init__``."""
    own = getattr(cls, "__post_init__", lambda self: None)

    def checked(self: Any) -> None:
        for name, hint in _hints(cls).items():
            object.__setattr__(self, name, _checked(hint, getattr(self, name), name))
        own(self)

    cls.__post_init__ = checked  # type: ignore[attr-defined]
    return dataclass(frozen=True)(cls)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _build(kind: type[_T], data: Any, prefix: str) -> _T:
    require(prefix.rstrip("."), data, isinstance(data, Mapping), "a table of settings")
    unknown = [name if isinstance(name, str) else repr(name) for name in data if name not in _hints(kind)]
    if unknown:
        raise ConfigError(f"{prefix}{min(unknown)} is not a setting; known are {listed(sorted(_hints(kind)))}")
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    missing = [name for name in required if name not in data]
    if missing:
        raise ConfigError(f"{prefix}{missing[0]} is missing")
    try:
        return kind(**data)
    except ConfigError as error:  # it names the setting within its section
        raise ConfigError(f"{prefix}{error}") from error


def _checked(hint: Any, value: Any, name: str) -> Any:
    """Check a value against its annotation, and convert lists, tables and numbers of YAML."""
    if get_origin(hint) is Annotated:
        hint, *constraints = get_args(hint)
        value = _checked(hint, value, name)
        for constraint in constraints:
            require(name, value, constraint.holds(value), constraint.wanted)
        return value
    if NoneType in get_args(hint):
        return None if value is None else _checked(get_args(hint)[0], value, name)
    if is_dataclass(hint):
        return value if isinstance(value, hint) else _build(hint, value, f"{name}.")  # type: ignore[arg-type]
    if get_origin(hint) is dict:
        require(name, value, isinstance(value, Mapping), "a table")
        return {str(key): _checked(get_args(hint)[1], entry, f"{name}.{key}") for key, entry in value.items()}
    if get_origin(hint) is tuple:
        require(name, value, isinstance(value, (list, tuple)), "a list")
        return tuple(_checked(get_args(hint)[0], entry, f"{name}[{k}]") for k, entry in enumerate(value))
    if hint is float and not isinstance(value, bool):
        return _number(value, name)
    of_type = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    require(name, value, of_type, f"of type {hint.__name__}")
    return value


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)  # YAML 1.1 reads 1e-3 as text
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    require(name, value, math.isfinite(number), "a number")
    return number


class YamlConfig:
    """A configuration that is read from YAML and stored in checkpoints."""

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = (), given: Mapping[str, Any] | None = None) -> Self:
        """Read a YAML file and apply ``section.key=value`` overrides; list entries by number: ``data.train.0.path``.

        Args:
            path: the file.
            overrides: applied last.
            given: values that replace those of the file; a mapping only replaces the keys that it has.

        Raises:
            ConfigError: the file cannot be read, or a key is unknown, missing or has a wrong value; the error names it.
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
        return _build(cls, renamed(data)[0] if isinstance(data, Mapping) else data, "")

    def to_dict(self) -> dict[str, Any]:
        """The form stored in YAML and in checkpoints."""
        return asdict(self)  # type: ignore[call-overload]


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
    target: Any = data
    for section in sections:
        target = _enter(target, section, text)
    try:
        parsed = parse_yaml(value)
    except ValueError as error:
        raise ConfigError(f"'{text}': the value is not YAML") from error
    if not isinstance(target, dict):
        raise ConfigError(f"'{text}': {'.'.join(sections)} is not a table")
    target[key] = parsed
    return notes


def _enter(target: Any, section: str, text: str) -> Any:
    """A section of a table, or an entry of a list by its number."""
    if isinstance(target, dict):
        return target.setdefault(section, {})
    if isinstance(target, list) and section.isdecimal() and int(section) < len(target):
        return target[int(section)]
    raise ConfigError(f"'{text}' has no section {section}")
