"""Camera frames of a sweep: decoded images with camera models and motion, and why cameras are missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.messages.camera_info import to_camera
from xmodelkd_ros.messages.headers import frame_name
from xmodelkd_ros.messages.images import image_to_array
from xmodelkd_ros.node.extrinsics import CameraPoses
from xmodelkd_ros.node.parameters import CameraParameters, Parameters
from xmodelkd_ros.segmentation.image_gaps import NO_IMAGE, why_no_image
from xmodelkd_ros.segmentation.image_matching import MatchedSweep

NO_POINTS = "none of the sweep's points is in its view; check its extrinsic and calibration"
FROZEN = "its images are bit-identical"


@dataclass(frozen=True, eq=False)
class CameraFrames:
    """Camera frames of a sweep.

    Attributes:
        frames: frame of each camera, in the order of the parameters; None where it is missing.
        missing: reason for each missing camera, by its name.
    """

    frames: tuple[CameraFrame | None, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the cameras with a frame."""
        return tuple(frame.camera.name for frame in self.frames if frame is not None)

    def discard(self, reason: str) -> CameraFrames:
        """Without any frame, for a reason that concerns all cameras."""
        return CameraFrames((), {**self.missing, **dict.fromkeys(self.used, reason)})

    def mark_frozen(self, frozen: Collection[str]) -> CameraFrames:
        """With the reason of missing images replaced for frozen cameras."""
        reasons = {
            name: FROZEN for name, reason in self.missing.items() if reason.startswith(NO_IMAGE) and name in frozen
        }
        return replace(self, missing={**self.missing, **reasons})

    def drop_blind(self, visible_counts: Sequence[int]) -> CameraFrames:
        """Without the cameras that have no point of the sweep in view."""
        pairs = list(zip(self.frames, visible_counts, strict=True))
        blind = [frame.camera.name for frame, count in pairs if frame is not None and count == 0]
        frames = tuple(frame if count else None for frame, count in pairs)
        return CameraFrames(frames, {**self.missing, **dict.fromkeys(blind, NO_POINTS)})


class CameraFrameBuilder:
    """Builds the camera frames of sweeps from matched images.

    Args:
        parameters: cameras and projection frame.
        poses: extrinsics and ego motion.
        infos: latest CameraInfo of each camera, kept up to date by the owner.

    Attributes:
        image_problems: why no images arrive from a camera, by its name; replaced by the owner.
        info_problems: the same for CameraInfo.
    """

    def __init__(self, parameters: Parameters, poses: CameraPoses, infos: Mapping[str, Any]) -> None:
        self._cameras, self._projection_frame = parameters.cameras, frame_name(parameters.projection_frame)
        self._poses, self._infos = poses, infos
        self._models: dict[str, tuple[Any, CameraModel]] = {}
        self.image_problems: Mapping[str, str] = {}
        self.info_problems: Mapping[str, str] = {}

    def build(self, matched: MatchedSweep[Any, Any], frame_id: str) -> CameraFrames:
        """Build the camera frames of a sweep. An error concerns its own camera only.

        Args:
            matched: the sweep with an Image or CompressedImage of each camera that has one.
            frame_id: frame of the sweep.
        """
        lidar_frame = self._projection_frame or frame_name(frame_id)
        frames: list[CameraFrame | None] = []
        missing: dict[str, str] = {}
        for camera in self._cameras:
            frame = None
            if camera.name not in matched.images:
                missing[camera.name] = self._no_image(camera, matched)
            elif camera.name not in self._infos:
                problem = self.info_problems.get(camera.name)
                missing[camera.name] = f"no CameraInfo on {camera.info_topic}" + (f": {problem}" if problem else "")
            else:
                try:
                    frame = self._camera_frame(camera, matched, lidar_frame)
                except XModelKDError as error:
                    missing[camera.name] = str(error)
                except Exception as error:  # unforeseen errors of libraries on malformed data
                    missing[camera.name] = f"its image cannot be used: {error!r}"
            frames.append(frame)
        return CameraFrames(tuple(frames), missing)

    def _no_image(self, camera: CameraParameters, matched: MatchedSweep[Any, Any]) -> str:
        if camera.name in self.image_problems:
            return f"{NO_IMAGE}: {self.image_problems[camera.name]}"
        gap = matched.gaps.get(camera.name)
        return why_no_image(camera.name, matched.stamp_ns, gap, camera.time_offset) if gap else NO_IMAGE

    def unavailable(self, reason: str) -> CameraFrames:
        """No frame of any camera, for one reason."""
        return CameraFrames((), {camera.name: reason for camera in self._cameras})

    def _camera_frame(self, camera: CameraParameters, matched: MatchedSweep[Any, Any], lidar_frame: str) -> CameraFrame:
        image, info = matched.images[camera.name], self._infos[camera.name]
        camera_frame = frame_name(info.header.frame_id) or frame_name(image.image.header.frame_id)
        from_lidar = self._poses.from_lidar(camera.name, camera_frame, lidar_frame, image.stamp_ns)
        motion = self._poses.motion(lidar_frame, matched.stamp_ns, image.stamp_ns)
        return CameraFrame(self._model(camera, info, from_lidar), image_to_array(image.image), motion)

    def _model(self, camera: CameraParameters, info: Any, from_lidar: NDArray[np.float64]) -> CameraModel:
        """Camera model, cached until calibration or extrinsic change."""
        roi = info.roi
        key = (
            *(np.asarray(values).tobytes() for values in (info.d, info.k, info.r, info.p, from_lidar)),
            *(info.distortion_model, info.width, info.height, info.binning_x, info.binning_y),
            *(roi.x_offset, roi.y_offset, roi.width, roi.height),
        )
        cached = self._models.get(camera.name)
        if cached is None or cached[0] != key:
            cached = key, to_camera(info, camera.name, from_lidar, camera.rectified)
            self._models[camera.name] = cached
        return cached[1]
