"""Subscriptions to cameras: their calibrations, their images, and images that stay the same."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from xmodelkd_ros.node.parameters import CameraParameters
from xmodelkd_ros.node.qos import latched
from xmodelkd_ros.segmentation.image_matching import JUMP_NS

_DEPTH = 5
_LOOK_PERIOD_S = 0.5
_SAMPLE = 1 << 16
"""Bytes of an image that tell whether it is the one before: noise changes some of any thousand."""
_PIXEL_BYTES = 2 * 3 * 4
"""A multiple of the bytes of any pixel."""


class CameraInfos:
    """Subscribes to the calibrations, whatever the mode is: some are sent once only.

    Args:
        node: subscribes.
        cameras: to what.

    Attributes:
        latest: the latest CameraInfo of each camera that sent one.
    """

    def __init__(self, node: Node, cameras: Sequence[CameraParameters]) -> None:
        self.latest: dict[str, Any] = {}
        self._node = node
        self._subscriptions = [
            _subscription(node, CameraInfo, camera.info_topic, partial(self._take, camera.name)) for camera in cameras
        ]
        self._to_look_for = {camera.name: camera.info_topic for camera in cameras}
        self._timer: Any = None
        if cameras:
            self._timer = node.create_timer(_LOOK_PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy(self) -> None:
        """Stop taking anything."""
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _take(self, name: str, info: Any) -> None:
        self.latest[name] = info

    def _look(self) -> None:
        """Ask publishers that keep what they said before this node came for it, until each camera has a CameraInfo."""
        self._to_look_for = {name: topic for name, topic in self._to_look_for.items() if name not in self.latest}
        for name, topic in list(self._to_look_for.items()):
            offered = [info.qos_profile.durability for info in self._node.get_publishers_info_by_topic(topic)]
            if offered and all(durability == DurabilityPolicy.TRANSIENT_LOCAL for durability in offered):
                take = partial(self._take, name)
                self._subscriptions.append(self._node.create_subscription(CameraInfo, topic, take, latched()))
                del self._to_look_for[name]
        if not self._to_look_for:
            self._timer.cancel()


class ImageSubscriptions:
    """Subscribes to the images.

    Args:
        node: subscribes.
        cameras: to what.
        on_image: takes each image, and the name of its camera.
    """

    def __init__(self, node: Node, cameras: Sequence[CameraParameters], on_image: Callable[[str, Any], None]) -> None:
        self._node = node
        self._subscriptions = [
            _subscription(
                node,
                CompressedImage if camera.compressed else Image,
                camera.image_topic,
                partial(on_image, camera.name),
            )
            for camera in cameras
        ]

    def destroy(self) -> None:
        """Stop taking anything."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


def _subscription(node: Node, type_: Any, topic: str, callback: Callable[[Any], None]) -> Any:
    # Best effort takes from reliable publishers too.
    qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
    overridable = QoSOverridingOptions.with_default_policies()
    return node.create_subscription(type_, topic, callback, qos, qos_overriding_options=overridable)


class FrozenImageDetector:
    """Finds cameras that send one image again and again."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, int, int]] = {}  # what, the stamp of the first and of the last

    def frozen_ns(self, camera: str, stamp_ns: int, data: Any) -> int:
        """For how long an image has been the same, to the bit, by its camera's stamps."""
        content = _content(data)
        before, first, last = self._since.get(camera, (None, stamp_ns, stamp_ns))
        if content != before or stamp_ns < last - JUMP_NS:
            first = stamp_ns
        self._since[camera] = (content, first, stamp_ns)
        return stamp_ns - first


def _content(data: Any) -> int:
    values: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
    step = 1 + len(values) // _SAMPLE
    while math.gcd(step, _PIXEL_BYTES) > 1:  # every byte of a pixel has its turn
        step += 1
    return zlib.crc32(values[::step].tobytes(), len(values))
