"""Subscriptions to the topics of cameras: CameraInfo and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from xmodelkd_ros.node.parameters import CameraParameters
from xmodelkd_ros.node.qos import latched

_DEPTH = 5
_DISCOVERY_PERIOD_S = 0.5


class CameraInfoSubscriptions:
    """Subscribes to CameraInfo in every mode, because some drivers publish it only once, and keeps the latest."""

    def __init__(self, node: Node, cameras: Sequence[CameraParameters]) -> None:
        self.latest: dict[str, Any] = {}
        self._node = node
        self._subscriptions = [
            _subscribe(node, CameraInfo, camera.info_topic, partial(self._on_info, camera.name)) for camera in cameras
        ]
        self._pending = {camera.name: camera.info_topic for camera in cameras}
        self._timer: Any = None
        if cameras:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = node.create_timer(_DISCOVERY_PERIOD_S, self._subscribe_to_latched, clock=steady)

    def destroy(self) -> None:
        """Remove the subscriptions."""
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_info(self, camera: str, info: Any) -> None:
        self.latest[camera] = info

    def _subscribe_to_latched(self) -> None:
        """Subscribe transient local where all publishers offer it, for messages sent before this node started."""
        self._pending = {name: topic for name, topic in self._pending.items() if name not in self.latest}
        for name, topic in list(self._pending.items()):
            offered = [info.qos_profile.durability for info in self._node.get_publishers_info_by_topic(topic)]
            if offered and all(durability == DurabilityPolicy.TRANSIENT_LOCAL for durability in offered):
                on_info = partial(self._on_info, name)
                self._subscriptions.append(self._node.create_subscription(CameraInfo, topic, on_info, latched()))
                del self._pending[name]
        if not self._pending:
            self._timer.cancel()


class ImageSubscriptions:
    """Subscribes to the images of cameras.

    Args:
        node: node that subscribes.
        cameras: cameras to subscribe to.
        on_image: callback for the name of a camera and its image.
    """

    def __init__(self, node: Node, cameras: Sequence[CameraParameters], on_image: Callable[[str, Any], None]) -> None:
        self._node = node
        self._subscriptions = [
            _subscribe(
                node,
                CompressedImage if camera.compressed else Image,
                camera.image_topic,
                partial(on_image, camera.name),
            )
            for camera in cameras
        ]

    def destroy(self) -> None:
        """Remove the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


def _subscribe(node: Node, message_type: Any, topic: str, callback: Callable[[Any], None]) -> Any:
    # Best effort subscribers match reliable publishers too.
    qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
    overridable = QoSOverridingOptions.with_default_policies()
    return node.create_subscription(message_type, topic, callback, qos, qos_overriding_options=overridable)
