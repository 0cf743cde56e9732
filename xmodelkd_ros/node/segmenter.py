"""From a PointCloud2 to its labels: what a configured node holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rclpy.node import Node

from xmodelkd_ros.core.cloud import PointCloud
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
        self._frame = parameters.projection_frame
        self._extrinsic = choose_extrinsic(node, self._frame, parameters.projection_extrinsic)
        # A model that does not use intensity takes clouds without it.
        self._missing_intensity: MissingIntensity = (
            parameters.missing_intensity if self._pipeline.needs_intensity else "fill"
        )
        self._warm_up()

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

    def segment(self, msg: Any, options: OutputOptions) -> tuple[PointCloud, Result, float]:
        """Label the points of a sweep.

        Args:
            msg: sensor_msgs/PointCloud2 of any layout.
            options: of the output.

        Returns:
            The cloud in the frame it came in, its labels, and the milliseconds that decoding took.

        Raises:
            CloudError: the message's layout cannot be used.
            ExtrinsicError: the cloud's frame is not known yet.
            BackendError: the network failed.
        """
        start = perf_counter()
        cloud = to_cloud(msg, self._missing_intensity)
        seen = self._as_the_lidar_sees(cloud, msg.header.frame_id)
        decode_ms = (perf_counter() - start) * 1e3
        return cloud, self._pipeline.segment(seen, options.into), decode_ms

    def _warm_up(self) -> None:
        """Have the slow first two runs, which allocate, before the first sweep comes."""
        points = self._pipeline.spec.max_points
        xyz = np.full((points, 3), 10, np.float32)
        xyz[:, 1] = np.linspace(-20, 20, points)
        for _ in range(2):
            self._pipeline.segment(PointCloud(xyz, np.zeros(points, np.float32)))

    def _as_the_lidar_sees(self, cloud: PointCloud, frame_id: str) -> PointCloud:
        if self._extrinsic is None or frame_id == self._frame:
            return cloud
        return moved(cloud, self._extrinsic(frame_id))
