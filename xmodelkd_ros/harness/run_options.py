"""Options that the tools which run a model share: bag, model, back end, cameras, output folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xmodelkd_ros.bags.image_replay import CameraOptions
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.messages.clouds import MissingIntensity, MissingIntensityOption, missing_intensity_policy
from xmodelkd_ros.resources import find_model

_CAMERAS = CameraOptions()


@dataclass(frozen=True)
class RunOptions:
    """Input, model and output of one run of a tool.

    Attributes:
        bag: the bag.
        model: name or path of the model.
        out: output folder.
        backend: inference back end.
        precision: precision of the network.
        label_set: label set of the scores; empty for the model's own.
        points_topic: topic of the sweeps; may be empty if the bag has only one PointCloud2 topic.
        command: command line, for the report.
        mode: ``student`` (LiDAR only) or ``teacher`` (LiDAR and images).
        camera_options: selection of cameras and matching of their images.
        student: name or path of the fallback student, where ``model`` is a teacher that runs in the node.
        sensor: ``auto``, ``none`` (the LiDAR that the model was trained on), or name or path of a sensor file.
        missing_intensity: what to do with clouds without intensity, if the model uses it.
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
    sensor: str = "auto"
    missing_intensity: MissingIntensityOption = "auto"

    def intensity_policy(self) -> MissingIntensity:
        """What to do with clouds without intensity, with this model."""
        return missing_intensity_policy([ModelSpec.read(find_model(self.model))], self.missing_intensity)
