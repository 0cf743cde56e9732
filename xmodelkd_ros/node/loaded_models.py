"""From a PointCloud2 to its labels: what a configured node holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rclpy.node import Node

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.messages.clouds import missing_intensity_policy, to_cloud
from xmodelkd_ros.messages.images import load_image_decoders
from xmodelkd_ros.node.camera_captures import CameraFrameBuilder, CameraFrames
from xmodelkd_ros.node.extrinsics import Transforms, camera_poses, choose_extrinsic, moved
from xmodelkd_ros.node.parameters import OutputOptions, Parameters
from xmodelkd_ros.resources import find_model, user_path
from xmodelkd_ros.segmentation.backend_selection import select_backend
from xmodelkd_ros.segmentation.image_matching import StampedImage
from xmodelkd_ros.segmentation.pipeline import Result, SegmentationPipeline

_PROGRESS_S = 5.0
"""Seconds between two lines on how far the building of an engine is."""


class LoadedModels:
    """The loaded models and how clouds get to them.

    Args:
        node: its logger is used.
        parameters: models, back end, sensor and projection.
        transforms: TF, where the parameters ask for it.

    Raises:
        XModelKDError: a parameter names something that does not exist or does not fit.
    """

    def __init__(self, node: Node, parameters: Parameters, transforms: Transforms) -> None:
        self._parameters = parameters
        kept = user_path(parameters.engine_cache_dir) if parameters.engine_cache_dir else None
        log = node.get_logger()
        self._engines = EngineCache(kept, lambda line: log.info(line, throttle_duration_sec=_PROGRESS_S))
        sensor = SensorSpec.read(user_path(parameters.sensor)) if parameters.sensor else None
        self._backend_reasons: dict[str, str] = {}
        self._student = self._loaded("model", parameters.model, "student", sensor)
        self._teacher = None
        if parameters.cameras:
            self._teacher = self._loaded("teacher_model", parameters.teacher_model, "teacher", sensor)
            _check_teacher(self._teacher.spec, self._student.spec, len(parameters.cameras))
            load_image_decoders()
        self._frame = parameters.projection_frame
        self._extrinsic = choose_extrinsic(transforms, self._frame, parameters.projection_extrinsic)
        extrinsics = {camera.name: camera.extrinsic for camera in parameters.cameras}
        poses = camera_poses(transforms, extrinsics, parameters.fixed_frame)
        self._shutter = CameraFrameBuilder(parameters.cameras, poses)
        needs_intensity = any(pipeline.needs_intensity for pipeline in self._pipelines)
        self._missing_intensity = missing_intensity_policy(needs_intensity, parameters.missing_intensity)
        for pipeline in self._pipelines:
            pipeline.warm_up()

    def _loaded(self, parameter: str, model: str, role: str, sensor: SensorSpec | None) -> SegmentationPipeline:
        folder = find_model(model)
        given = self._parameters
        choice = select_backend(folder, given.backend, given.precision, self._engines)
        self._backend_reasons[parameter] = choice.reason
        pipeline = SegmentationPipeline.load(folder, choice.backend, given.precision, sensor, self._engines)
        if pipeline.spec.role != role:
            other = {"student": "teacher_model", "teacher": "model"}[role]
            raise ModelError(f"{folder} is a {pipeline.spec.role}; {parameter} takes a {role}, {other} takes this one")
        return pipeline

    @property
    def _pipelines(self) -> list[SegmentationPipeline]:
        return [self._student] + ([self._teacher] if self._teacher else [])

    @property
    def labels(self) -> LabelMap:
        """The models' own label set."""
        return self._student.labels

    @property
    def description(self) -> Mapping[str, str]:
        """What runs, for diagnostics."""
        return {
            **_description(self._student, "model", self._backend_reasons),
            **(_description(self._teacher, "teacher_model", self._backend_reasons) if self._teacher else {}),
            "backend": self._student.backend.name,
            "precision": self._student.backend.precision,
        }

    def decode(self, msg: Any) -> PointCloud:
        """The points of a sensor_msgs/PointCloud2 of any layout, in the frame it came in.

        Raises:
            CloudError: the message's layout cannot be used.
        """
        return to_cloud(msg, self._missing_intensity)

    def take(
        self, images: Mapping[str, StampedImage[Any]], infos: Mapping[str, Any], frame_id: str, sweep_ns: int
    ) -> CameraFrames:
        """What the cameras show of a sweep (see :meth:`CameraFrameBuilder.take`)."""
        return self._shutter.take(images, infos, self._frame or frame_id, sweep_ns)

    def not_taken(self, why: str) -> CameraFrames:
        """What is said of a sweep that is not shown to the teacher."""
        return CameraFrames((), {camera.name: why for camera in self._parameters.cameras})

    def segment(
        self, cloud: PointCloud, frame_id: str, options: OutputOptions, camera_frames: Sequence[CameraFrame | None] = ()
    ) -> Result:
        """Label the points of a sweep, by the teacher if there is an image of it.

        Args:
            cloud: the sweep, in the frame it came in.
            frame_id: name of that frame.
            options: of the output.
            camera_frames: what the cameras took of it.

        Raises:
            ExtrinsicError: the cloud's frame is not known yet.
            CloudError: the cloud's rings do not fit the sensor file.
            BackendError: the network failed.
        """
        if self._extrinsic is not None and frame_id != self._frame:
            cloud = moved(cloud, self._extrinsic(frame_id))
        if self._teacher is not None and any(camera_frame is not None for camera_frame in camera_frames):
            return self._teacher.segment(cloud, options.into, camera_frames)
        return self._student.segment(cloud, options.into)


def _check_teacher(teacher: ModelSpec, student: ModelSpec, cameras: int) -> None:
    if teacher.labels != student.labels:
        raise ModelError(
            f"teacher_model {teacher.name} has other classes than model {student.name}; name two that agree"
        )
    assert teacher.image_branch is not None, "teachers have one"
    if cameras > teacher.image_branch.cameras:
        most = teacher.image_branch.cameras
        raise ModelError(f"{cameras} cameras are named, but teacher_model {teacher.name} takes {most} at most")


def _description(pipeline: SegmentationPipeline, parameter: str, backend_reasons: Mapping[str, str]) -> dict[str, str]:
    spec, precision = pipeline.spec, pipeline.backend.precision
    more = {"engine": pipeline.backend.key, "backend_choice": backend_reasons[parameter]}
    said = {f"{parameter}_{name}": value for name, value in more.items() if value}
    return {parameter: spec.name, f"{parameter}_sha256": spec.files[precision].sha256[:12], **said}
