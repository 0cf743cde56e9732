"""Extrinsics of LiDAR and cameras and motion of the vehicle, from TF or from parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError, XModelKDError
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.messages.headers import frame_name, frames_and_pose, nearest_frame_hint, stamp_ns

Extrinsic = Callable[[str], NDArray[np.float64]]
"""Maps a frame id to the (4, 4) pose of that frame in the projection frame: p_projection = T p_cloud."""

_STATIC_NS = 0
"""Stamp of the latest transform between two frames that only static transforms connect."""

_MAX_LAG_NS = 200_000_000
"""Maximum lag of TF behind a sweep and its image. The speed of a vehicle hardly changes in this time."""


_FRAMES = re.compile(r"^(\S.*?): *$|^ +parent: '(.*)' *$", re.MULTILINE)
"""A frame, or the parent of one, in tf2's list of frames."""


class ExtrinsicError(XModelKDError):
    """A required transform is not available (yet)."""


class TransformBuffer(Protocol):
    """The part of ``tf2_ros.Buffer`` in use. Lookups have no timeout, which would block the worker thread."""

    def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> Any:
        """TransformStamped from the source frame to the target frame."""
        ...

    def lookup_transform_full(
        self, target_frame: str, target_time: Time, source_frame: str, source_time: Time, fixed_frame: str
    ) -> Any:
        """TransformStamped from one time to another, through a fixed frame."""
        ...

    def all_frames_as_yaml(self) -> str:
        """Every frame, with its parent."""
        ...


class TfExtrinsic:
    """An ``Extrinsic`` from static transforms of TF, looked up once per frame."""

    def __init__(self, buffer: TransformBuffer, projection_frame: str) -> None:
        self._buffer = buffer
        self._projection_frame = frame_name(projection_frame)
        self._cache: dict[str, NDArray[np.float64]] = {}

    def __call__(self, frame_id: str) -> NDArray[np.float64]:
        """Look up the pose of a frame.

        Raises:
            ExtrinsicError: TF does not connect the two frames (yet), or the frame is empty.
        """
        frame = frame_name(frame_id)
        if not frame:
            raise ExtrinsicError(
                f"the cloud has no frame_id, so it cannot be brought to projection_frame '{self._projection_frame}'; "
                "set it in the LiDAR's driver, or set projection_extrinsic"
            )
        if frame not in self._cache:
            what = f"from '{frame}' to projection_frame '{self._projection_frame}'"
            latest = _look_up_latest(what, self._buffer, self._projection_frame, frame)
            self._cache[frame] = frames_and_pose(latest)[1]
        return self._cache[frame]


class CameraPoses:
    """Extrinsics of the cameras, and motion of the vehicle between a sweep and an image.

    Args:
        fixed: (4, 4) pose of the LiDAR's frame in the optical frame of each camera with an extrinsic parameter.
        buffer: TF, for the other cameras and for motion.
        fixed_frame: frame for the vehicle's motion, such as odom; empty: no motion compensation.
    """

    def __init__(
        self, fixed: Mapping[str, NDArray[np.float64]], buffer: TransformBuffer | None = None, fixed_frame: str = ""
    ) -> None:
        self._fixed, self._buffer, self._fixed_frame = dict(fixed), buffer, frame_name(fixed_frame)
        self._static: dict[tuple[str, str], NDArray[np.float64]] = {}

    def from_lidar(self, camera: str, camera_frame: str, lidar_frame: str, image_ns: int) -> NDArray[np.float64]:
        """(4, 4) p_camera = T p_lidar at the stamp of an image.

        Raises:
            ExtrinsicError: TF does not connect the two frames (yet).
        """
        if camera in self._fixed:
            return self._fixed[camera]
        frames = (frame_name(camera_frame), frame_name(lidar_frame))
        for frame, of in zip(frames, (f"CameraInfo of camera '{camera}'", "cloud"), strict=True):
            if not frame:
                raise ExtrinsicError(
                    f"the {of} has no frame_id; set it in the driver, or set cameras.{camera}.extrinsic"
                )
        if frames in self._static:
            return self._static[frames]
        assert self._buffer is not None, "camera_poses creates one for cameras without extrinsic"
        what = f"from '{frames[1]}' to '{frames[0]}' of camera '{camera}'"
        latest = _look_up_latest(what, self._buffer, *frames)
        newest_ns = stamp_ns(latest.header.stamp)
        if newest_ns == _STATIC_NS:
            self._static[frames] = frames_and_pose(latest)[1]
            return self._static[frames]
        at = _time(what, image_ns - _lag_ns(what, newest_ns, image_ns))
        return frames_and_pose(_look_up(what, self._buffer.lookup_transform, *frames, at))[1]

    def motion(self, lidar_frame: str, sweep_ns: int, image_ns: int) -> NDArray[np.float64] | None:
        """(4, 4) from the LiDAR's frame at a sweep's stamp to its frame at an image's; None without compensation.

        Localisation often lags a little behind the sensors. Then the motion just before is used.

        Raises:
            ExtrinsicError: TF lacks the motion, or lags more than 0.2 s.
        """
        if not self._fixed_frame or self._buffer is None:
            return None
        fixed, lookup, lidar_frame = self._fixed_frame, self._buffer.lookup_transform_full, frame_name(lidar_frame)
        what = f"of '{lidar_frame}' in fixed_frame '{fixed}' from the sweep's stamp to the image's"
        latest = _look_up_latest(what, self._buffer, fixed, lidar_frame)
        lag_ns = _lag_ns(what, stamp_ns(latest.header.stamp), max(sweep_ns, image_ns))
        image, sweep = _time(what, image_ns - lag_ns), _time(what, sweep_ns - lag_ns)
        return frames_and_pose(_look_up(what, lookup, lidar_frame, image, lidar_frame, sweep, fixed))[1]


def _look_up(what: str, lookup: Callable[..., Any], *arguments: object) -> Any:
    """Result of a TF lookup, its errors as ExtrinsicError."""
    try:
        return lookup(*arguments)
    except Exception as error:  # tf2, which defines the exceptions, may not be installed
        raise ExtrinsicError(f"no transform {what}: {error}") from error


def _look_up_latest(what: str, buffer: TransformBuffer, target: str, source: str) -> Any:
    """The latest transform from one frame to another; the error names a similar frame if TF lacks one of the two."""
    try:
        return _look_up(what, buffer.lookup_transform, target, source, Time())
    except ExtrinsicError as error:
        known = _known_frames(buffer)
        raise ExtrinsicError(
            f"{error}{nearest_frame_hint(source, known)}{nearest_frame_hint(target, known)}"
        ) from error


def _known_frames(buffer: TransformBuffer) -> set[str]:
    """The frames of TF; empty if they cannot be listed."""
    try:
        return {child or parent for child, parent in _FRAMES.findall(buffer.all_frames_as_yaml())}
    except Exception:  # the hint must not hide the error that it is added to
        return set()


def _time(what: str, nanoseconds: int) -> Time:
    if nanoseconds < 0:  # at the start of a simulation
        raise ExtrinsicError(f"no transform {what}: its time is negative")
    return Time(nanoseconds=nanoseconds)


def _lag_ns(what: str, newest_ns: int, required_ns: int) -> int:
    """Lag of the newest transform behind the required time.

    Raises:
        ExtrinsicError: the lag is too long.
    """
    if newest_ns == _STATIC_NS:
        return 0
    lag_ns = max(required_ns - newest_ns, 0)
    if lag_ns > _MAX_LAG_NS:
        raise ExtrinsicError(f"no transform {what}: the newest is {lag_ns * 1e-9:.2f} s older")
    return lag_ns


class Transforms:
    """TF listener of a node, created when it is first needed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer: Any = None
        self._listener: Any = None

    def buffer(self, why: str, instead: str) -> TransformBuffer:
        """TF buffer, filled by a listener.

        Args:
            why: why TF is needed, for the error.
            instead: alternative without TF, for the error.

        Raises:
            ConfigError: tf2_ros is not installed.
        """
        if self._buffer is None:
            try:
                from tf2_ros import Buffer, TransformListener
            except ImportError as error:
                raise ConfigError(f"{why} and tf2_ros is not installed; {instead}") from error
            self._buffer = Buffer(node=self._node)
            self._listener = TransformListener(self._buffer, self._node, spin_thread=False)
        buffer: TransformBuffer = self._buffer
        return buffer

    def close(self) -> None:
        """Remove the listener."""
        if self._buffer is None:
            return
        # Otherwise subscriptions, service and the clock's callback stay with the node.
        self._listener.unregister()
        self._node.destroy_service(self._buffer.srv)
        handle = getattr(self._buffer, "jump_handle", None)  # older versions have none
        if handle is not None:
            handle.unregister()
        self._buffer = self._listener = None


def choose_extrinsic(transforms: Transforms, projection_frame: str, values: tuple[float, ...]) -> Extrinsic | None:
    """Extrinsic according to the parameters; None if points are projected from the cloud's own frame.

    Raises:
        ConfigError: TF is needed and tf2_ros is not installed.
    """
    if not projection_frame:
        return None
    if values:
        fixed = transform(values[:3], values[3:])
        return lambda frame_id: fixed
    buffer = transforms.buffer(f"projection_frame is '{projection_frame}'", "set projection_extrinsic instead")
    return TfExtrinsic(buffer, projection_frame)


def camera_poses(transforms: Transforms, extrinsics: Mapping[str, tuple[float, ...]], fixed_frame: str) -> CameraPoses:
    """Camera poses according to the parameters.

    Args:
        transforms: TF, if it is needed.
        extrinsics: of each camera, x y z qx qy qz qw of the LiDAR's frame in its optical frame; empty for TF.
        fixed_frame: see :class:`CameraPoses`.

    Raises:
        ConfigError: TF is needed and tf2_ros is not installed.
    """
    fixed = {name: transform(values[:3], values[3:]) for name, values in extrinsics.items() if values}
    tf_uses = [(f"cameras.{name}.extrinsic is empty", "set it") for name in extrinsics if name not in fixed]
    tf_uses += [(f"fixed_frame is '{fixed_frame}'", "leave it empty")] if fixed_frame and extrinsics else []
    return CameraPoses(fixed, transforms.buffer(*tf_uses[0]) if tf_uses else None, fixed_frame)


def transform_cloud(cloud: PointCloud, matrix: NDArray[np.float64]) -> PointCloud:
    """Transform the points of a cloud by a (4, 4) pose."""
    with np.errstate(invalid="ignore", over="ignore"):
        rotation, translation = matrix[:3, :3].astype(np.float32), matrix[:3, 3].astype(np.float32)
        xyz = cloud.xyz @ rotation.T + translation
    return PointCloud(xyz, cloud.intensity, cloud.ring, cloud.height, cloud.width)
