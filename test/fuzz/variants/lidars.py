"""Sweeps of one LiDAR as other drivers number its beams and scale its intensities."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from test.fuzz.mutation import Mutator
from test.fuzz.target import FolderTarget, InvariantError, Limits, ensure
from training.worldgen.sensing.products import BEAM_TABLES
from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, ROSBAGS_TYPES, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.tools.fit_sensor import fit_sensor

_COLUMNS, _SWEEPS = 360, 3
_MAX_ERROR_DEG = 0.2
_JITTER_DEG = 0.01


def _permuted(mutator: Mutator, beams: int) -> NDArray[Any]:
    numbers = np.arange(beams)
    mutator.random.shuffle(numbers)
    return numbers


_NUMBERINGS: dict[str, Callable[[Mutator, int], NDArray[Any]]] = {
    "from the top": lambda mutator, beams: np.arange(beams),
    "from below": lambda mutator, beams: np.arange(beams)[::-1],
    "from 1": lambda mutator, beams: np.arange(beams) + 1,
    "with gaps": lambda mutator, beams: np.arange(beams) * mutator.pick((2, 4, 8)) + mutator.pick((0, 3)),
    "in firing order": _permuted,
    "with one missing": lambda mutator, beams: np.arange(beams) + (np.arange(beams) >= mutator.below(beams)),
}
"""Number of each beam; beams are those of the table, from the top."""
_USELESS = ("constant", "random", "none")
"""Ring fields that say nothing about the beams, and none at all."""


class Rings(FolderTarget):
    """``fit-sensor`` finds the beams within 0.2 degrees, or refuses; it refuses no numbering of beams."""

    name = "rings"
    limits = Limits(seconds=20.0, memory=128 << 20, traced=False)

    def seed_input(self) -> Any:
        return "VLP-32C", "from the top", np.arange(32), 0

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        lidar = mutator.pick(sorted(BEAM_TABLES))
        kind = mutator.pick((*_NUMBERINGS, *_USELESS))
        numbers = _NUMBERINGS[kind](mutator, len(BEAM_TABLES[lidar])) if kind in _NUMBERINGS else None
        return (lidar, kind, numbers, mutator.below(1 << 30)), 100_000

    def execute(self, value: Any) -> None:
        lidar, kind, numbers, seed = value
        beams = np.sort(np.asarray(BEAM_TABLES[lidar]))[::-1]
        path = self._write(beams, kind, numbers, np.random.default_rng(seed))
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                sensor = fit_sensor(path, self.folder / "found.sensor.json")
        except XModelKDError as error:
            if kind in _NUMBERINGS:
                raise InvariantError(f"rings {kind} are refused without need: {str(error)[:120]}") from error
            raise
        _check(sensor, beams, numbers)

    def _write(self, beams: NDArray[Any], kind: str, numbers: Any, rng: np.random.Generator) -> Any:
        path = self.folder / "still.mcap"
        path.unlink(missing_ok=True)
        azimuth = np.linspace(-np.pi, np.pi, _COLUMNS, endpoint=False)
        distance = np.repeat(rng.uniform(4, 40, _COLUMNS // 12), 12)  # walls of a standing scene
        elevation = np.radians(np.repeat(beams, _COLUMNS))
        azimuth, distance = np.tile(azimuth, len(beams)), np.tile(distance, len(beams))
        ring = _rings(kind, numbers, len(beams), rng)
        with BagWriter(path) as bag:
            bag.add_topic("/points", POINT_CLOUD_TYPE)
            for number in range(_SWEEPS):
                angle = elevation + np.radians(rng.normal(0, _JITTER_DEG, len(elevation)))
                far = distance + rng.normal(0, 0.01, len(distance))
                xyz = np.stack(
                    [np.cos(azimuth) * np.cos(angle), np.sin(azimuth) * np.cos(angle), np.sin(angle)], axis=1
                )
                cloud = PointCloud((xyz * far[:, None]).astype(np.float32), np.full(len(far), 9, np.float32), ring)
                bag.write(
                    "/points", number, truth_to_msg(cloud, np.zeros(len(far), np.uint8), _header(), ROSBAGS_TYPES)
                )
        return path


def _header() -> Any:
    stamp = message_class("builtin_interfaces/msg/Time")(sec=1, nanosec=0)
    return message_class("std_msgs/msg/Header")(stamp=stamp, frame_id="lidar")


def _rings(kind: str, numbers: Any, beams: int, rng: np.random.Generator) -> NDArray[np.uint16] | None:
    """The ring of each point."""
    if kind == "none":
        return None
    if kind == "constant":
        return np.full(beams * _COLUMNS, rng.integers(0, 3), np.uint16)
    if kind == "random":
        return rng.integers(0, beams, beams * _COLUMNS).astype(np.uint16)
    return np.repeat(numbers, _COLUMNS).astype(np.uint16)


def _check(sensor: SensorSpec, beams: NDArray[Any], numbers: Any) -> None:
    found = np.asarray(sensor.beam_elevations_deg)
    ensure(len(found) == len(beams), f"{len(found)} beams instead of {len(beams)}")
    ensure(np.abs(found - beams).max() < _MAX_ERROR_DEG, "beams are off by more than 0.2 degrees")
    if numbers is not None and sensor.ring_elevations_deg:
        of_rings = np.asarray(sensor.ring_elevations_deg)[np.asarray(numbers)]
        ensure(np.abs(of_rings - beams).max() < _MAX_ERROR_DEG, "a ring has another beam's elevation")
