"""Monitor of the sweeps that a model gets: warnings if they are not what it expects.

The node and the offline tools use it alike. It takes a sample of each sweep and keeps the last ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.beam_check import other_lidar
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.findings import Finding, FindingLog
from xmodelkd_ros.core.ground import find_ground, ground_intensity, leveling_rotation
from xmodelkd_ros.core.intensity_scale import MEASURED_INTENSITY, MIN_VALUES, IntensityScale, recognise
from xmodelkd_ros.core.position_check import suspicious_positions, unusable_reason
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.training_statistics import Excess, sample_index
from xmodelkd_ros.segmentation.auto_sensor import AutoSensor
from xmodelkd_ros.segmentation.beam_fitting import known_beams
from xmodelkd_ros.segmentation.pipeline import Result, SegmentationPipeline

_SWEEPS, _POINT_SWEEPS = 20, 8
"""Sweeps in the means of statistics, and in the pool of points."""
_EVERY = 2
"""Every second point of a sweep's sample enters the pool."""
_JUDGE_EVERY = 4
"""Sweeps between two judgements of the window, once it is full."""
_OTHER_SCALE = 5.0
"""Factor between two intensities of the ground above which they are not of one scale."""
_WITHOUT_INTENSITY = f"the model labels without it; for better labels, {MEASURED_INTENSITY}"
_MIN_SWEEPS = 3
"""Fewer sweeps are not compared with the training data."""
_NAMED = 3
"""Statistics that a warning names."""

_FIT_SENSOR = (
    "fit a sensor file with 'xmodelkd fit-sensor BAG' and give it (node: parameter 'sensor'; tools: --sensor FILE)"
)
_ESTIMATE = "let it be estimated (node: parameter 'sensor' auto; tools: --sensor auto), or give its sensor file"
_RESTART = "start the node again if the LiDAR is another one, or give its sensor file as 'sensor'"
_LINEAR = "publish intensities on a linear scale from 0"
_OWN_FRAME = "set projection_frame to the LiDAR's own frame, or let the driver publish raw clouds in it"
_ON_GROUND_M = 0.25
"""Height of the origin below which no LiDAR is mounted."""
_HIGHEST_M = 4.5
"""Height of the origin above which hardly any is."""
_HEIGHT_ERROR_M, _TILT_ERROR_DEG = 0.5, 5.0
"""Differences between the ground that is seen and a sensor file from which the file is wrong."""
_HALF_TURN_SECTORS, _ALL_AROUND_SECTORS, _ROTATING_POINTS = 18, 30, 24_000
"""Sectors of 10 degrees in half a turn, how many of all are seen all around, and points of a sweep: a Livox Mid-360 has
20,000 and no beams."""
_CHECK_FRAME = "check the LiDAR's height and frame (node: parameter 'projection_frame')"
_OF_MOUNTING = ("input.z", "input.height")
_ADAPT = "adapt the model with 'python -m training.adapt'"


class InputMonitor:
    """Compares sweeps with what their model expects.

    Args:
        pipeline: the model, with the sensor in use.

    Attributes:
        pipeline: the same.
        findings: the current warnings.
        log: the warnings of all sweeps.
    """

    def __init__(self, pipeline: SegmentationPipeline) -> None:
        self.findings: tuple[Finding, ...] = ()
        self.pipeline = pipeline
        self._points: deque[NDArray[np.float32]] = deque(maxlen=_POINT_SWEEPS)
        self._measured: deque[tuple[NDArray[np.float32], NDArray[np.float32]]] = deque(maxlen=_POINT_SWEEPS)
        self._counts: deque[int] = deque(maxlen=_POINT_SWEEPS)
        self._statistics: deque[Mapping[str, float]] = deque(maxlen=_SWEEPS)
        self.log = FindingLog()
        self._of_window: dict[str, str] = {}
        self._sweeps = 0

    @property
    def _auto(self) -> AutoSensor | None:
        return self.pipeline.auto_sensor

    def add(self, cloud: PointCloud, result: Result) -> tuple[Finding, ...]:
        """Add a segmented sweep; returns the current warnings."""
        sample = sample_index(len(cloud))
        self._add_points(cloud, sample[::_EVERY])
        self._counts.append(len(cloud))
        if result.statistics:
            self._statistics.append(result.statistics)
        if self._sweeps < _POINT_SWEEPS or self._sweeps % _JUDGE_EVERY == 0:
            self._of_window = self._window_findings()
        found = {**self._of_window, **self._sweep_finding(cloud.xyz[sample], result)}
        if "no_usable_points" in found:
            found.pop("unit", None)  # the same fault, seen in earlier sweeps too
        self.findings = tuple(Finding(kind, text) for kind, text in found.items())
        self._sweeps += 1
        self.log.add(self.findings)
        return self.findings

    def _add_points(self, cloud: PointCloud, index: NDArray[np.intp]) -> None:
        xyz = cloud.xyz[index]
        self._points.append(xyz)
        if cloud.intensity is not None:
            usable = self.pipeline.usable(xyz)
            self._measured.append((xyz[usable], cloud.intensity[index][usable]))

    def _sweep_finding(self, sample: NDArray[np.float32], result: Result) -> dict[str, str]:
        """Why the sweep got hardly any label."""
        reason = unusable_reason(sample, self.pipeline.usable, self.pipeline.min_range_m)
        if reason:
            return {"no_usable_points": reason}
        has_points, by_model = result.invalid < len(result.segmentation), result.mode == self.pipeline.spec.role
        if has_points and by_model and "entropy" not in result.statistics:
            return {"outputs": "the network's outputs are not finite; set precision to fp32, or export the model again"}
        if self.pipeline.ring_problem:
            return {"rings": f"{self.pipeline.ring_problem}: elevations tell the beams; {_RESTART}"}
        return {}

    def _window_findings(self) -> dict[str, str]:
        """What the last sweeps suggest; without the comparison of drives if positions or beams are wrong anyway."""
        positions = self._position_finding() or self._beam_finding() or self._frame_finding()
        intensity = self._intensity_finding()
        if positions:
            return {**positions, **intensity}
        return {**intensity, **self._drive_finding("intensity" if intensity else "")}

    def _position_finding(self) -> dict[str, str]:
        if len(self._counts) >= _MIN_SWEEPS and not any(self._counts):
            return {"no_points": "the clouds have no points; check the driver"}
        return suspicious_positions(np.concatenate(self._points), self.pipeline.usable)

    def _beam_finding(self) -> dict[str, str]:
        sensor, points = self.pipeline.sensor, np.concatenate(self._points)
        estimate = self._auto if self._auto is not None and self._auto.given is None else None
        if sensor is None or (estimate is not None and not estimate.is_final):
            return {}
        reason = other_lidar(sensor, points[self.pipeline.usable(points)], known_beams)
        if reason and estimate is not None:
            return {"sensor_beams": f"{reason.partition(': the sensor file')[0]}; {_RESTART}"}
        return {"sensor_beams": f"{reason}; {_FIT_SENSOR}"} if reason else {}

    def _frame_finding(self) -> dict[str, str]:
        """Why the clouds seem to be in another frame than the LiDAR's own, or not in metres."""
        auto = self._auto
        if auto is None or auto.sensor is None:
            return {}
        if auto.given is not None:
            return self._mounting_finding(auto.given)
        height_m = auto.sensor.height_m
        if height_m is not None and abs(height_m) < _ON_GROUND_M:
            reason = f"the origin of the clouds is {height_m:.2f} m above the ground, as in the vehicle's frame"
        elif height_m is not None and height_m > _HIGHEST_M:
            reason = f"the origin of the clouds is {height_m:.1f} m above the ground: feet, or another frame"
        elif auto.ignores_rings:
            reason = "ring numbers and elevations do not belong together, as in compensated clouds or another frame"
        elif auto.finds_no_beams and self._looks_all_around():
            reason = "no beams are found, as in tilted or compensated clouds, or in another frame"
        else:
            return {}
        return {"frame": f"{reason}; {_OWN_FRAME}"}

    def _mounting_finding(self, given: SensorSpec) -> dict[str, str]:
        """That the ground is not where a sensor file says."""
        ground = None if given.height_m is None else find_ground(np.concatenate(self._points))
        if ground is None or given.height_m is None:
            return {}
        up = leveling_rotation(given.roll_deg, given.pitch_deg)[2]
        tilt_deg = float(np.degrees(np.arccos(np.clip(up @ np.asarray(ground.up), -1, 1))))
        if abs(ground.height_m - given.height_m) <= _HEIGHT_ERROR_M and tilt_deg <= _TILT_ERROR_DEG:
            return {}
        seen, said = (
            f"{height_m:.1f} m above the ground, roll {roll:.0f}, pitch {pitch:.0f} deg"
            for height_m, roll, pitch in (
                (ground.height_m, ground.roll_deg, ground.pitch_deg),
                (given.height_m, given.roll_deg, given.pitch_deg),
            )
        )
        return {"frame": f"the LiDAR seems to be {seen}, but the sensor file says {said}; {_FIT_SENSOR}"}

    def _looks_all_around(self) -> bool:
        """Whether the sweeps are those of a rotating LiDAR; those that scan other patterns have fewer points."""
        points = np.concatenate(self._points)
        points = points[self.pipeline.usable(points)]
        sectors = np.floor((np.arctan2(points[:, 1], points[:, 0]) / np.pi + 1) * _HALF_TURN_SECTORS)
        return len(np.unique(sectors)) >= _ALL_AROUND_SECTORS and float(np.median(self._counts)) > _ROTATING_POINTS

    def _intensity_finding(self) -> dict[str, str]:
        pipeline = self.pipeline
        if pipeline.spec.is_relative and not self._measured and any(self._counts):
            return {"intensity": f"the clouds have no intensity: {_WITHOUT_INTENSITY}"}
        values = np.concatenate([np.empty(0, np.float32), *(intensity for _, intensity in self._measured)])
        if not pipeline.spec.uses_intensity or len(values) < MIN_VALUES:
            return {}
        scale, (low, high) = recognise(values), pipeline.intensity_range
        if pipeline.spec.is_relative and pipeline.sensor is None:
            return {"intensity": f"sensor is none, so the model labels without intensity; {_ESTIMATE}"}
        if pipeline.spec.is_relative and (not self._ground_is_given or scale.kind in ("constant", "negative")):
            return self._relative_finding(scale)
        mismatch = scale.mismatch((low, high))
        if not mismatch:
            return {}
        if scale.kind == "constant":
            return {"intensity": f"{mismatch}; {MEASURED_INTENSITY}"}
        whose = (
            f"the sensor file says {low:g} to {high:g}"
            if pipeline.sensor is not None
            else (f"model {pipeline.spec.name} expects {low:g} to {high:g}")
        )
        linear = f"{_LINEAR}, or " if scale.kind == "negative" else ""
        return {"intensity": f"{mismatch}, but {whose}; {linear}{_FIT_SENSOR}"}

    @property
    def _ground_is_given(self) -> bool:
        """Whether a sensor file says the intensity of the ground, which is right in one scale only."""
        sensor = self._auto.given if self._auto is not None else self.pipeline.sensor
        return sensor is not None and bool(sensor.ground_intensity)

    def _relative_finding(self, scale: IntensityScale) -> dict[str, str]:
        """What is wrong with intensities that count relative to the ground's, in any scale."""
        if scale.kind == "constant":
            return {"intensity": f"{scale.seen}: {_WITHOUT_INTENSITY}"}
        if scale.kind == "negative":
            low = self.pipeline.intensity_range[0]
            return {"intensity": f"{scale.seen}, counted from {low:.4g}; {_LINEAR}"}
        return self._ground_finding()

    def _ground_finding(self) -> dict[str, str]:
        """That the ground's intensity is no longer what it was when it was estimated."""
        sensor, auto = self.pipeline.sensor, self._auto
        if (
            auto is None
            or not auto.is_final
            or sensor is None
            or not sensor.ground_intensity
            or sensor.height_m is None
        ):
            return {}
        xyz, intensity = (np.concatenate(column) for column in zip(*self._measured, strict=True))
        up = leveling_rotation(sensor.roll_deg, sensor.pitch_deg)[2]
        now = ground_intensity(xyz, intensity - self.pipeline.intensity_range[0], up, sensor.height_m)
        before = sensor.ground_intensity
        if now is None or before / _OTHER_SCALE <= now <= before * _OTHER_SCALE:
            return {}
        return {
            "intensity": f"the ground's intensity is {now:.3g}, but was {before:.3g} in the first sweeps: a wet road, "
            f"or another scale; {_RESTART}"
        }

    def _drive_finding(self, skipped: str = "") -> dict[str, str]:
        """How the last sweeps differ from the training data, without statistics whose name contains ``skipped``."""
        learnt = self.pipeline.spec.statistics if len(self._statistics) >= _MIN_SWEEPS else None
        excesses = learnt.excesses(self._statistics) if learnt is not None else []
        excesses = [excess for excess in excesses if not skipped or skipped not in excess.name]
        if not excesses:
            return {}
        named = excesses[:_NAMED]
        seen = "; ".join(_describe(excess) for excess in named)
        more = f"; and {len(excesses) - _NAMED} more" if len(excesses) > _NAMED else ""
        return {"unlike_training": f"this drive is unlike the training data: {seen}{more}; {self._remedy(named)}"}

    def _remedy(self, excesses: Sequence[Excess]) -> str:
        """What mends the named statistics; the adaptation of the model always can."""
        remedies = [_CHECK_FRAME] if any(excess.name in _OF_MOUNTING for excess in excesses) else []
        of_sensor = [excess for excess in excesses if excess.name == "fill" or "intensity" in excess.name]
        explained = ""
        if of_sensor and self.pipeline.sensor is not None:
            reasons = dict.fromkeys(_difference_of_sensor(excess) for excess in of_sensor)
            explained = f"the LiDAR {' and '.join(reasons)} than those the model learnt: expect lower accuracy; "
        elif of_sensor:
            remedies.insert(0, _ESTIMATE if self.pipeline.spec.is_relative else _FIT_SENSOR)
        return explained + ", or ".join([*remedies, _ADAPT])


def _difference_of_sensor(excess: Excess) -> str:
    """What no sensor file mends."""
    if excess.name != "fill":
        return "measures other intensities"
    if excess.value < excess.low:
        return "fills less of the range image (fewer beams, or a narrower view)"
    return "fills more of the range image"


def _describe(excess: Excess) -> str:
    what, _, name = excess.name.partition(".")
    text = {
        "entropy": "mean entropy",
        "fill": "fill of the range image",
        "share": f"share of {name}",
        "input": f"median {name}",
    }[what]
    return f"{text} {round(excess.value, 2) + 0.0:.2f}, learnt {excess.low:.2f} to {excess.high:.2f}"
