"""A real sweep with other units, scales and missing returns, as the monitor of the model's input sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from test.fuzz.mutation import Mutator
from test.fuzz.target import Limits, Target, ensure
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.resources import find_model
from xmodelkd_ros.segmentation.auto_sensor import AutoSensor
from xmodelkd_ros.segmentation.input_monitor import InputMonitor
from xmodelkd_ros.segmentation.parity_sweep import read_parity_sweep
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

_SWEEPS = 3
_SAME_LABELS = 0.95
_ANY_FACTOR = "by any factor"
Change = Callable[[Mutator, NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[Any], NDArray[Any]]]


def _times(*factors: float) -> Change:
    """Other intensities."""
    return lambda mutator, xyz, intensity: (xyz, intensity * np.float32(mutator.pick(factors)))


def _metres(*factors: float) -> Change:
    """Positions in another unit."""
    return lambda mutator, xyz, intensity: (xyz * np.float32(mutator.pick(factors)), intensity)


def _replaced(share: float, value: float) -> Change:
    """That share of the points has another position."""

    def change(mutator: Mutator, xyz: NDArray[Any], intensity: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        changed = xyz.copy()
        changed[np.random.default_rng(mutator.below(1 << 30)).random(len(xyz)) < share] = value
        return changed, intensity

    return change


def _constant(mutator: Mutator, xyz: NDArray[Any], intensity: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return xyz, np.full_like(intensity, mutator.pick((0.0, 1.0, 100.0)))


def _decibels(mutator: Mutator, xyz: NDArray[Any], intensity: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return xyz, 10 * np.log10((intensity + 1) / 256)


_KINDS: dict[str, tuple[Change, tuple[str, ...]]] = {
    "as it is": (_times(1.0), ()),
    "a little darker": (_times(0.8, 0.9), ()),
    "a little brighter": (lambda mutator, xyz, intensity: (xyz, np.minimum(intensity * 1.2, 255)), ()),
    "in whole numbers": (lambda mutator, xyz, intensity: (xyz, np.rint(intensity)), ()),
    "returns missing": (_replaced(0.3, 0.0), ()),
    "returns not finite": (_replaced(0.3, np.nan), ()),
    "fractions": (_times(1 / 255, 1 / 256), ()),
    "of 16 bits": (_times(256.0, 257.0), ()),
    "of 12 bits": (_times(16.0), ()),
    "constant": (_constant, ("intensity",)),
    "decibels": (_decibels, ("intensity",)),
    "millimetres": (_metres(1000.0), ("no_usable_points", "unit")),
    "centimetres": (_metres(100.0), ("no_usable_points", "unit")),
    "kilometres": (_metres(0.001), ("no_usable_points", "unit")),
    "all missing": (_replaced(1.0, 0.0), ("no_usable_points",)),
    "none finite": (_replaced(1.0, np.nan), ("no_usable_points",)),
}
"""What happens to the sweep, and the kinds of warning of which one is required; none: no warning is allowed."""


class InputUnits(Target):
    """Input that the model does not expect gives a warning of the right kind; other input gives none."""

    name = "input_units"
    limits = Limits(seconds=10.0, memory=256 << 20, traced=False)

    def __enter__(self) -> Target:
        self._sensor = AutoSensor()
        self._pipeline = SegmentationPipeline.load(find_model("student"), "onnxruntime", sensor=self._sensor)
        cloud, _ = read_parity_sweep(0)
        assert cloud.intensity is not None
        self._xyz, self._intensity = cloud.xyz, cloud.intensity
        return self

    def seed_input(self) -> Any:
        return "as it is", 0

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        return (mutator.pick((*_KINDS, _ANY_FACTOR, _ANY_FACTOR)), mutator.below(1 << 30)), 16 * len(self._xyz)

    def execute(self, value: Any) -> None:
        kind, seed = value
        if kind == _ANY_FACTOR:
            self._rescale(Mutator.of("input", seed, 0))
            return
        change, wanted = _KINDS[kind]
        xyz, intensity = change(Mutator.of("input", seed, 0), self._xyz, self._intensity)
        found, _ = self._monitored(xyz, intensity)
        ensure(not wanted or found & set(wanted), f"{kind}: no warning of {' or '.join(wanted)}, but {sorted(found)}")
        ensure(wanted or not found, f"{kind}: false alarm {sorted(found)}")

    def _rescale(self, mutator: Mutator) -> None:
        """With intensities of any scale, the labels are nearly the same, or there is a warning."""
        factor = np.float32(10 ** mutator.random.uniform(-2.5, 2.5))
        _, label = self._monitored(self._xyz, self._intensity)
        found, rescaled = self._monitored(self._xyz, self._intensity * factor)
        ensure(found or np.mean(label == rescaled) >= _SAME_LABELS, f"intensity x {factor:.3g}: no warning")

    def _monitored(self, xyz: NDArray[Any], intensity: NDArray[Any]) -> tuple[set[str], NDArray[np.uint8]]:
        """Kinds of warning after a few such sweeps, and the labels of one."""
        cloud = PointCloud(xyz.astype(np.float32), intensity.astype(np.float32))
        self._sensor.restart()
        monitor, result = InputMonitor(self._pipeline), self._pipeline.segment(cloud)
        for _ in range(_SWEEPS):
            findings = monitor.add(cloud, result)
        return {finding.kind for finding in findings}, result.segmentation.label
