"""What a tool scores: bag, model, cameras and output folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xmodelkd_ros.bags.image_replay import CameraOptions

_CAMERAS = CameraOptions()


@dataclass(frozen=True)
class RunOptions:
    """What to score.

    Attributes:
        bag: the bag.
        model: name or path of the model.
        out: folder of the report.
        backend: library that runs the network.
        precision: precision to run it in.
        label_set: set to score in; empty for the model's own.
        points_topic: topic of the sweeps; may be empty if the bag has only one of PointCloud2.
        command: the command line, for the report.
        mode: ``student``, or ``teacher`` to show it the cameras' images.
        camera_options: selection of cameras and matching of their images.
        student: name or path of the student that stands by in replay, where ``model`` is a teacher.
    """

    bag: Path
    model: str
    out: Path
    backend: str = "auto"
    precision: str = "auto"
    label_set: str = ""
    points_topic: str = ""
    command: str = "xmodelkd"
    mode: str = "student"
    camera_options: CameraOptions = _CAMERAS
    student: str = "student"
