"""From the frame a cloud comes in to the LiDAR's own frame, which the model sees it from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError, XModelKDError
from xmodelkd_ros.core.transforms import transform

Extrinsic = Callable[[str], NDArray[np.float64]]
"""The (4, 4) pose of a frame, named by its id, in the projection frame: p_projection = T p_cloud."""


class ExtrinsicError(XModelKDError):
    """A transform that is needed is not known yet."""


class TransformBuffer(Protocol):
    """What is used of ``tf2_ros.Buffer``."""

    def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> Any:
        """The geometry_msgs/TransformStamped that takes points of the source frame to the target frame."""
        ...


class TfExtrinsic:
    """Static poses from TF, asked for once per frame (see ``Extrinsic``).

    Args:
        buffer: filled by a listener; looked up without a timeout, which would sleep in the worker.
        projection_frame: the LiDAR's own frame.
        listener: what fills the buffer for as long as somebody holds it.
    """

    def __init__(self, buffer: TransformBuffer, projection_frame: str, listener: object = None) -> None:
        self._buffer = buffer
        self._projection_frame = projection_frame
        self._listener = listener
        self._known: dict[str, NDArray[np.float64]] = {}

    def __call__(self, frame_id: str) -> NDArray[np.float64]:
        """Look the pose up.

        Raises:
            ExtrinsicError: TF does not connect the two frames (yet).
        """
        if frame_id not in self._known:
            self._known[frame_id] = self._look_up(frame_id)
        return self._known[frame_id]

    def _look_up(self, frame_id: str) -> NDArray[np.float64]:
        try:
            stamped = self._buffer.lookup_transform(self._projection_frame, frame_id, Time())
        except Exception as error:  # tf2's exceptions can only be named where tf2 is installed
            raise ExtrinsicError(
                f"no transform from '{frame_id}' to projection_frame '{self._projection_frame}': {error}"
            ) from error
        t, q = stamped.transform.translation, stamped.transform.rotation
        return transform((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))


def choose_extrinsic(node: Node, projection_frame: str, values: tuple[float, ...]) -> Extrinsic | None:
    """The extrinsic that the parameters ask for; None if points are seen from the cloud's own frame.

    Raises:
        ConfigError: it has to come from TF, and tf2_ros is not installed.
    """
    if not projection_frame:
        return None
    if values:
        fixed = transform(values[:3], values[3:])
        return lambda frame_id: fixed
    try:
        from tf2_ros import Buffer, TransformListener
    except ImportError as error:
        raise ConfigError(
            f"projection_frame is '{projection_frame}' and tf2_ros is not installed; set projection_extrinsic instead"
        ) from error
    buffer = Buffer(node=node)
    return TfExtrinsic(buffer, projection_frame, TransformListener(buffer, node, spin_thread=False))


def moved(cloud: PointCloud, matrix: NDArray[np.float64]) -> PointCloud:
    """The cloud as seen from another frame: its points moved by a (4, 4) pose."""
    rotation, translation = matrix[:3, :3].astype(np.float32), matrix[:3, 3].astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        xyz = cloud.xyz @ rotation.T + translation
    return PointCloud(xyz, cloud.intensity, cloud.ring, cloud.height, cloud.width)
