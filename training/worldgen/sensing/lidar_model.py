"""Model of a LiDAR: directions and times of its pulses, its receiver, and the differences between units.

A sweep consists of C columns, fired one after the other, of B pulses fired at once. How they are directed is a scan
pattern (:data:`PATTERNS`): a spinning LiDAR and one with a rotating mirror fire each beam at its elevation; others have
no beams of fixed elevation. Those with prisms or a nodding mirror never repeat a sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ConfigError

_COMMON_GAMMA = 0.6
"""Share of the units whose intensities have about the product's exponent; the others have any (:data:`_GAMMAS`)."""
_GAMMAS = (0.3, 2.5)
_MIDDLE_REFLECTANCE = 0.2
"""The reflectance whose intensity does not depend on a unit's exponent."""
_RAW_SHARE = 0.3
"""Share of the units that report the strength of the signal, not calibrated for beam and range."""
_RAW_SPREAD, _RAW_EXPONENTS = (0.1, 0.3), (-1.0, 0.3)
"""Their spread of beam gains, and what is added to the exponent of the range."""
_OFFSET_SHARE, _MAX_OFFSET = 0.2, 0.1
"""Share of the units that report some intensity also for black surfaces, and the most, relative to a white one."""
_DUAL_SHARE = 0.1
"""Share of the units that report two returns of a pulse, of products that can."""
_LAST_TURN = 10_000
_MAX_RANGE_M = 262
_LINE_SPREAD = 0.1
"""Vertical extent of the pulses fired at once by a LiDAR without beams, as a share of its field of view."""
_PRISM_HZ = (121.57, -77.73)
"""Rotation of the two prisms of a Livox Mid-40: 7294 and -4664 turns a minute."""
_MIRROR_HZ = (10.37, 187.3)
"""Turns and nods of the mirror of a Livox Mid-360: not Livox's figures, but 0.1 s has no whole number of either."""

Angles = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(C, B) azimuths, positive to the left, and (C, B) elevations; radians."""


@dataclass(frozen=True)
class LidarModel:
    """A LiDAR: its pulses and its receiver.

    Attributes:
        name: product name.
        elevations_deg: of the beams, strictly descending; without beams, evenly spaced rows of its field of view.
        columns: firings per sweep.
        column_modes: numbers of columns that units of the product can be set to; empty: only ``columns``.
        azimuth_offsets_deg: offset of each beam to the left of its column's azimuth; empty: zero.
        azimuth_span_deg: horizontal field of view, centred ahead.
        pattern: one of :data:`PATTERNS`.
        lines: pulses fired at once; 0: one for each beam.
        turn: number of the sweep, which the directions depend on if the pattern does not repeat.
        returns: returns reported for a pulse: 1, the strongest; 2, also the last one.
        period_s: duration of a sweep.
        table_spread: largest relative deviation of a unit's field of view from the product's.
        min_range_m: minimum range.
        max_range_m: maximum range; at most 262 m.
        reach_m: range at which a face-on target of 10 % reflectance is detected with probability 0.5.
        divergence_mrad: full angle of the beam's cone.
        range_noise_m: standard deviation of the range of a strong return.
        gain: intensity reported for a face-on white diffuser.
        gamma: exponent of reported intensity as a function of reflectance.
        offset: intensity reported for a black surface.
        range_exponent: residual range dependence of reported intensity, as a power of range / 20 m.
        beam_gain_spread: standard deviation of the natural logarithm of the beam gains.
        beam_gains: (B,) gain of each beam relative to ``gain``; empty: all 1.
    """

    name: str
    elevations_deg: tuple[float, ...]
    columns: int
    column_modes: tuple[int, ...] = ()
    azimuth_offsets_deg: tuple[float, ...] = ()
    azimuth_span_deg: float = 360.0
    pattern: str = "spinning"
    lines: int = 0
    turn: int = 0
    returns: int = 1
    period_s: float = 0.1
    table_spread: float = 0.01
    min_range_m: float = 0.5
    max_range_m: float = 200.0
    reach_m: float = 120.0
    divergence_mrad: float = 2.5
    range_noise_m: float = 0.015
    gain: float = 100.0
    gamma: float = 1.0
    offset: float = 0.0
    range_exponent: float = 0.0
    beam_gain_spread: float = 0.05
    beam_gains: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        rows = np.asarray(self.elevations_deg)
        if rows.size == 0 or not np.all(np.diff(rows) < 0) or not np.all(np.abs(rows) < 90):
            raise ConfigError(f"LiDAR '{self.name}': elevations_deg must fall strictly from beam to beam, within +-90")
        if self.columns < 4:
            raise ConfigError(f"LiDAR '{self.name}': columns is {self.columns}; a turn needs at least 4")
        if self.pattern not in PATTERNS:
            raise ConfigError(f"LiDAR '{self.name}': pattern is '{self.pattern}', not one of {', '.join(PATTERNS)}")
        if not 0 < self.azimuth_span_deg <= 360 or self.lines < 0 or self.turn < 0 or self.returns not in (1, 2):
            raise ConfigError(
                f"LiDAR '{self.name}': azimuth_span_deg {self.azimuth_span_deg}, lines {self.lines}, turn {self.turn} "
                f"and returns {self.returns} must be up to 360, at least 0, at least 0, and 1 or 2"
            )
        if not 0 < self.min_range_m < self.max_range_m <= _MAX_RANGE_M:
            raise ConfigError(
                f"LiDAR '{self.name}': ranges are {self.min_range_m} to {self.max_range_m} m; give 0 < min < max <= 262"
            )
        for name in ("azimuth_offsets_deg", "beam_gains"):
            if len(getattr(self, name)) not in (0, self.beams):
                raise ConfigError(f"LiDAR '{self.name}': {name} must have one entry for each of {self.beams} beams")

    @property
    def beams(self) -> int:
        """Number of pulses fired at once."""
        return self.lines or len(self.elevations_deg)

    @property
    def has_rings(self) -> bool:
        """Whether each pulse belongs to a beam of fixed elevation."""
        return self.lines == 0

    @property
    def slots(self) -> int:
        """Number of returns that a column can have."""
        return self.beams * self.returns

    def at(self, turn: int) -> LidarModel:
        """The LiDAR in a later sweep, ``turn`` sweeps after this one; the same if its pattern repeats."""
        return self if self.has_rings or not turn else replace(self, turn=self.turn + turn)

    def directions(self) -> NDArray[np.float32]:
        """(C, B, 3) unit vectors of all firings in the sensor frame (REP-103); read-only.

        Of a spinning LiDAR column 0 starts at azimuth +180 degrees (behind), or at the left end of its field of view,
        and azimuth decreases; firings are centred in their column.
        """
        return _directions(self)

    def column_times_s(self) -> NDArray[np.floating]:
        """(C,) firing time of each column relative to the sweep's end, which is the time of the last column."""
        return (np.arange(self.columns) - (self.columns - 1)) * (self.period_s / self.columns)

    def sample_unit(self, rng: np.random.Generator) -> LidarModel:
        """Draw one unit of the product: perturbed beam angles, gains, noise and reach."""
        step = -np.diff(self.elevations_deg)
        limit = min(0.06, 0.4 * float(step.min())) if step.size else 0.06  # preserves the order of the beams
        jitter = np.clip(rng.normal(0.0, 0.03, len(self.elevations_deg)), -limit, limit)
        scale = rng.uniform(1 - self.table_spread, 1 + self.table_spread)
        factors = np.exp(rng.normal(0.0, (0.25, 0.2, 0.15, 0.15)))
        numbers = np.array((self.range_noise_m, self.reach_m, self.gain, self.divergence_mrad)) * factors
        gamma, exponent = rng.normal((self.gamma, self.range_exponent), (0.08, 0.1))
        noise, reach, gain, cone, gamma, exponent = _rounded(np.r_[numbers, gamma, exponent])
        return replace(
            self,
            elevations_deg=_rounded(np.asarray(self.elevations_deg) * scale + jitter),
            turn=int(rng.integers(_LAST_TURN)),
            returns=1,
            beam_gains=_rounded(np.exp(rng.normal(0.0, self.beam_gain_spread, self.beams))),
            range_noise_m=noise,
            reach_m=reach,
            gain=gain,
            divergence_mrad=cone,
            gamma=gamma,
            range_exponent=exponent,
        )

    def sample_any_unit(self, rng: np.random.Generator) -> LidarModel:
        """Draw a unit in any of the product's modes, with any scale of intensity, calibrated or not."""
        unit, modes = self.sample_unit(rng), self.column_modes or (self.columns,)
        columns = modes[int(rng.integers(len(modes)))]
        gamma = unit.gamma if rng.random() < _COMMON_GAMMA else float(np.exp(rng.uniform(*np.log(_GAMMAS))))
        gamma = float(np.clip(gamma, *_GAMMAS))
        gain = unit.gain * _MIDDLE_REFLECTANCE ** (unit.gamma - gamma)
        offset = rng.uniform(0.0, _MAX_OFFSET) * self.gain if rng.random() < _OFFSET_SHARE else 0.0
        raw = rng.uniform(*_RAW_SPREAD) if rng.random() < _RAW_SHARE else 0.0
        gains = unit.beam_gains * np.exp(rng.normal(0.0, raw, self.beams))
        exponent = unit.range_exponent + (rng.uniform(*_RAW_EXPONENTS) if raw else 0.0)
        gain, gamma, offset, exponent = _rounded(np.array((gain, gamma, offset, exponent)))
        returns = self.returns if rng.random() < _DUAL_SHARE else 1
        return replace(
            unit,
            columns=columns,
            returns=returns,
            gain=gain,
            gamma=gamma,
            offset=offset,
            range_exponent=exponent,
            beam_gains=_rounded(gains),
        )


def _rounded(values: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(v) for v in np.round(values, 4))


@lru_cache(maxsize=16)
def _directions(lidar: LidarModel) -> NDArray[np.float32]:
    azimuth, elevation = PATTERNS[lidar.pattern](lidar)
    flat = np.cos(elevation)
    vectors = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=-1)
    result: NDArray[np.float32] = vectors.astype(np.float32)
    result.flags.writeable = False  # the cached array is shared between callers
    return result


def _spinning(lidar: LidarModel) -> Angles:
    """Beams of fixed elevation, turned about the vertical axis clockwise seen from above."""
    span = lidar.azimuth_span_deg
    middle = np.radians(span / 2 - (np.arange(lidar.columns) + 0.5) * (span / lidar.columns))
    azimuth = middle[:, None] + np.radians(lidar.azimuth_offsets_deg or np.zeros(lidar.beams))
    return azimuth, np.broadcast_to(np.radians(lidar.elevations_deg), azimuth.shape)


def _prisms(lidar: LidarModel) -> Angles:
    """A rosette of two prisms that turn against each other (Risley), for a row of pulses one above the other."""
    time = _time_s(lidar)
    angles = 2 * np.pi * np.multiply.outer(_PRISM_HZ, time)
    middle, half = _vertical_field(lidar)
    aside, up = np.cos(angles).mean(axis=0), np.sin(angles).mean(axis=0)
    azimuth = aside[:, None] * np.radians(lidar.azimuth_span_deg / 2) + np.zeros(lidar.beams)
    line = np.linspace(1.0, -1.0, lidar.beams) if lidar.beams > 1 else np.zeros(1)
    return azimuth, middle + half * ((1 - _LINE_SPREAD) * up[:, None] + _LINE_SPREAD * line)


def _nodding(lidar: LidarModel) -> Angles:
    """A mirror that turns about the vertical axis while it nods quickly; the pulses fired at once are out of phase."""
    around, up = 2 * np.pi * np.multiply.outer(_MIRROR_HZ, _time_s(lidar))
    middle, half = _vertical_field(lidar)
    phase = 2 * np.pi * np.arange(lidar.beams) / lidar.beams
    azimuth = np.pi - around[:, None] + np.zeros(lidar.beams)
    return azimuth, middle + half * np.sin(up[:, None] + phase)


def _raster(lidar: LidarModel) -> Angles:
    """A mirror that swings quickly to the sides while it sinks, for pulses that share the field of view in width."""
    sunk = np.arange(lidar.columns) / lidar.columns
    swing = sunk * len(lidar.elevations_deg) / 2 % 1.0
    aside = 2 * np.abs(2 * swing - 1) - 1
    middle, half = _vertical_field(lidar)
    field = np.radians(lidar.azimuth_span_deg) / lidar.beams
    azimuth = field * (aside[:, None] / 2 + (lidar.beams - 1) / 2 - np.arange(lidar.beams))
    return azimuth, np.repeat((middle + half * (1 - 2 * sunk))[:, None], lidar.beams, axis=1)


def _time_s(lidar: LidarModel) -> NDArray[np.float64]:
    """(C,) firing times since the LiDAR was switched on."""
    return (lidar.turn + np.arange(lidar.columns) / lidar.columns) * lidar.period_s


def _vertical_field(lidar: LidarModel) -> tuple[float, float]:
    """Middle and half of the vertical field of view, radians."""
    top, bottom = np.radians((lidar.elevations_deg[0], lidar.elevations_deg[-1]))
    return (top + bottom) / 2, (top - bottom) / 2


PATTERNS: dict[str, Callable[[LidarModel], Angles]] = {
    "spinning": _spinning,
    "prisms": _prisms,
    "nodding": _nodding,
    "raster": _raster,
}
"""Angles of a sweep's pulses, by the name of the scan pattern."""
