"""What may go wrong with cameras and clocks, and what a node in teacher mode has to make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: of it.
        expected: the mode that serves while it lasts; ``either`` where that depends on the moment.
        what: one line for people.
        needs_tf: whether it is one of TF, which then says where cameras are and how the vehicle moves.
    """

    name: str
    expected: str
    what: str
    needs_tf: bool = False


FAULTS = (
    Fault("camera_stops", "teacher", "the first camera sends nothing"),
    Fault("cameras_stop", "student", "no camera sends anything"),
    Fault("images_late", "student", "images come 0.3 s late"),
    Fault("images_frozen", "student", "each camera sends one image again and again, with new stamps"),
    Fault("images_corrupt", "student", "the bytes of the images are damaged"),
    Fault("images_resized", "student", "images have another shape than the cameras were calibrated for"),
    Fault("images_reordered", "either", "every other image comes after the next one"),
    Fault("cameras_swapped", "teacher", "two cameras send each other's images, which nobody can know"),
    Fault("calibration_zero", "student", "CameraInfo says that nothing is calibrated"),
    Fault("transforms_stop", "student", "/tf says no longer how the vehicle moves", needs_tf=True),
    Fault("clock_stops", "teacher", "/clock stands still, and data goes on"),
    Fault("clock_jumps_back", "teacher", "/clock and all stamps jump back by ten seconds"),
)


@dataclass(frozen=True)
class Window:
    """When a fault lasts, seconds of the bag's time from the start of play.

    Attributes:
        fault: its name.
        start_s: its begin.
        end_s: its end; before the next one everything is well for a while.
    """

    fault: str
    start_s: float
    end_s: float


def schedule(names: Sequence[str], warm_up_s: float, fault_s: float, rest_s: float) -> list[Window]:
    """One fault after the other, with a rest after each."""
    starts = [warm_up_s + number * (fault_s + rest_s) for number in range(len(names))]
    return [Window(name, start, start + fault_s) for name, start in zip(names, starts, strict=True)]
