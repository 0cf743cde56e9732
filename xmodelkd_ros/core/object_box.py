"""A box around an object."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectBox:
    """A box around the points of an object.

    Attributes:
        class_name: the class of most of its points.
        probability: mean probability of its points.
        center: (x, y, z) in metres, in the cloud's frame.
        orientation: quaternion x, y, z, w from the box's axes (x along its longer side, z up from the ground) to the
            cloud's frame.
        size: length, width and height in metres.
        points: number of points.
    """

    class_name: str
    probability: float
    center: tuple[float, float, float]
    orientation: tuple[float, float, float, float]
    size: tuple[float, float, float]
    points: int
