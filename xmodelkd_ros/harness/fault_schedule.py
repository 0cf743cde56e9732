"""Injected faults of cameras, TF and clocks, the mode expected of a node in teacher mode, and their schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """An injected fault.

    Attributes:
        name: its name on the command line.
        expected: the mode that labels sweeps while it lasts; ``either`` where that depends on timing.
        description: one line for reports.
        needs_tf: whether it affects TF, which then provides extrinsics and ego motion.
    """

    name: str
    expected: str
    description: str
    needs_tf: bool = False


FAULTS = (
    Fault("camera_stops", "teacher", "the first camera publishes nothing"),
    Fault("cameras_stop", "student", "no camera publishes anything"),
    Fault("images_late", "student", "images arrive 0.3 s late"),
    Fault("images_frozen", "student", "each camera repeats one image with new stamps"),
    Fault("images_corrupt", "student", "image data is corrupted"),
    Fault("images_resized", "student", "image size differs from the calibration"),
    Fault("images_reordered", "either", "every other image arrives after its successor"),
    Fault("cameras_swapped", "teacher", "two cameras publish each other's images, which cannot be detected"),
    Fault("calibration_zero", "student", "CameraInfo reports an uncalibrated camera"),
    Fault("transforms_stop", "student", "/tf stops", needs_tf=True),
    Fault("clock_stops", "teacher", "/clock stops, messages continue"),
    Fault("clock_jumps_back", "teacher", "/clock and all stamps jump back by 10 s"),
)


@dataclass(frozen=True)
class FaultWindow:
    """Start and end of a fault, in seconds of bag time from the start of playback; a rest without faults follows."""

    fault: str
    start_s: float
    end_s: float


def fault_schedule(names: Sequence[str], warm_up_s: float, fault_s: float, rest_s: float) -> list[FaultWindow]:
    """Windows of consecutive faults, with a rest after each."""
    starts = [warm_up_s + number * (fault_s + rest_s) for number in range(len(names))]
    return [FaultWindow(name, start, start + fault_s) for name, start in zip(names, starts, strict=True)]
