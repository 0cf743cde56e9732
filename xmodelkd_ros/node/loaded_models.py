"""Models of a configured node, and the transforms from its LiDAR and cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.findings import Finding
from xmodelkd_ros.core.labels import LabelMap, LabelTranslation
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.object_box import ObjectBox
from xmodelkd_ros.core.usable_points import inside_box, without_box
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.messages.clouds import missing_intensity_policy, to_cloud
from xmodelkd_ros.messages.headers import Prediction, frame_name, without_prefix
from xmodelkd_ros.messages.images import load_image_decoders
from xmodelkd_ros.node.extrinsics import CameraPoses, Transforms, camera_poses, choose_extrinsic, transform_cloud
from xmodelkd_ros.node.parameters import Parameters
from xmodelkd_ros.resources import find_model, user_path
from xmodelkd_ros.segmentation.auto_sensor import AutoSensor, chosen_sensor
from xmodelkd_ros.segmentation.backend_selection import select_backend
from xmodelkd_ros.segmentation.input_monitor import InputMonitor
from xmodelkd_ros.segmentation.objects import object_boxes
from xmodelkd_ros.segmentation.pipeline import Result, SegmentationPipeline

_PROGRESS_S = 5.0
"""Minimum interval between log lines on the progress of building an engine, and between equal warnings."""


class LoadedModels:
    """Student and, if cameras are configured, teacher; loaded and warmed up.

    Args:
        node: its logger is used.
        parameters: models, back end, sensor, projection and cameras.
        transforms: TF, for extrinsics that the parameters do not give.

    Raises:
        XModelKDError: a parameter names something that does not exist or does not fit.
    """

    def __init__(self, node: Node, parameters: Parameters, transforms: Transforms) -> None:
        self._parameters = parameters
        folder = user_path(parameters.engine_cache_dir) if parameters.engine_cache_dir else None
        log = self._log = node.get_logger()
        self._engines = EngineCache(folder, lambda line: log.info(line, throttle_duration_sec=_PROGRESS_S))
        sensor = self._sensor = chosen_sensor(parameters.sensor, in_background=True)
        if sensor is not None and sensor.given is not None and parameters.ego_box:
            # The parameter takes precedence, in the cloud's own frame.
            sensor = self._sensor = AutoSensor(replace(sensor.given, ego_box=()), in_background=True)
        self._backend_reasons: dict[str, str] = {}
        self._student = self._load("model", parameters.model, "student", sensor)
        self._teacher = None
        if parameters.cameras:
            self._teacher = self._load("teacher_model", parameters.teacher_model, "teacher", sensor)
            _check_teacher(self._teacher.spec, self._student.spec, len(parameters.cameras))
            load_image_decoders()
        self._frame = frame_name(parameters.projection_frame)
        self._extrinsic = choose_extrinsic(transforms, self._frame, parameters.projection_extrinsic)
        extrinsics = {camera.name: camera.extrinsic for camera in parameters.cameras}
        self.camera_poses: CameraPoses = camera_poses(transforms, extrinsics, parameters.fixed_frame)
        self._monitors = {pipeline.spec.role: InputMonitor(pipeline) for pipeline in self._pipelines}
        self._last: tuple[InputMonitor, PointCloud, Result] | None = None
        for pipeline in self._pipelines:
            if pipeline.spec.statistics is None:
                log.debug(f"model {pipeline.spec.name} has no statistics of its training data to compare drives with")
        specs = [pipeline.spec for pipeline in self._pipelines]
        self._missing_intensity = missing_intensity_policy(specs, parameters.missing_intensity)
        for pipeline in self._pipelines:
            pipeline.warm_up()

    def _load(self, parameter: str, model: str, role: str, sensor: AutoSensor | None) -> SegmentationPipeline:
        """Load a model, after a check of its role: selecting a back end may take minutes."""
        folder = find_model(model)
        actual = ModelSpec.read(folder).role
        if actual != role:
            fitting = {"student": "teacher_model", "teacher": "model"}[role]
            raise ModelError(f"parameter {parameter} needs a {role}, but {folder} is a {actual}; set {fitting} to it")
        precision = self._parameters.precision
        choice = select_backend(folder, self._parameters.backend, precision, self._engines)
        self._backend_reasons[parameter] = choice.reason
        min_range_m = self._parameters.min_range
        return SegmentationPipeline.load(folder, choice.backend, precision, sensor, self._engines, min_range_m)

    @property
    def _pipelines(self) -> list[SegmentationPipeline]:
        return [self._student] + ([self._teacher] if self._teacher else [])

    @property
    def labels(self) -> LabelMap:
        """Label set of the models."""
        return self._student.labels

    def prediction(self, mode: str, field: str) -> Prediction:
        """What labels in a field are predicted by: the model of a mode."""
        pipeline = self._teacher if mode == "teacher" and self._teacher else self._student
        return Prediction(pipeline.spec.name, pipeline.spec.files[pipeline.backend.precision].sha256, field)

    @property
    def description(self) -> Mapping[str, str]:
        """Models, back end and precision for diagnostics."""
        return {
            **self._description(self._student, "model"),
            **(self._description(self._teacher, "teacher_model") if self._teacher else {}),
            "backend": self._student.backend.name,
            "precision": self._student.backend.precision,
            **self._sensor_description(),
        }

    @property
    def has_sensor(self) -> bool:
        """Whether a sensor file or an estimate holds, for one LiDAR only."""
        return any(pipeline.auto_sensor is not None or pipeline.sensor is not None for pipeline in self._pipelines)

    @property
    def sensor_state(self) -> str:
        """How much is known of the LiDAR, for the status of a sweep; empty for models that take it as it is."""
        auto = self._student.auto_sensor
        return "" if auto is None else auto.description

    def _sensor_description(self) -> dict[str, str]:
        facts = dict(self._student.sensor_facts)
        numbers = {name: value for name, value in facts.items() if isinstance(value, float)}
        return {"sensor": str(facts["description"]), **{f"sensor_{name}": f"{v:g}" for name, v in numbers.items()}}

    def _description(self, pipeline: SegmentationPipeline, parameter: str) -> dict[str, str]:
        spec, precision = pipeline.spec, pipeline.backend.precision
        optional = {"engine": pipeline.backend.key, "backend_choice": self._backend_reasons[parameter]}
        return {
            parameter: spec.name,
            f"{parameter}_sha256": spec.files[precision].sha256[:12],
            **{f"{parameter}_{name}": value for name, value in optional.items() if value},
        }

    def decode(self, msg: Any) -> PointCloud:
        """Points of a sensor_msgs/PointCloud2 of any layout, in its own frame.

        Raises:
            CloudError: the message's layout cannot be used.
        """
        return to_cloud(msg, self._missing_intensity)

    def begin(self, stamp_ns: int, frame_id: str) -> None:
        """Tell stamp and frame of the next sweep, which after a jump of time may be that of another LiDAR."""
        if self._sensor is not None:
            self._sensor.begin(stamp_ns, frame_name(frame_id))

    def segment(
        self,
        cloud: PointCloud,
        frame_id: str,
        translation: LabelTranslation | None,
        camera_frames: Sequence[CameraFrame | None] = (),
    ) -> Result:
        """Label the points of a sweep, with the teacher if there is a camera frame.

        Args:
            cloud: the sweep, in its own frame.
            frame_id: name of that frame.
            translation: from the models' label set to another one.
            camera_frames: frame of each camera, None where it is missing.

        Raises:
            ExtrinsicError: the transform from the cloud's frame is not available yet.
            CloudError: the cloud's rings do not fit the sensor file.
            BackendError: the network failed.
        """
        cloud = without_box(cloud, self._parameters.ego_box)
        frame = frame_name(frame_id)
        if self._extrinsic is not None and frame != self._frame:
            cloud = transform_cloud(cloud, self._extrinsic(frame))
            if self._parameters.projection_extrinsic and without_prefix(frame) in ("", without_prefix(self._frame)):
                self._warn_of_frame(frame)
        has_images = any(camera is not None for camera in camera_frames)
        pipeline = self._teacher if self._teacher is not None and has_images else self._student
        result = pipeline.segment(cloud, translation, camera_frames)
        if self._sensor is not None:
            for line in self._sensor.news():
                self._log.info(line)
        self._last = self._monitors[pipeline.spec.role], cloud, result
        return result

    def own_points(self, cloud: PointCloud) -> NDArray[np.bool_] | None:
        """(N,) which points of a sweep lie in the box around the vehicle itself; None without a box.

        The box of a sensor file is in the sensor's frame, so that it is not known in clouds that come in another one.
        """
        box = self._parameters.ego_box
        if not box and self._extrinsic is None and self._student.sensor is not None:
            box = self._student.sensor.ego_box
        return inside_box(cloud.xyz, box) if box else None

    def object_boxes(self, cloud: PointCloud, segmentation: Segmentation, labels: LabelMap) -> list[ObjectBox]:
        """Boxes around the road users of a sweep, in the cloud's frame.

        The attitude of a LiDAR levels clouds in its own frame; others are level, as base_link is.
        """
        sensor = self._student.sensor if self._extrinsic is None else None
        return object_boxes(cloud.xyz, segmentation, labels, sensor)

    def check_input(self) -> tuple[Finding, ...]:
        """Compare the last segmented sweep with what its model expects; returns the current warnings.

        Apart from :meth:`segment`, so that labels are published first.
        """
        if self._last is None:
            return ()
        (monitor, cloud, result), self._last = self._last, None
        return monitor.add(cloud, result)

    def _warn_of_frame(self, frame: str) -> None:
        """Warn that a cloud may be in the projection frame already."""
        self._log.warning(
            f"the cloud's frame is '{frame}' and projection_frame '{self._frame}': projection_extrinsic is applied; if "
            "they are one frame, give them one name",
            throttle_duration_sec=_PROGRESS_S,
        )


def _check_teacher(teacher: ModelSpec, student: ModelSpec, cameras: int) -> None:
    if teacher.labels != student.labels:
        raise ModelError(
            f"teacher_model {teacher.name} and model {student.name} have different classes; "
            "choose two models with the same label set"
        )
    assert teacher.image_branch is not None, "guaranteed by its role"
    if cameras > teacher.image_branch.cameras:
        maximum = teacher.image_branch.cameras
        raise ModelError(
            f"cameras lists {cameras} cameras, but teacher_model {teacher.name} supports at most {maximum}; remove some"
        )
