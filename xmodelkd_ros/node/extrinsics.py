"""Where things are: the frame a cloud comes in, the LiDAR's own, and the cameras'; from TF or from parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError, XModelKDError
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.messages.headers import frames_and_pose, stamp_ns

Extrinsic = Callable[[str], NDArray[np.float64]]
"""The (4, 4) pose of a frame, named by its id, in the projection frame: p_projection = T p_cloud."""

_NEVER_MOVES = 0
"""The stamp of the latest transform between two frames that are joined by static ones only."""

_LONGEST_LAG_NS = 200_000_000
"""How far TF may be behind a sweep and its image. A vehicle hardly changes its speed meanwhile."""


class ExtrinsicError(XModelKDError):
    """A transform that is needed is not known yet."""


class TransformBuffer(Protocol):
    """What is used of ``tf2_ros.Buffer``. Lookups have no timeout: it would sleep in the worker."""

    def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> Any:
        """The geometry_msgs/TransformStamped that takes points of the source frame to the target frame."""
        ...

    def lookup_transform_full(
        self, target_frame: str, target_time: Time, source_frame: str, source_time: Time, fixed_frame: str
    ) -> Any:
        """The same from one time to another, through a frame that stands still."""
        ...


class TfExtrinsic:
    """Static poses from TF, asked for once per frame (see ``Extrinsic``).

    Args:
        buffer: filled by a listener.
        projection_frame: the LiDAR's own frame.
    """

    def __init__(self, buffer: TransformBuffer, projection_frame: str) -> None:
        self._buffer = buffer
        self._projection_frame = projection_frame
        self._known: dict[str, NDArray[np.float64]] = {}

    def __call__(self, frame_id: str) -> NDArray[np.float64]:
        """Look the pose up.

        Raises:
            ExtrinsicError: TF does not connect the two frames (yet).
        """
        if frame_id not in self._known:
            what = f"from '{frame_id}' to projection_frame '{self._projection_frame}'"
            found = _asked(what, self._buffer.lookup_transform, self._projection_frame, frame_id, Time())
            self._known[frame_id] = frames_and_pose(found)[1]
        return self._known[frame_id]


class CameraPoses:
    """Where the cameras are, and how the vehicle moved between a sweep and an image.

    Args:
        fixed: (4, 4) pose of the LiDAR's frame in the optical frame of each camera whose parameters say it.
        buffer: TF, for the other cameras and for motion.
        fixed_frame: frame that stands still; empty: the vehicle does.
    """

    def __init__(
        self, fixed: Mapping[str, NDArray[np.float64]], buffer: TransformBuffer | None = None, fixed_frame: str = ""
    ) -> None:
        self._fixed, self._buffer, self._fixed_frame = dict(fixed), buffer, fixed_frame
        self._static: dict[tuple[str, str], NDArray[np.float64]] = {}

    def from_lidar(self, camera: str, camera_frame: str, lidar_frame: str, image_ns: int) -> NDArray[np.float64]:
        """(4, 4) p_camera = T p_lidar when an image was taken.

        Raises:
            ExtrinsicError: TF does not join the two frames (yet).
        """
        if camera in self._fixed:
            return self._fixed[camera]
        frames = (camera_frame, lidar_frame)
        if frames in self._static:
            return self._static[frames]
        assert self._buffer is not None, "there is TF if a camera's parameters do not say where it is"
        what, look_up = f"from '{lidar_frame}' to '{camera_frame}' of camera '{camera}'", self._buffer.lookup_transform
        latest = _asked(what, look_up, *frames, Time())
        newest_ns = stamp_ns(latest.header.stamp)
        if newest_ns == _NEVER_MOVES:
            self._static[frames] = frames_and_pose(latest)[1]
            return self._static[frames]
        at = _time(what, image_ns - _lag_ns(what, newest_ns, image_ns))
        return frames_and_pose(_asked(what, look_up, *frames, at))[1]

    def motion(self, lidar_frame: str, sweep_ns: int, image_ns: int) -> NDArray[np.float64] | None:
        """(4, 4) from the LiDAR's frame at a sweep's stamp to the LiDAR's frame at an image's; None: it stood still.

        Localisation is often a little behind the sensors: the vehicle is then taken to have moved as just before.

        Raises:
            ExtrinsicError: TF does not say how the vehicle moved, not even up to 0.2 s before.
        """
        if not self._fixed_frame or self._buffer is None:
            return None
        fixed, look_up = self._fixed_frame, self._buffer.lookup_transform_full
        what = f"of '{lidar_frame}' in fixed_frame '{fixed}' from the sweep's stamp to the image's"
        latest = _asked(what, self._buffer.lookup_transform, fixed, lidar_frame, Time())
        lag_ns = _lag_ns(what, stamp_ns(latest.header.stamp), max(sweep_ns, image_ns))
        image, sweep = _time(what, image_ns - lag_ns), _time(what, sweep_ns - lag_ns)
        return frames_and_pose(_asked(what, look_up, lidar_frame, image, lidar_frame, sweep, fixed))[1]


def _asked(what: str, look_up: Callable[..., Any], *arguments: object) -> Any:
    """What TF says."""
    try:
        return look_up(*arguments)
    except Exception as error:  # tf2's exceptions can only be named where tf2 is installed
        raise ExtrinsicError(f"no transform {what}: {error}") from error


def _time(what: str, nanoseconds: int) -> Time:
    if nanoseconds < 0:  # at the start of a simulation
        raise ExtrinsicError(f"no transform {what}: that was before time began")
    return Time(nanoseconds=nanoseconds)


def _lag_ns(what: str, newest_ns: int, wanted_ns: int) -> int:
    """How far the newest transform is behind the one that is wanted.

    Raises:
        ExtrinsicError: too far.
    """
    if newest_ns == _NEVER_MOVES:
        return 0
    lag_ns = max(wanted_ns - newest_ns, 0)
    if lag_ns > _LONGEST_LAG_NS:
        raise ExtrinsicError(f"no transform {what}: the newest is {lag_ns * 1e-9:.2f} s older")
    return lag_ns


class Transforms:
    """TF as one node hears it: nothing is listened to before it is needed, and all of it once.

    Args:
        node: listens.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer: Any = None
        self._listener: Any = None

    def buffer(self, why: str, instead: str) -> TransformBuffer:
        """The transforms that are known.

        Args:
            why: they are needed.
            instead: what else could be done.

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
        found: TransformBuffer = self._buffer
        return found

    def close(self) -> None:
        """Stop listening."""
        if self._buffer is None:
            return
        # The node would hold them otherwise: its subscriptions, its service, and its clock's callback.
        self._listener.unregister()
        self._node.destroy_service(self._buffer.srv)
        handle = getattr(self._buffer, "jump_handle", None)  # older ones keep none
        if handle is not None:
            handle.unregister()
        self._buffer = self._listener = None


def choose_extrinsic(transforms: Transforms, projection_frame: str, values: tuple[float, ...]) -> Extrinsic | None:
    """The extrinsic that the parameters ask for; None if points are seen from the cloud's own frame.

    Raises:
        ConfigError: it has to come from TF, and tf2_ros is not installed.
    """
    if not projection_frame:
        return None
    if values:
        fixed = transform(values[:3], values[3:])
        return lambda frame_id: fixed
    buffer = transforms.buffer(f"projection_frame is '{projection_frame}'", "set projection_extrinsic instead")
    return TfExtrinsic(buffer, projection_frame)


def camera_poses(transforms: Transforms, extrinsics: Mapping[str, tuple[float, ...]], fixed_frame: str) -> CameraPoses:
    """Where the cameras are, as parameters say or let TF say.

    Args:
        transforms: TF, where it is needed.
        extrinsics: of each camera, x y z qx qy qz qw of the LiDAR's frame in its optical frame; empty for TF.
        fixed_frame: see :class:`CameraPoses`.

    Raises:
        ConfigError: something has to come from TF, and tf2_ros is not installed.
    """
    fixed = {name: transform(values[:3], values[3:]) for name, values in extrinsics.items() if values}
    wanted = [(f"cameras.{name}.extrinsic is empty", "set it") for name in extrinsics if name not in fixed]
    wanted += [(f"fixed_frame is '{fixed_frame}'", "leave it empty")] if fixed_frame and extrinsics else []
    return CameraPoses(fixed, transforms.buffer(*wanted[0]) if wanted else None, fixed_frame)


def moved(cloud: PointCloud, matrix: NDArray[np.float64]) -> PointCloud:
    """The cloud as seen from another frame: its points moved by a (4, 4) pose."""
    with np.errstate(invalid="ignore", over="ignore"):
        rotation, translation = matrix[:3, :3].astype(np.float32), matrix[:3, 3].astype(np.float32)
        xyz = cloud.xyz @ rotation.T + translation
    return PointCloud(xyz, cloud.intensity, cloud.ring, cloud.height, cloud.width)
