"""From a PointCloud2 to its labels: what a configured node holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rclpy.node import Node

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.messages import MissingIntensity, to_cloud
from xmodelkd_ros.node.extrinsics import choose_extrinsic, moved
from xmodelkd_ros.node.parameters import OutputOptions, Parameters
from xmodelkd_ros.pipeline import Result, SegmentationPipeline
from xmodelkd_ros.resources import find_model


class Segmenter:
    """A loaded model and how clouds get to it.

    Args:
        node: listens to TF, where the parameters ask for it.
        parameters: model, back end, sensor and projection.

    Raises:
        XModelKDError: a parameter names something that does not exist or does not fit.
    """

    def __init__(self, node: Node, parameters: Parameters) -> None:
        sensor = SensorSpec.read(Path(parameters.sensor).expanduser()) if parameters.sensor else None
        folder = find_model(parameters.model)
        self._pipeline = SegmentationPipeline.load(folder, parameters.backend, parameters.precision, sensor)
        if self._pipeline.spec.image_branch:
            raise ModelError(f"{folder} is a teacher, to which the node cannot show images yet; give model:=student")
        self._frame = parameters.projection_frame
        self._extrinsic = choose_extrinsic(node, self._frame, parameters.projection_extrinsic)
        # A model that does not use intensity takes clouds without it.
        self._missing_intensity: MissingIntensity = (
            parameters.missing_intensity if self._pipeline.needs_intensity else "fill"
        )
        self._pipeline.warm_up()

    @property
    def labels(self) -> LabelMap:
        """The model's own label set."""
        return self._pipeline.labels

    @property
    def description(self) -> Mapping[str, str]:
        """What runs, for diagnostics."""
        spec, backend = self._pipeline.spec, self._pipeline.backend
        return {
            "mode": "student",
            "model": spec.name,
            "model_sha256": spec.files[backend.precision].sha256[:12],
            "backend": backend.name,
            "precision": backend.precision,
        }

    def decode(self, msg: Any) -> PointCloud:
        """The points of a sensor_msgs/PointCloud2 of any layout, in the frame it came in.

        Raises:
            CloudError: the message's layout cannot be used.
        """
        return to_cloud(msg, self._missing_intensity)

    def segment(self, cloud: PointCloud, frame_id: str, options: OutputOptions) -> Result:
        """Label the points of a sweep.

        Args:
            cloud: the sweep, in the frame it came in.
            frame_id: name of that frame.
            options: of the output.

        Raises:
            ExtrinsicError: the cloud's frame is not known yet.
            CloudError: the cloud's rings do not fit the sensor file.
            BackendError: the network failed.
        """
        if self._extrinsic is not None and frame_id != self._frame:
            cloud = moved(cloud, self._extrinsic(frame_id))
        return self._pipeline.segment(cloud, options.into)
