"""``xmodelkd fit-sensor``: estimates beam table and intensity range of a LiDAR from sweeps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.console import print_notes
from xmodelkd_ros.core.beam_table import elevations_deg, fit_beams, fit_rings
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.projection import NO_POINT, ProjectionSpec, RangeProjector
from xmodelkd_ros.core.sensor import SensorSpec, nearest

_T = TypeVar("_T", bound=np.generic)

_MIN_RANGE_M = 1.0
"""Closer points are returns from the vehicle, and their elevations are imprecise."""
_MAX_SPREAD = 0.15
"""Elevation spread of a beam, relative to the beam spacing, above which rows blur: 0.02 if sharp, 0.37 if uniform."""
_MOVED_M = 0.15
"""Range change that noise and other road users do not cause in a quarter of all pixels."""
_FULL_SCALES = (1.0, 255.0)
"""Intensity scales of drivers that publish fractions, or 8 bits."""


def fit_sensor(
    bag: Path, out: Path | None = None, points_topic: str = "", beams: int | None = None, sweeps: int = 20
) -> SensorSpec:
    """Estimate the parameters of a LiDAR, print them, and write its sensor file.

    Args:
        bag: bag recorded while the vehicle stood still.
        out: sensor file; ``<bag>.sensor.json`` in the current folder if None.
        points_topic: topic of the sweeps; may be empty if the bag has only one PointCloud2 topic.
        beams: number of beams, if known and the cloud has no ring field.
        sweeps: number of sweeps to read from the start.

    Raises:
        XModelKDError: the bag cannot be read, or its beams cannot be separated.
    """
    with BagReader(bag) as reader:
        recording = RecordedDrive(reader, points_topic, missing_intensity="fill")
        clouds = [_usable(sweep.cloud) for sweep in islice(recording.sweeps(), sweeps)]
        print_notes([*reader.notes, *recording.notes])
    if not any(map(len, clouds)):
        raise SensorError(f"{recording.points_topic} of bag {bag} has no point to fit: {len(clouds)} sweeps were read")
    sensor = fit(clouds, bag.stem, beams)
    out = out or Path(f"{bag.stem}.sensor.json")
    _describe(sensor, clouds)
    for warning in warnings(sensor, clouds):
        print(f"warning: {warning}", file=sys.stderr)
    try:
        sensor.write(out)
    except OSError as error:
        raise SensorError(f"cannot write sensor file {out}: {error.strerror}") from error
    print(f"written to {out}; give it to the node as parameter 'sensor'")
    return sensor


def fit(clouds: Sequence[PointCloud], name: str, beams: int | None = None) -> SensorSpec:
    """Fit a sensor to sweeps, by the ring field if there is one, else by clustering elevations."""
    elevations = np.concatenate([elevations_deg(cloud.xyz) for cloud in clouds])
    ring = _joined([cloud.ring for cloud in clouds])
    if ring is None:
        return SensorSpec(name, fit_beams(elevations, beams), (), _intensity_range(clouds))
    rings = fit_rings(elevations, ring)
    if beams is not None and beams != len(rings):
        raise SensorError(f"the sweeps' ring field counts {len(rings)} beams, not {beams}; leave --beams out")
    return SensorSpec(name, tuple(sorted(set(rings), reverse=True)), rings, _intensity_range(clouds))


def warnings(sensor: SensorSpec, clouds: Sequence[PointCloud]) -> list[str]:
    """Warnings about the fit: smeared beams, or a moving vehicle."""
    messages = []
    spread = beam_spread(sensor, clouds)
    if spread > _MAX_SPREAD:
        messages.append(
            f"beams are smeared: half of them spread over {spread:.0%} or more of the beam spacing; "
            "the cloud may be motion-compensated or in another frame than the sensor's"
        )
    moved = moved_m(sensor, clouds)
    if moved > _MOVED_M:
        messages.append(
            f"the vehicle seems to have moved: a quarter of the ranges changed by {moved:.2f} m or more; "
            "record the bag while it stands still"
        )
    return messages


def beam_spread(sensor: SensorSpec, clouds: Sequence[PointCloud]) -> float:
    """Median over the beams of their elevation spread, relative to the distance to the next beam.

    The spread is the robust standard deviation, 1.48 times the median absolute deviation.
    """
    beams = np.asarray(sensor.beam_elevations_deg)
    if len(beams) < 2:
        return 0.0
    elevations = np.concatenate([elevations_deg(cloud.xyz) for cloud in clouds])
    index = nearest(beams, elevations)
    deviation = np.abs(elevations - beams[index])
    gaps = np.abs(np.diff(beams))
    spacing = np.minimum(np.r_[gaps, np.inf], np.r_[np.inf, gaps])
    spreads = [1.4826 * np.median(deviation[index == i]) / spacing[i] for i in np.unique(index)]
    return float(np.median(spreads))


def moved_m(sensor: SensorSpec, clouds: Sequence[PointCloud]) -> float:
    """Upper quartile of the change of range per pixel between the first and the last sweep, in metres."""
    projector = RangeProjector(ProjectionSpec(sensor.beam_elevations_deg, 1024), sensor)
    images = []
    for cloud in (clouds[0], clouds[-1]):
        projection = projector.project(cloud)
        images.append(np.where(projection.point == NO_POINT, np.nan, np.r_[projection.range, np.nan][projection.point]))
    change = np.abs(images[1] - images[0])
    change = change[np.isfinite(change)]
    return float(np.percentile(change, 75)) if change.size else 0.0


def _usable(cloud: PointCloud) -> PointCloud:
    """Points with a finite position outside of the vehicle."""
    with np.errstate(over="ignore"):
        distance = np.linalg.norm(cloud.xyz, axis=1)
    keep = np.isfinite(distance) & (distance >= _MIN_RANGE_M)
    if cloud.ring is not None:
        keep &= cloud.ring >= 0
    intensity = None if cloud.intensity is None else cloud.intensity[keep]
    return PointCloud(cloud.xyz[keep], intensity, None if cloud.ring is None else cloud.ring[keep])


def _intensity_range(clouds: Sequence[PointCloud]) -> tuple[float, float]:
    """Limits of the intensity scale of the sensor's driver.

    The limits of the scale rather than percentiles of these sweeps, which depend on the scene: models are trained with
    the limits too. Scales of more than 8 bits are rarely exhausted, so their upper limit is the 99th percentile.
    """
    values = _joined([cloud.intensity for cloud in clouds])
    if values is None or not values.size or not np.nanmax(values) > 0:
        return (0.0, 1.0)
    brightest = float(np.nanpercentile(values, 99.99))
    scales = [scale for scale in _FULL_SCALES if brightest <= scale]
    return (0.0, scales[0] if scales else float(np.nanpercentile(values, 99)))


def _joined(parts: Sequence[NDArray[_T] | None]) -> NDArray[_T] | None:
    """Values of a field over all sweeps, or None if a sweep lacks it."""
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if len(present) == len(parts) else None


def _describe(sensor: SensorSpec, clouds: Sequence[PointCloud]) -> None:
    beams = sensor.beam_elevations_deg
    xyz = np.concatenate([cloud.xyz for cloud in clouds])
    columns = np.unique(np.floor(np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0]))) % 360)
    source = "ring field" if sensor.ring_elevations_deg else "clusters of elevations"
    low, high = sensor.intensity_range
    values = _joined([cloud.intensity for cloud in clouds])
    print(f"sweeps      {len(clouds)}, {len(xyz):,} points")
    print(f"beams       {len(beams)}, from the {source}")
    if len(beams) > 1:
        gaps = np.abs(np.diff(beams))
        print(
            f"spacing     {gaps.min():.3f} to {gaps.max():.3f} degrees, spread {beam_spread(sensor, clouds):.1%} of it"
        )
    print(f"vertical    {beams[0]:+.2f} to {beams[-1]:+.2f} degrees")
    print(f"horizontal  {len(columns)} of 360 degrees")
    print(f"range       up to {np.linalg.norm(xyz, axis=1).max():.0f} m")
    if values is not None:
        p1, p50, p99 = np.nanpercentile(values, (1, 50, 99))
        print(f"intensity   {low:g} to {high:g}; in these sweeps 1 %, 50 %, 99 % are {p1:.4g}, {p50:.4g}, {p99:.4g}")
