"""Sensor files: beam table and intensity scale of a LiDAR."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.errors import ConfigError, SensorError, listed, quoted
from xmodelkd_ros.core.ground import is_upside_down
from xmodelkd_ros.core.similar_names import nearest_name
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.core.usable_points import checked_ego_box, checked_min_range

_OPTIONAL = ("ego_box", "min_range_m", "ground_intensity", "height_m", "roll_deg", "pitch_deg", "comment")
"""Attributes that a sensor file has only if they are set."""
_LIMITS = {"ground_intensity": (0, 1e9), "height_m": (-1, 50), "roll_deg": (-180, 180), "pitch_deg": (-180, 180)}
"""What mounting and ground intensity may be."""
_REQUIRED = ("name", "beam_elevations_deg", "intensity_range")
_KEYS = (*_REQUIRED, "ring_elevations_deg", *_OPTIONAL)
"""What a sensor file may hold; another key is a misspelt one, and would be without effect."""


@dataclass(frozen=True)
class SensorSpec:
    """Description of a LiDAR that differs from the one the model was trained on.

    Attributes:
        name: name in messages.
        beam_elevations_deg: elevations of the beams, degrees, descending.
        ring_elevations_deg: elevation of each beam in the order of the driver's ``ring`` or ``channel`` numbers; NaN
            (null in the file) for a number that the fitted sweeps lack; empty if the clouds have no such field.
        intensity_range: intensity of dark and of bright surfaces in this sensor's scale.
        ego_box: box around the vehicle's own returns in the sensor's frame: minimum corner, maximum corner, metres;
            empty for none. Points inside are invalid.
        min_range_m: closer points are invalid; 0 for the model's minimum range.
        ground_intensity: intensity of the ground near the vehicle (``core/ground.py``); 0 if unknown.
        height_m: height of the sensor's origin above the ground (0 for clouds in base_link); None if unknown.
        roll_deg: roll of the sensor relative to the ground below the vehicle (REP-103); 180 if mounted upside down.
        pitch_deg: pitch likewise, positive if the sensor looks down. Rotations are applied in the order roll, pitch.
        comment: where the values are from; no effect.
    """

    name: str
    beam_elevations_deg: tuple[float, ...]
    ring_elevations_deg: tuple[float, ...] = ()
    intensity_range: tuple[float, float] = (0.0, 255.0)
    ego_box: tuple[float, ...] = ()
    min_range_m: float = 0.0
    comment: str = ""
    ground_intensity: float = 0.0
    height_m: float | None = None
    roll_deg: float = 0.0
    pitch_deg: float = 0.0

    def __post_init__(self) -> None:
        rings = np.asarray(self.ring_elevations_deg, np.float64)
        angles = np.r_[np.asarray(self.beam_elevations_deg, np.float64), rings[~np.isnan(rings)]]
        if not self.beam_elevations_deg:
            raise SensorError(f"sensor '{self.name}': beam_elevations_deg is empty")
        if not np.all(np.abs(angles) <= 90):
            wrong = angles[~(np.abs(angles) <= 90)][0]
            raise SensorError(f"sensor '{self.name}': a beam's elevation is {wrong:g}, but must be within +-90 degrees")
        steps = np.diff(self.beam_elevations_deg)
        if np.any(steps >= 0):
            first = int(np.argmax(steps >= 0))
            pair = "{:g}, {:g}".format(*self.beam_elevations_deg[first : first + 2])
            raise SensorError(
                f"sensor '{self.name}': beam_elevations_deg must descend, each one once, but holds {pair}"
            )
        low, high = self.intensity_range
        if not low < high:
            raise SensorError(f"sensor '{self.name}': intensity_range {low}..{high} is empty")
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise SensorError(f"sensor '{self.name}': {name} is {value}, but must be within {least:g} and {most:g}")
        try:
            object.__setattr__(self, "ego_box", checked_ego_box(self.ego_box))
            checked_min_range(self.min_range_m, "min_range_m")
        except ConfigError as error:
            raise SensorError(f"sensor '{self.name}': {error}") from error

    @property
    def upside_down(self) -> bool:
        """Whether the sensor's z axis points to the ground."""
        return is_upside_down(self.roll_deg, self.pitch_deg)

    def write(self, path: Path) -> None:
        """Write the sensor file (JSON)."""
        data = {name: value for name, value in asdict(self).items() if value or name not in _OPTIONAL}
        if self.height_m is not None:
            data["height_m"] = self.height_m  # 0 is a height too
        data["ring_elevations_deg"] = [None if math.isnan(angle) else angle for angle in self.ring_elevations_deg]
        with atomic_file(path) as unfinished:
            unfinished.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> SensorSpec:
        """Read a sensor file.

        Raises:
            SensorError: the file is missing or not a valid sensor file.
        """
        try:
            data = _parsed(path)
            low, high = _numbers(data, "intensity_range", 2)
            return cls(
                str(data["name"]),
                _numbers(data, "beam_elevations_deg"),
                _numbers(data, "ring_elevations_deg", gaps=True),
                (low, high),
                _numbers(data, "ego_box"),
                _number("min_range_m", data.get("min_range_m", 0.0)),
                str(data.get("comment", "")),
                ground_intensity=_number("ground_intensity", data.get("ground_intensity", 0.0)),
                height_m=_number("height_m", data["height_m"]) if "height_m" in data else None,
                roll_deg=_number("roll_deg", data.get("roll_deg", 0.0)),
                pitch_deg=_number("pitch_deg", data.get("pitch_deg", 0.0)),
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SensorError(
                f"cannot read sensor file {path}: {reason}; write one with 'xmodelkd fit-sensor'"
            ) from error
        except SensorError as error:
            raise SensorError(f"sensor file {path}: {error}") from error


def _parsed(path: Path) -> dict[str, Any]:
    """The file's object, with all keys that a sensor file needs and no others; ValueError in plain words otherwise."""
    try:
        data = parse_json(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        said = error.msg[:1].lower() + error.msg[1:]
        raise ValueError(f"it is not JSON: line {error.lineno}, column {error.colno}: {said}") from error
    if not isinstance(data, dict):
        raise ValueError(f"it holds {quoted(data)} instead of an object with {', '.join(_REQUIRED)}")
    if missing := [name for name in _REQUIRED if name not in data]:
        extra = _unknown(data)
        raise ValueError(f"it lacks {', '.join(missing)}" + (f", and has {extra}" if extra else ""))
    if extra := _unknown(data):
        raise ValueError(f"it has {extra}; known are {', '.join(_KEYS)}; rename or remove it")
    return data


def _unknown(data: Mapping[str, Any]) -> str:
    """The keys that no sensor file has, each with the known key that may be meant; empty without any."""
    proposals = {name: nearest_name(name, _KEYS) for name in data if name not in _KEYS}
    named = [f"'{name}'" + (f" (did you mean {near}?)" if near else "") for name, near in proposals.items()]
    return f"unknown {'key' if len(named) == 1 else 'keys'} {listed(named)}" if named else ""


def _numbers(data: Mapping[str, Any], name: str, count: int | None = None, *, gaps: bool = False) -> tuple[float, ...]:
    """The list of numbers ``name``, empty if absent; null stands for NaN where ``gaps`` are allowed."""
    values = data.get(name, [])
    if not isinstance(values, list):
        raise ValueError(f"{name} is {quoted(values)}, which is no list of numbers")
    if count is not None and len(values) != count:
        raise ValueError(f"{name} has {len(values)} values instead of {count}")
    return tuple(math.nan if gaps and value is None else _number(name, value, "holds") for value in values)


def _number(name: str, value: object, verb: str = "is") -> float:
    """The value as a number; JSON's null, true, lists, and texts that are no numbers are refused."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            return float(value)
    shown = "null" if value is None else quoted(value)
    raise ValueError(f"{name} {verb} {shown}, which is no number" + (" of usual size" if type(value) is int else ""))


def nearest(table: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the entry of ``table`` (in any order) nearest to each value."""
    order = np.argsort(table)
    borders = (table[order][1:] + table[order][:-1]) / 2
    index: NDArray[np.intp] = order[np.searchsorted(borders, values)]
    return index


def gaps_deg(beams: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each beam (in ascending or descending order) to the nearer one of its neighbours."""
    steps = np.abs(np.diff(np.asarray(beams, np.float64)))
    return np.asarray(np.minimum(np.r_[steps, np.inf], np.r_[np.inf, steps]))
