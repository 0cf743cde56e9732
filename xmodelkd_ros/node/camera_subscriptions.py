"""Subscriptions to the topics of cameras: CameraInfo and images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from xmodelkd_ros.node.adaptive_subscription import AdaptiveSubscription
from xmodelkd_ros.node.input_watch import silence
from xmodelkd_ros.node.parameters import CameraParameters


class _Subscriptions:
    """Subscription of each camera, by its name."""

    setting = ""
    """Parameter ``cameras.NAME.`` that names the topic."""

    def __init__(self, node: Node, subscribe: Mapping[str, Callable[[], AdaptiveSubscription]]) -> None:
        self._node = node
        self._subscriptions: dict[str, AdaptiveSubscription] = {}
        with ExitStack() as undo:
            undo.callback(self.destroy)
            for name, create in subscribe.items():
                self._subscriptions[name] = create()
            undo.pop_all()

    def problems(self) -> dict[str, str]:
        """Why nothing arrives from a camera, by its name; see :func:`~xmodelkd_ros.node.input_watch.silence`."""
        texts = {
            name: silence(self._node, subscription, f"set cameras.{name}.{self.setting}")
            for name, subscription in self._subscriptions.items()
        }
        return {name: text for name, text in texts.items() if text}

    def destroy(self) -> None:
        """Remove the subscriptions."""
        for subscription in self._subscriptions.values():
            subscription.destroy()


class CameraInfoSubscriptions(_Subscriptions):
    """Subscribes to CameraInfo in every mode, because some drivers publish it only once, and keeps the latest."""

    setting = "info_topic"

    def __init__(self, node: Node, cameras: Sequence[CameraParameters]) -> None:
        self.latest: dict[str, Any] = {}

        def subscribe(camera: CameraParameters) -> AdaptiveSubscription:
            on_info = partial(self.latest.__setitem__, camera.name)
            # Latched, for messages sent before this node started.
            return AdaptiveSubscription(node, CameraInfo, camera.info_topic, on_info, latched=True)

        super().__init__(node, {camera.name: partial(subscribe, camera) for camera in cameras})

    def problems(self) -> dict[str, str]:
        """As for images, for cameras of which no CameraInfo has arrived yet."""
        return {name: text for name, text in super().problems().items() if name not in self.latest}


class ImageSubscriptions(_Subscriptions):
    """Subscribes to the images of cameras.

    Args:
        node: node that subscribes.
        cameras: cameras to subscribe to.
        on_image: callback for the name of a camera and its image.
        on_lost: callback for the name of a camera and the number of its images that were published but not received.
    """

    setting = "image_topic"

    def __init__(
        self,
        node: Node,
        cameras: Sequence[CameraParameters],
        on_image: Callable[[str, Any], None],
        on_lost: Callable[[str, int], None],
    ) -> None:
        def subscribe(camera: CameraParameters) -> AdaptiveSubscription:
            image_type = CompressedImage if camera.compressed else Image
            on_message, lost = partial(on_image, camera.name), partial(on_lost, camera.name)
            return AdaptiveSubscription(node, image_type, camera.image_topic, on_message, lost)

        super().__init__(node, {camera.name: partial(subscribe, camera) for camera in cameras})
