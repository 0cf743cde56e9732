"""The LiDAR of a stream of sweeps, estimated from the first ones.

The node and the offline tools use it alike. What is known is used from the first sweep on; after ten it is final.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xmodelkd_ros.core.beam_check import OFF_BEAMS, ON_BEAMS, share_between
from xmodelkd_ros.core.beam_table import elevations_deg
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.ground import find_ground
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.sensor_estimate import (
    NOT_YET,
    TILT_SWEEPS,
    Beams,
    Mounting,
    SweepSample,
    completed,
    describe_mounting,
    find_beams,
    find_mounting,
    first_beams,
    is_complete,
    sample_sweep,
    sensor_spec,
)
from xmodelkd_ros.core.training_statistics import sample_index
from xmodelkd_ros.core.usable_points import usable_mask
from xmodelkd_ros.resources import AUTO_SENSOR, NO_SENSOR, given_sensor
from xmodelkd_ros.segmentation.beam_fitting import BeamFitting, known_beams
from xmodelkd_ros.segmentation.image_matching import JUMP_NS

SWEEPS = 10
"""Sweeps that the estimate is made from."""
_FITS_AT = (1, 3, SWEEPS)
"""Numbers of sweeps after which beams are fitted."""
_LOOK_EVERY = 5
"""Every which sweep is looked at for the ground where the first ones did not show it."""
_PAUSE_NS = 5_000_000_000
"""Gap between stamps after which sweeps may be those of another recording."""


class AutoSensor:
    """The LiDAR of a stream of sweeps; pass it to the pipelines that label them.

    Args:
        given: sensor file, of which only what it does not say (height, attitude, ground intensity) is estimated.
        in_background: whether beams are fitted in a process of its own, so that no sweep is late: the final table then
            comes into use some sweeps later. The tables are the same.

    Attributes:
        given: the same.
        sensor: what is known so far; None before the first sweep.
        is_final: whether the estimate is final, until the ground comes into view if the first sweeps did not show it.
    """

    def __init__(self, given: SensorSpec | None = None, *, in_background: bool = False) -> None:
        self.given = given
        self._in_background = in_background
        self._last: PointCloud | None = None
        self._stamp_ns: int | None = None
        self._frame = self._used_frame = ""
        self._may_differ = False
        self._news: list[str] = []
        self.restart()

    def restart(self) -> None:
        """Forget the sweeps: the next ones are those of another drive."""
        self.sensor: SensorSpec | None = self.given
        self.is_final = self.given is not None and is_complete(self.given)
        self._samples: list[SweepSample] = []
        self._beams: Beams | None = None
        self._mounting = Mounting()
        self._fitting: BeamFitting | None = None
        self._sweeps = 0
        self._shape: tuple[int, bool] | None = None
        self._on_beams = False
        self._looked = self._seen = 0

    def begin(self, stamp_ns: int, frame: str = "") -> None:
        """Tell stamp and frame of the next sweep: after a jump of time it may be that of another LiDAR."""
        if self._stamp_ns is not None and not -JUMP_NS <= stamp_ns - self._stamp_ns <= _PAUSE_NS:
            self._may_differ = True
        self._stamp_ns, self._frame = stamp_ns, frame

    def of(self, cloud: PointCloud) -> SensorSpec | None:
        """Learn from a sweep, and return the sensor to label it with; it counts once, however many pipelines ask."""
        if cloud is self._last:
            return self.sensor
        self._last = cloud
        if self._may_differ:
            self._may_differ = False
            if self._differs(cloud):
                self._news.append("the sweeps are those of another LiDAR: its sensor is estimated anew")
                self.restart()
        if not self.is_final:
            self._learn(cloud)
        elif self._lacks_ground:
            self._look_for_ground(cloud)
        return self.sensor

    @property
    def state(self) -> str:
        """How much is known, in a few words."""
        if self.given is not None and is_complete(self.given):
            return f"file {self.given.name}"
        if self.is_final:
            state = f"estimated from {self._sweeps} sweeps"
        else:
            state = f"provisional ({self._sweeps} of {SWEEPS} sweeps)" if self._sweeps else "no usable sweep yet"
        return state if self.given is None else f"file {self.given.name}, mounting {state}"

    @property
    def description(self) -> str:
        """One line: how much is known, beams, mounting, and what is not known."""
        if self.sensor is None or not self._sweeps:
            return self.state
        notes = [describe_mounting(self.sensor), *self._mounting.notes]
        return f"{self.state}: {'; '.join(text for text in (self._beams_text(), *notes) if text)}"

    @property
    def facts(self) -> Mapping[str, Any]:
        """The same for ``metrics.json``."""
        source = "file" if self.given is not None else AUTO_SENSOR
        facts: dict[str, Any] = {"source": source, "description": self.description}
        if self.sensor is None:
            return facts
        names = ("height_m", "roll_deg", "pitch_deg", "ground_intensity")
        known = {name: getattr(self.sensor, name) for name in names}
        beams = len(self.sensor.beam_elevations_deg)
        return {**facts, "final": self.is_final, "sweeps": self._sweeps, "beams": beams, **known}

    @property
    def ignores_rings(self) -> bool:
        """Whether the clouds have ring numbers that do not tell the beams, and nothing else does."""
        return self._shape is not None and self._shape[1] and self._failed

    @property
    def finds_no_beams(self) -> bool:
        """Whether the points do not lie on beams, as far as several sweeps tell."""
        return self._sweeps >= _FITS_AT[1] and self._failed

    def news(self) -> list[str]:
        """What has happened since the last call and is worth one log line each: a final estimate, another LiDAR."""
        news, self._news = self._news, []
        return news

    def _beams_text(self) -> str:
        beams = self._beams
        if beams is None:
            return ""
        top, bottom = beams.elevations_deg[0], beams.elevations_deg[-1]
        if not beams.source:
            return f"no beams ({beams.problem}), {len(beams.elevations_deg)} even steps {top:+.1f} to {bottom:+.1f} deg"
        return f"{len(beams.elevations_deg)} beams {top:+.1f} to {bottom:+.1f} deg by {beams.source}"

    def _learn(self, cloud: PointCloud) -> None:
        """Take another sweep into account, if it tells anything, and a finished fit."""
        if len(self._samples) < SWEEPS:
            sample = sample_sweep(cloud)
            if sample is not None:
                self._samples.append(sample)
                self._sweeps = len(self._samples)
                self._shape, self._used_frame = _shape(cloud), self._frame
                low = self.given.intensity_range[0] if self.given is not None else None
                self._mounting = find_mounting(self._samples, low)
                if self.given is None and self._sweeps in _FITS_AT:
                    self._fit()
        if not self._samples:
            return
        self._collect()
        if self.given is not None:
            self.sensor = completed(self.given, self._mounting)
        else:
            self._beams = self._beams or first_beams(self._samples[0])
            self.sensor = sensor_spec(AUTO_SENSOR, self._beams, self._mounting)
        if self._sweeps == SWEEPS and self._fitting is None:
            self._finish(cloud)

    @property
    def _lacks_ground(self) -> bool:
        """Whether no sweep has shown the ground."""
        complete = self.given is not None and is_complete(self.given)
        return self._sweeps > 0 and not complete and self._mounting.height_m is None

    def _look_for_ground(self, cloud: PointCloud) -> None:
        """Estimate anew once the ground is in view, which the first sweeps did not show."""
        self._looked += 1
        if self._looked % _LOOK_EVERY:
            return
        self._seen = self._seen + 1 if find_ground(cloud.xyz) is not None else 0
        if self._seen >= TILT_SWEEPS:
            beams = self._beams
            self.restart()
            self._beams = beams  # until they are fitted again
            self._news.append("the ground is in view now: the sensor is estimated anew")

    def _finish(self, cloud: PointCloud) -> None:
        assert self.sensor is not None
        self.is_final, self._samples = True, []
        self._on_beams = _share_off(self.sensor, cloud) <= ON_BEAMS
        self._news.append(f"sensor: {self.description}")

    def _fit(self) -> None:
        """Start a fit of the beams, or make it."""
        samples = list(self._samples)
        if self._sweeps < SWEEPS and self._failed and not (self._mounting.roll_deg or self._mounting.pitch_deg):
            return
        if not self._in_background:
            self._beams = find_beams(samples, known_beams(), self._mounting)
        elif self._fitting is None or self._sweeps == SWEEPS:  # else the former one is still running
            self._fitting = BeamFitting(samples, self._mounting)

    def _collect(self) -> None:
        """Take the result of a fit in the background, if it is there."""
        beams = None if self._fitting is None else self._fitting.result()
        if beams is not None:
            self._beams, self._fitting = beams, None

    @property
    def _failed(self) -> bool:
        """Whether a fit has found no beams, which takes longest."""
        return self._beams is not None and self._beams.problem not in ("", NOT_YET)

    def _differs(self, cloud: PointCloud) -> bool:
        """Whether a sweep is not that of the same LiDAR in the same frame."""
        if self._shape is None or self.sensor is None or self.given is not None:
            return False
        if self._frame != self._used_frame or _shape(cloud) != self._shape:
            return True
        return self._on_beams and _share_off(self.sensor, cloud) > OFF_BEAMS


def chosen_sensor(setting: str, *, in_background: bool = False) -> AutoSensor | None:
    """The sensor of a setting: ``auto`` (or empty), ``none``, a sensor file, or the name of a known LiDAR.

    Raises:
        SensorError: neither a file nor a known name, or not a valid sensor file.
    """
    if setting.strip().lower() == NO_SENSOR:
        return None
    return AutoSensor(given_sensor(setting), in_background=in_background)


def _shape(cloud: PointCloud) -> tuple[int, bool]:
    """Rows of an organised cloud, and whether it has ring numbers."""
    return cloud.height, cloud.ring is not None


def _share_off(sensor: SensorSpec, cloud: PointCloud) -> float:
    """Share of a sweep's points that lie between the sensor's beams."""
    xyz = cloud.xyz[sample_index(len(cloud))]
    points = xyz[usable_mask(xyz)]
    return share_between(sensor.beam_elevations_deg, elevations_deg(points)) if len(points) else 0.0
