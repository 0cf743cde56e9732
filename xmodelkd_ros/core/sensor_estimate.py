"""What a few sweeps tell of a LiDAR: beams, height, attitude, and intensity of the ground."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.beam_fit import MIN_RANGE_M, BeamFit, Tables, fit_sweeps
from xmodelkd_ros.core.beam_groups import MAX_GROUPS
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.ground import Ground, common_ground, find_ground, is_upside_down, leveling_rotation
from xmodelkd_ros.core.intensity_scale import recognise
from xmodelkd_ros.core.known_beams import USUAL_COUNTS
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.usable_points import usable_mask

SENSOR_STAGE = "sensor"
"""Name of the stage in which the first sweeps of a stream are estimated from."""

_SAMPLE = 40_000
"""Points of a sweep that are kept: from 12,000 in each of three sweeps, KITTI's beams cannot be told apart."""
_INTENSITIES = 2000
"""Intensities of a sweep that are kept."""
_MIN_POINTS = 200
"""Usable points of a sweep below which it tells nothing."""
_ROWS, _RANGE = 64, (0.005, 0.995)
"""Number of the even steps that stand for beams that cannot be told apart, and quantiles of the elevation between which
they lie."""
_SHARP = 0.3
"""Distance of the quartiles of a ring's elevations, relative to that of the rings, up to which it holds one."""
_MIN_FIELD_DEG = 2.0
"""Smallest field of view of those steps: of points in a plane."""
_MIN_TILT_DEG, _SAME_TILT_DEG, _SAME_TILT = 2.0, 1.0, 0.3
"""Angle to the ground from which a sensor counts as tilted rather than the road, and by which sweeps may differ: an
angle, or a share of the tilt."""
TILT_SWEEPS, _TILT_SHARE = 3, 0.7
"""Sweeps that must show a tilt, and the share of them that must agree."""
NOT_YET = "not looked for yet"
"""Why the first sweeps of a node may have no beams."""


@dataclass(frozen=True, eq=False)
class SweepSample:
    """The part of a sweep that estimates need.

    Attributes:
        cloud: some of its points, still organised as it was.
        elevations_deg: elevations of the usable ones.
        intensities: intensities of some of these; None if it has none.
        ground: the ground that the whole sweep shows.
    """

    cloud: PointCloud
    elevations_deg: NDArray[np.float64]
    intensities: NDArray[np.float32] | None
    ground: Ground | None


@dataclass(frozen=True)
class Beams:
    """Beam table of a LiDAR; even steps over the field of view if its beams cannot be told apart.

    Attributes:
        elevations_deg: degrees, descending.
        rings_deg: elevation of each ring number; empty without a usable ring field.
        source: what the beams were found by; empty for even steps.
        problem: why they cannot be told apart; empty if they are.
    """

    elevations_deg: tuple[float, ...]
    rings_deg: tuple[float, ...] = ()
    source: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Mounting:
    """Height and attitude of a LiDAR, and intensity of the ground that it sees.

    Attributes:
        height_m, roll_deg, pitch_deg, ground_intensity, intensity_range: as in :class:`SensorSpec`.
        notes: what is not known, and what is done instead.
    """

    height_m: float | None = None
    roll_deg: float = 0.0
    pitch_deg: float = 0.0
    ground_intensity: float = 0.0
    intensity_range: tuple[float, float] = (0.0, 255.0)
    notes: tuple[str, ...] = ()

    @property
    def upside_down(self) -> bool:
        """Whether the sensor's z axis points to the ground."""
        return is_upside_down(self.roll_deg, self.pitch_deg)


def sample_sweep(cloud: PointCloud) -> SweepSample | None:
    """Take what is needed from a sweep (about 6 ms); None if it has hardly any usable point."""
    sample = sample_of(_thinned(cloud))
    if len(sample.elevations_deg) < _MIN_POINTS:
        return None
    return replace(sample, ground=find_ground(cloud.xyz, cloud.intensity))


def sample_of(cloud: PointCloud) -> SweepSample:
    """All points of a sweep as a sample, without the ground."""
    usable = np.flatnonzero(usable_mask(cloud.xyz, MIN_RANGE_M))
    intensities = None
    if cloud.intensity is not None and len(usable):
        intensities = cloud.intensity[np.random.default_rng(0).choice(usable, min(len(usable), _INTENSITIES))]
    return SweepSample(cloud, elevations_deg(cloud.xyz[usable]), intensities, None)


def find_beams(samples: Sequence[SweepSample], tables: Tables, mounting: Mounting | None = None) -> Beams:
    """Beams of the LiDAR that recorded some sweeps: 20 to 300 ms, and up to 2 s if they cannot be told apart.

    Args:
        samples: sweeps of one LiDAR, at least one.
        tables: beams of known products, degrees, by name.
        mounting: its attitude. An upside-down sensor is turned over for the fit, which takes the ground to be below; if
            tilted, beams are also looked for in the level frame, in case that the frame of the clouds is tilted
            against the LiDAR.
    """
    mounting = mounting or Mounting()
    try:
        if not mounting.upside_down:
            found = _fitted(samples, tables)
            return Beams(found.beams_deg, found.rings_deg, found.source)
        found = _fitted(samples, tables, 180.0)
        beams, rings = (tuple(-v + 0.0 for v in values) for values in (found.beams_deg[::-1], found.rings_deg))
        return Beams(beams, rings, found.source)
    except SensorError as error:
        reason = str(error).split(";")[0].split(":")[0]
    if mounting.pitch_deg or mounting.roll_deg:
        with suppress(SensorError):
            found = _fitted(samples, tables, mounting.roll_deg, mounting.pitch_deg)
            if not (found.clustered and _numbered_otherwise(samples, len(found.beams_deg))):
                return Beams(found.beams_deg, found.rings_deg, f"{found.source} once levelled")
    return even_steps(samples, reason)


def _numbered_otherwise(samples: Sequence[SweepSample], beams: int) -> bool:
    """Whether the clouds number a usual count of beams, but another one."""
    rings = [sample.cloud.ring for sample in samples if sample.cloud.ring is not None]
    count = len(np.unique(np.concatenate(rings))) if rings else 0
    return count > 1 and count in USUAL_COUNTS and count != beams


def _fitted(samples: Sequence[SweepSample], tables: Tables, roll_deg: float = 0.0, pitch_deg: float = 0.0) -> BeamFit:
    """The beams of sweeps that are levelled by an attitude; errors as in :func:`fit_sweeps`."""
    clouds = [sample.cloud for sample in samples]
    if roll_deg or pitch_deg:
        rotation = leveling_rotation(roll_deg, pitch_deg).astype(np.float32)
        clouds = [replace(cloud, xyz=cloud.xyz @ rotation.T) for cloud in clouds]
    return fit_sweeps(clouds, tables, name_product=False)


def first_beams(sample: SweepSample) -> Beams:
    """Beams by ring number where these hold one elevation each, else even steps: until better ones are found (1 ms)."""
    cloud = sample.cloud
    usable = usable_mask(cloud.xyz, MIN_RANGE_M)
    if cloud.ring is not None:
        ring = cloud.ring[usable].astype(np.int64)
        order = np.lexsort((sample.elevations_deg, ring))
        numbers, starts = np.unique(ring[order], return_index=True)
        parts = np.split(sample.elevations_deg[order], starts[1:])
        if 1 < len(numbers) <= MAX_GROUPS and numbers[0] >= 0 and numbers[-1] < MAX_GROUPS:
            table = np.full(int(numbers[-1]) + 1, np.nan)
            table[numbers] = [part[len(part) // 2] for part in parts]
            spread = np.median([part[len(part) * 3 // 4] - part[len(part) // 4] for part in parts])
            beams = np.unique(table[numbers])[::-1]
            if spread <= _SHARP * np.median(-np.diff(beams)):
                rings = tuple(float(v) for v in np.round(table, 3))
                return Beams(tuple(float(v) for v in np.round(beams, 3)), rings, "ring field")
    return even_steps([sample], NOT_YET)


def even_steps(samples: Sequence[SweepSample], problem: str) -> Beams:
    """A table of even steps over the field of view, for LiDARs without beams and for clouds of several LiDARs."""
    elevations = np.concatenate([sample.elevations_deg for sample in samples])
    low, high = (float(v) for v in np.quantile(elevations, _RANGE))
    middle, half = (low + high) / 2, max(high - low, _MIN_FIELD_DEG) / 2
    steps = np.clip(np.linspace(middle + half, middle - half, _ROWS), -90, 90)
    return Beams(tuple(float(v) for v in np.round(steps, 3)), problem=problem)


def find_mounting(samples: Sequence[SweepSample], lowest_intensity: float | None = None) -> Mounting:
    """Height, attitude and ground intensity that some sweeps agree on.

    The attitude of a sensor that is tilted by less than 2 degrees is left at zero: roads and loaded vehicles are, too.

    Args:
        samples: sweeps of one LiDAR, at least one.
        lowest_intensity: lower end of the sensor's intensity scale, relative to which the ground's counts; None: 0, or
            what is seen if that is negative.
    """
    scale = recognise(_intensities(samples))
    low = min(scale.limits[0], 0.0) if lowest_intensity is None else lowest_intensity
    result = Mounting(intensity_range=scale.limits)
    notes: list[str] = []
    grounds = [sample.ground for sample in samples]
    ground = common_ground(grounds)
    if scale.kind in ("none", "constant"):
        notes.append("no intensity" if scale.kind == "none" else f"{scale.seen} and is not used")
    elif ground is not None and ground.intensity is not None:
        level = max(ground.intensity - low, _least(samples, low))
        result = replace(result, ground_intensity=_rounded(level))
        if scale.kind == "negative":
            notes.append(f"negative intensities: counted from {low:.4g}")
    if ground is None:
        ignored = "" if notes else ", intensity is not used"
        return replace(result, notes=(f"no ground found: a usual height is assumed{ignored}", *notes))
    roll, pitch = _attitude(ground, [other for other in grounds if other is not None])
    return replace(result, height_m=round(ground.height_m, 3), roll_deg=roll, pitch_deg=pitch, notes=tuple(notes))


def sensor_spec(name: str, beams: Beams, mounting: Mounting) -> SensorSpec:
    """Sensor with these beams, mounted so."""
    return mounted(SensorSpec(name, beams.elevations_deg, beams.rings_deg, mounting.intensity_range), mounting)


def mounted(sensor: SensorSpec, mounting: Mounting) -> SensorSpec:
    """The sensor with the height, the attitude and the ground intensity of a mounting."""
    return replace(
        sensor,
        ground_intensity=mounting.ground_intensity,
        height_m=mounting.height_m,
        roll_deg=mounting.roll_deg,
        pitch_deg=mounting.pitch_deg,
    )


def completed(given: SensorSpec, mounting: Mounting) -> SensorSpec:
    """A sensor file with what it does not say: height and attitude (together), and ground intensity."""
    if given.height_m is None:
        tilted = bool(given.roll_deg or given.pitch_deg)
        given = replace(
            given,
            height_m=mounting.height_m,
            roll_deg=given.roll_deg if tilted else mounting.roll_deg,
            pitch_deg=given.pitch_deg if tilted else mounting.pitch_deg,
        )
    return given if given.ground_intensity else replace(given, ground_intensity=mounting.ground_intensity)


def is_complete(sensor: SensorSpec) -> bool:
    """Whether a sensor file leaves nothing to be estimated."""
    return sensor.height_m is not None and bool(sensor.ground_intensity)


def describe_mounting(sensor: SensorSpec) -> str:
    """Height, attitude and ground intensity in a few words; what is unknown is left out."""
    tilt = [f"{name} {angle:.1f}" for name, angle in (("roll", sensor.roll_deg), ("pitch", sensor.pitch_deg)) if angle]
    parts = [
        f"{sensor.height_m:.2f} m above the ground" if sensor.height_m is not None else "",
        f"{'upside down, ' if sensor.upside_down else ''}{', '.join(tilt)} degrees" if tilt else "",
        f"ground intensity {sensor.ground_intensity:.3g}" if sensor.ground_intensity else "",
    ]
    return ", ".join(part for part in parts if part)


def _thinned(cloud: PointCloud) -> PointCloud:
    """Random points in the order of the cloud; of an organised one whole columns, or rows if it has more of them."""
    rng, count = np.random.default_rng(0), len(cloud)
    height, width = cloud.height, cloud.width
    if count <= _SAMPLE:
        index = np.arange(count)
    elif cloud.height == 1 or cloud.width == 1:
        index = np.sort(rng.integers(0, count, _SAMPLE))
        height, width = (1, len(index)) if cloud.height == 1 else (len(index), 1)
    else:
        grid = np.arange(count).reshape(cloud.height, cloud.width)
        axis = int(cloud.width >= cloud.height)
        kept = np.sort(rng.choice(grid.shape[axis], max(1, _SAMPLE // grid.shape[1 - axis]), replace=False))
        grid = np.take(grid, kept, axis=axis)
        index, (height, width) = grid.ravel(), grid.shape
    ring, intensity = (None if v is None else np.array(v[index]) for v in (cloud.ring, cloud.intensity))
    return PointCloud(np.array(cloud.xyz[index]), intensity, ring, height, width)


def _intensities(samples: Sequence[SweepSample]) -> NDArray[np.float32]:
    """Intensities of some points; empty if a sweep has none."""
    parts = [sample.intensities for sample in samples if sample.intensities is not None]
    return np.concatenate(parts) if len(parts) == len(samples) else np.zeros(0, np.float32)


def _least(samples: Sequence[SweepSample], low: float) -> float:
    """Half of the smallest intensity above the lowest: that of a ground which integers show as 0."""
    values = _intensities(samples) - low
    positive = values[values > 0]
    return float(positive.min()) / 2 if positive.size else 0.0


def _attitude(common: Ground, grounds: Sequence[Ground]) -> tuple[float, float]:
    """Roll and pitch that the sweeps agree on; (0, 0), or (180, 0) if upside down, unless they are clearly tilted."""
    level = (180.0, 0.0) if common.upside_down else (0.0, 0.0)
    if abs(common.up[2]) > np.cos(np.radians(_MIN_TILT_DEG)) or len(grounds) < TILT_SWEEPS:
        return level
    tilt_deg = float(np.degrees(np.arccos(np.clip(abs(common.up[2]), -1, 1))))
    same = np.cos(np.radians(max(_SAME_TILT_DEG, _SAME_TILT * tilt_deg)))
    alike = [np.dot(common.up, ground.up) > same for ground in grounds]
    if np.mean(alike) < _TILT_SHARE:
        return level
    return round(common.roll_deg, 1), round(common.pitch_deg, 1)


def _rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
