"""The cameras of a node in teacher mode: their topics, and what they took of a sweep."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.messages.camera_info import to_camera
from xmodelkd_ros.messages.images import image_to_array
from xmodelkd_ros.node.extrinsics import CameraPoses
from xmodelkd_ros.node.parameters import CameraParameters
from xmodelkd_ros.segmentation.image_matching import StampedImage

NO_IMAGE = "no image"
BLIND = "it sees none of the sweep's points; check where it is mounted, and its calibration"
FROZEN = "its image stays the same to the bit"


@dataclass(frozen=True, eq=False)
class CameraFrames:
    """What the cameras took of a sweep.

    Attributes:
        camera_frames: of each camera, in the order of the parameters; None where there is none.
        missing: why, by the camera's name.
    """

    camera_frames: tuple[CameraFrame | None, ...]
    missing: Mapping[str, str]

    def left_to_student(self, why: str) -> CameraFrames:
        """Nothing of it was used, for a reason that has to do with no camera."""
        return CameraFrames((), {**self.missing, **dict.fromkeys(self.used, why)})

    def explained(self, frozen: Collection[str]) -> CameraFrames:
        """The same, if some cameras are known to send one image again and again."""
        why = {name: FROZEN for name, reason in self.missing.items() if reason == NO_IMAGE and name in frozen}
        return replace(self, missing={**self.missing, **why})

    def without_blind(self, visible_counts: Sequence[int]) -> CameraFrames:
        """The same, if cameras that see none of the sweep's points count as missing.

        Args:
            visible_counts: by each camera.
        """
        blind = [
            camera_frame is not None and count == 0
            for camera_frame, count in zip(self.camera_frames, visible_counts, strict=True)
        ]
        camera_frames = tuple(
            None if none else camera_frame for camera_frame, none in zip(self.camera_frames, blind, strict=True)
        )
        names = [
            camera_frame.camera.name
            for camera_frame, none in zip(self.camera_frames, blind, strict=True)
            if none and camera_frame is not None
        ]
        return CameraFrames(camera_frames, {**self.missing, **dict.fromkeys(names, BLIND)})

    @property
    def used(self) -> tuple[str, ...]:
        """The cameras that took something."""
        return tuple(camera_frame.camera.name for camera_frame in self.camera_frames if camera_frame is not None)


class CameraFrameBuilder:
    """From the images of a sweep to what a teacher is shown.

    Args:
        cameras: of the node.
        poses: where they are.
    """

    def __init__(self, cameras: Sequence[CameraParameters], poses: CameraPoses) -> None:
        self._cameras, self._poses = cameras, poses
        self._models: dict[str, tuple[Any, CameraModel]] = {}

    def take(
        self,
        images: Mapping[str, StampedImage[Any]],
        infos: Mapping[str, Any],
        lidar_frame: str,
        sweep_ns: int,
    ) -> CameraFrames:
        """Decode the images of a sweep. What is wrong with a camera costs that camera only.

        Args:
            images: Image or CompressedImage of each camera that has one.
            infos: CameraInfo of each camera that has one.
            lidar_frame: frame of the sweep.
            sweep_ns: its stamp.
        """
        camera_frames: list[CameraFrame | None] = []
        missing: dict[str, str] = {}
        for camera in self._cameras:
            camera_frames.append(None)
            if camera.name not in images:
                missing[camera.name] = NO_IMAGE
            elif camera.name not in infos:
                missing[camera.name] = f"no CameraInfo on {camera.info_topic}"
            else:
                try:
                    camera_frames[-1] = self._camera_frame(
                        camera, images[camera.name], infos[camera.name], lidar_frame, sweep_ns
                    )
                except XModelKDError as error:
                    missing[camera.name] = str(error)
                except Exception as error:  # of a library, on data that nobody thought of
                    missing[camera.name] = f"its image cannot be used: {error!r}"
        return CameraFrames(tuple(camera_frames), missing)

    def _camera_frame(
        self, camera: CameraParameters, image: StampedImage[Any], info: Any, lidar_frame: str, sweep_ns: int
    ) -> CameraFrame:
        frame = info.header.frame_id or image.image.header.frame_id  # as the offline tools take it
        from_lidar = self._poses.from_lidar(camera.name, frame.lstrip("/"), lidar_frame.lstrip("/"), image.stamp_ns)
        motion = self._poses.motion(lidar_frame.lstrip("/"), sweep_ns, image.stamp_ns)
        return CameraFrame(self._model(camera, info, from_lidar), image_to_array(image.image), motion)

    def _model(self, camera: CameraParameters, info: Any, from_lidar: NDArray[np.float64]) -> CameraModel:
        """The camera; made again only where something of it changed."""
        roi = info.roi
        key = (
            *(np.asarray(values).tobytes() for values in (info.d, info.k, info.r, info.p, from_lidar)),
            *(info.distortion_model, info.width, info.height, info.binning_x, info.binning_y),
            *(roi.x_offset, roi.y_offset, roi.width, roi.height),
        )
        known = self._models.get(camera.name)
        if known is None or known[0] != key:
            known = key, to_camera(info, camera.name, from_lidar, camera.rectified)
            self._models[camera.name] = known
        return known[1]
