"""``xmodelkd fit-sensor``: estimates beam table, mounting, own returns and intensities of a LiDAR from sweeps."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.bags.recorded_drive import RecordedDrive
from xmodelkd_ros.console import print_notes
from xmodelkd_ros.core.beam_fit import MIN_RANGE_M, BeamFit, fit_sweeps, usable_points
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.ego_box import propose_ego_box
from xmodelkd_ros.core.errors import SensorError
from xmodelkd_ros.core.intensity_scale import MEASURED_INTENSITY, IntensityScale, recognise
from xmodelkd_ros.core.position_check import suspicious_positions, unusable_reason
from xmodelkd_ros.core.projection import NO_POINT, ProjectionSpec, RangeProjector
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.sensor_estimate import (
    Beams,
    Mounting,
    describe_mounting,
    find_mounting,
    sample_sweep,
    sensor_spec,
)
from xmodelkd_ros.core.usable_points import usable_mask
from xmodelkd_ros.resources import sensor_file
from xmodelkd_ros.segmentation.beam_fitting import known_beams

_T = TypeVar("_T", bound=np.generic)

_MAX_SPREAD = 0.15
"""Elevation spread of a beam, relative to the beam spacing, above which rows blur: 0.02 if sharp, 0.37 if uniform."""
_MOVED_M = 0.15
"""Range change that noise and other road users do not cause in a quarter of all pixels."""
_SAFE_SWEEPS = 10
"""Sweeps of a moving vehicle from which a box of its own returns is written into the file."""
_MIN_NAMED = 0.7
"""Share of beams in common from which a known product is named."""
_MIN_OWN_SHARE = 0.0005
"""Share of own returns below which a box is not worth proposing."""


def fit_sensor(
    bag: Path,
    out: Path | None = None,
    points_topic: str = "",
    beams: int | None = None,
    sweeps: int = 20,
    like: str = "",
) -> SensorSpec:
    """Estimate the parameters of a LiDAR, print them, and write its sensor file.

    Args:
        bag: bag of its sweeps.
        out: sensor file; ``<bag>.sensor.json`` in the current folder if None.
        points_topic: topic of the sweeps; may be empty if the bag has only one PointCloud2 topic.
        beams: number of beams, if known and the cloud has no ring field.
        sweeps: number of sweeps to read from the start.
        like: name of a shipped sensor file, if the product is known.

    Raises:
        XModelKDError: the bag cannot be read, its beams cannot be separated, or the file cannot be written.
    """
    out = out or Path(f"{bag.stem}.sensor.json")
    _check_out(out)
    like = sensor_file(like).stem if like else ""
    with BagReader(bag) as reader:
        recording = RecordedDrive(reader, points_topic, missing_intensity="fill")
        clouds = [sweep.cloud for sweep in islice(recording.sweeps(), sweeps)]
        print_notes([*reader.notes, *recording.notes])
    _check_positions(clouds, f"{recording.points_topic} of bag {bag}")
    usable = [_kept(cloud, mask) for cloud, mask in zip(clouds, usable_points(clouds), strict=True)]
    if not any(map(len, usable)):
        raise SensorError(f"{recording.points_topic} of bag {bag} has no point to fit: {len(clouds)} sweeps were read")
    found = _fit(clouds, beams, like)
    scale = _intensity_scale(usable)
    mounting = _mounting(clouds)
    sensor = _spec(found, scale, mounting, bag.stem)
    moved = moved_m(sensor, usable)
    _describe(sensor, found, usable)
    no_ground = mounting.notes[:1] if mounting.height_m is None else ()
    for warning in (*found.notes, *warnings(found, scale, moved), *no_ground):
        print(f"warning: {warning}", file=sys.stderr)
    sensor = _with_ego_box(sensor, clouds, moved > _MOVED_M)
    _write(sensor, out)
    return sensor


def _check_positions(clouds: Sequence[PointCloud], where: str) -> None:
    """Fail with the unit or axes that the positions suggest, instead of with beams that nobody finds in them."""
    if not any(map(len, clouds)):
        return
    xyz = np.concatenate([cloud.xyz for cloud in clouds])
    wrong = unusable_reason(xyz, usable_mask, MIN_RANGE_M) or "; ".join(suspicious_positions(xyz, usable_mask).values())
    if wrong:
        raise SensorError(f"{where}: {wrong}")


def write_known(like: str, out: Path | None = None) -> SensorSpec:
    """Write the sensor file of a known product, without a bag.

    Raises:
        SensorError: the name is unknown, or the file cannot be written.
    """
    source = sensor_file(like)
    sensor = SensorSpec.read(source)
    out = out or Path(f"{source.stem}.sensor.json")
    _check_out(out)
    print(f"{sensor.name}: {len(sensor.beam_elevations_deg)} beams. {sensor.comment}")
    _write(sensor, out)
    return sensor


def fit(clouds: Sequence[PointCloud], name: str, beams: int | None = None, like: str = "") -> SensorSpec:
    """Fit a sensor to sweeps; see :func:`~xmodelkd_ros.core.beam_fit.fit_sweeps`."""
    return _spec(_fit(clouds, beams, like), _intensity_scale(clouds), _mounting(clouds), name)


def _fit(clouds: Sequence[PointCloud], beams: int | None, like: str) -> BeamFit:
    return fit_sweeps(clouds, known_beams(), beams, like)


def _mounting(clouds: Sequence[PointCloud]) -> Mounting:
    """Height, attitude and ground intensity, as in :mod:`xmodelkd_ros.segmentation.auto_sensor`."""
    samples = [sample for sample in map(sample_sweep, clouds) if sample is not None]
    return find_mounting(samples) if samples else Mounting()


def _spec(found: BeamFit, scale: IntensityScale | None, mounting: Mounting, name: str) -> SensorSpec:
    beams = Beams(found.beams_deg, found.rings_deg, found.source)
    return sensor_spec(name, beams, replace(mounting, intensity_range=(0.0, 1.0) if scale is None else scale.limits))


def _check_out(out: Path) -> None:
    """Fail before the work if the file cannot be written."""
    if os.path.isdir(out):
        raise SensorError(f"--out {out} is a folder; give the name of a file, such as {out / 'my_lidar.json'}")
    if not os.path.isdir(out.parent):
        raise SensorError(f"--out {out}: there is no folder {out.parent}; create it first")


def _write(sensor: SensorSpec, out: Path) -> None:
    try:
        sensor.write(out)
    except (OSError, ValueError) as error:  # ValueError: not a valid file name
        reason = getattr(error, "strerror", None) or error
        raise SensorError(f"cannot write sensor file {out}: {reason}; give another --out") from error
    print(f"written to {out}; give it to the node as parameter 'sensor'")


def _with_ego_box(sensor: SensorSpec, clouds: Sequence[PointCloud], moved: bool) -> SensorSpec:
    """Propose the box of the vehicle's own returns; the sensor with it, where it is safe."""
    box = propose_ego_box([cloud.xyz for cloud in clouds], moved)
    own = np.mean([1 - usable_mask(c.xyz, 0, box)[usable_mask(c.xyz, 0.1)].mean() for c in clouds]) if box else 0.0
    if own < _MIN_OWN_SHARE:
        print("own returns none found that stay in place over the sweeps and lie above the ground")
        return sensor
    print(f"own returns {own:.1%} of the points lie in the box below; check it in RViz before use")
    print(f"            ego_box: [{', '.join(f'{v:.2f}' for v in box)}]")
    if moved and len(clouds) >= _SAFE_SWEEPS:
        print("            it is in the sensor file; the parameter takes precedence")
        return replace(sensor, ego_box=box)
    reason = (
        f"{len(clouds)} sweeps of a drive are too few to be sure of it; read {_SAFE_SWEEPS} or more"
        if moved
        else "a standing vehicle is right for the beams, but what stands around it looks like its own returns"
    )
    print(f"            not in the sensor file ({reason}): if it is right, set parameter ego_box to it")
    return sensor


def warnings(found: BeamFit, scale: IntensityScale | None, moved: float) -> list[str]:
    """Warnings about the fit: smeared beams, beams of a moving vehicle, or intensities without information.

    Motion harms only what blurred clouds or clusters of elevation tell of the beams, so that it is no warning
    for sharp rings, rows or scan lines.

    Args:
        found: the beams.
        scale: the intensities' scale, None without any.
        moved: upper quartile of the ranges' change, metres; see :func:`moved_m`.
    """
    messages = []
    if scale is not None and scale.kind == "constant":
        messages.append(f"{scale.seen}; {MEASURED_INTENSITY}")
    smeared = len(found.beams_deg) > 1 and found.spread > _MAX_SPREAD
    if smeared:
        messages.append(
            f"beams are smeared: half of them spread over {found.spread:.1%} or more of the beam spacing; "
            "the cloud may be motion-compensated or in another frame than the sensor's"
        )
    if moved > _MOVED_M and (smeared or found.clustered):
        messages.append(
            f"the vehicle seems to have moved: a quarter of the ranges changed by {moved:.2f} m or more; "
            "if its driver compensates motion, record the bag for the beams while it stands still"
        )
    return messages


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


def _kept(cloud: PointCloud, keep: NDArray[np.bool_]) -> PointCloud:
    intensity = None if cloud.intensity is None else cloud.intensity[keep]
    return PointCloud(cloud.xyz[keep], intensity, None if cloud.ring is None else cloud.ring[keep])


def _intensity_scale(clouds: Sequence[PointCloud]) -> IntensityScale | None:
    """Scale of the driver's intensities; None without intensities."""
    values = _joined([cloud.intensity for cloud in clouds])
    return None if values is None else recognise(values)


def _joined(parts: Sequence[NDArray[_T] | None]) -> NDArray[_T] | None:
    """Values of a field over all sweeps, or None if a sweep lacks it."""
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if len(present) == len(parts) else None


def _describe(sensor: SensorSpec, found: BeamFit, clouds: Sequence[PointCloud]) -> None:
    beams = sensor.beam_elevations_deg
    xyz = np.concatenate([cloud.xyz for cloud in clouds])
    columns = np.unique(np.floor(np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0]))) % 360)
    low, high = sensor.intensity_range
    values = _joined([cloud.intensity for cloud in clouds])
    print(f"sweeps      {len(clouds)}, {len(xyz):,} points")
    print(f"beams       {len(beams)}, from the {found.source}")
    if found.product is not None and min(found.product.matched, found.product.covered) >= _MIN_NAMED:
        fits = "fits" if found.product.fits else "nearest known, which does not fit:"
        names = " or ".join((found.product.name, *found.product.alike))
        print(f"product     {fits} {names}, median deviation {found.product.residual_deg:.3f} degrees")
    if len(beams) > 1:
        gaps = np.abs(np.diff(beams))
        print(f"spacing     {gaps.min():.3f} to {gaps.max():.3f} degrees, spread {found.spread:.1%} of it")
    print(f"vertical    {beams[0]:+.2f} to {beams[-1]:+.2f} degrees")
    print(f"horizontal  {len(columns)} of 360 degrees")
    print(f"range       up to {np.linalg.norm(xyz, axis=1).max():.0f} m")
    print(f"mounting    {describe_mounting(sensor) or 'unknown: no ground found'}")
    if values is not None:
        p1, p50, p99 = np.nanpercentile(values, (1, 50, 99))
        print(f"intensity   {low:g} to {high:g}; in these sweeps 1 %, 50 %, 99 % are {p1:.4g}, {p50:.4g}, {p99:.4g}")
