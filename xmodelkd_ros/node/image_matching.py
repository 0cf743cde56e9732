"""From topics to sweeps with their images: subscriptions, the collector, and the timer that keeps its deadlines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.node.approximate_sync import ApproximateCollector
from xmodelkd_ros.node.camera_subscriptions import CameraInfos, FrozenImageDetector, ImageSubscriptions
from xmodelkd_ros.node.parameters import Parameters
from xmodelkd_ros.segmentation.image_matching import MatchedSweep, Now, SweepCollector

_POLL_S = 0.005
_FROZEN_S = 1.0
"""How long after its last image a camera that froze is still called so."""


class ImageSync:
    """Gives sweeps their images in teacher mode, and lets them through at once otherwise.

    All methods are called from the executor's thread; ``infos`` and ``frozen_now`` may be read from others.

    Args:
        node: subscribes to the cameras while they are looked at.
        parameters: the cameras, and how long to wait for them.
        ready: takes the sweeps that go on, in order.
        unmatched: takes each sweep that message_filters drops (``sync.policy: approximate`` only).

    Attributes:
        frozen: images that were the same for too long, by camera.
    """

    def __init__(
        self,
        node: Node,
        parameters: Parameters,
        ready: Callable[[list[MatchedSweep[Any, Any]]], None],
        unmatched: Callable[[Any], None],
    ) -> None:
        self.frozen: Counter[str] = Counter()
        self._frozen_at_s: dict[str, float] = {}
        self._unused: dict[str, Counter[str]] = {}
        self._node, self._ready, self._unmatched = node, ready, unmatched
        self._images: ImageSubscriptions | None = None
        self._infos = CameraInfos(node, parameters.cameras)
        self._frozen = FrozenImageDetector()
        # Steady time: a stopped /clock must not keep a sweep.
        self._timer = node.create_timer(_POLL_S, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()
        self._parameters = parameters
        self._collector = self._new_collector()
        self.update(parameters)

    @property
    def infos(self) -> dict[str, Any]:
        """The latest CameraInfo of each camera."""
        return self._infos.latest

    @property
    def frozen_now(self) -> frozenset[str]:
        """The cameras that send one image again and again."""
        now_s = time.monotonic()
        return frozenset(name for name, at_s in self._frozen_at_s.copy().items() if now_s - at_s < _FROZEN_S)

    @property
    def unused(self) -> dict[str, Counter[str]]:
        """Images that no sweep got, by camera and reason (see :class:`xmodelkd_ros.segmentation.image_matching.SweepCollector`)."""
        now = self._collector.unused
        names = (*self._unused, *now)
        return {name: self._unused.get(name, Counter()) + now.get(name, Counter()) for name in names}

    def update(self, parameters: Parameters) -> None:
        """Take other values of the parameters that may change, the mode among them."""
        looks = parameters.mode == "teacher"
        if looks != (self._images is not None):
            images = ImageSubscriptions(self._node, parameters.cameras, self._on_image) if looks else None
            self._ready(self._collector.flush())
            if self._images is not None:
                self._images.destroy()
            self._images, self._unused = images, self.unused
            self._frozen_at_s.clear()
            self._collector = self._new_collector()
        self._parameters = parameters
        self._collector.slop_ns = round(parameters.slop * 1e9)
        self._collector.deadline_ns = round(parameters.deadline * 1e9)
        self._offsets_ns = {camera.name: round(camera.time_offset * 1e9) for camera in parameters.cameras}

    def add_sweep(self, sweep_ns: int, sweep: Any, wait: bool = True) -> None:
        """Take a sweep.

        Args:
            sweep_ns: its stamp.
            sweep: the sweep.
            wait: for images; False lets it go at once, and those that wait before it.
        """
        self._go(self._collector.add_sweep(sweep_ns, sweep, self._now()))
        if not wait:
            self._go(self._collector.flush())

    def destroy(self) -> None:
        """Let what waits go, and take nothing any more."""
        self._ready(self._collector.flush())
        if self._images is not None:
            self._images.destroy()
        self._infos.destroy()
        self._node.destroy_timer(self._timer)

    def _new_collector(self) -> SweepCollector[Any, Any] | ApproximateCollector:
        names = [camera.name for camera in self._parameters.cameras] if self._images is not None else []
        if names and self._parameters.policy == "approximate":
            return ApproximateCollector(names, self._unmatched)
        return SweepCollector(names, 0, 0)

    def _on_image(self, camera: str, msg: Any) -> None:
        stamp = stamp_ns(msg.header.stamp) + self._offsets_ns[camera]
        after_ns = self._parameters.frozen_after * 1e9
        if self._frozen.frozen_ns(camera, stamp, msg.data) > after_ns > 0:
            self.frozen[camera] += 1
            self._frozen_at_s[camera] = time.monotonic()
            return
        self._frozen_at_s.pop(camera, None)
        self._go(self._collector.add_image(camera, stamp, msg, self._now()))

    def _poll(self) -> None:
        self._go(self._collector.poll(self._now()))

    def _go(self, sweeps: list[MatchedSweep[Any, Any]]) -> None:
        if sweeps:
            self._ready(sweeps)
        if len(self._collector):
            if self._timer.is_canceled():
                self._timer.reset()
        elif not self._timer.is_canceled():
            self._timer.cancel()

    def _now(self) -> Now:
        return Now(self._node.get_clock().now().nanoseconds, time.monotonic_ns())
