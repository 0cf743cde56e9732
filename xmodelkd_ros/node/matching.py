"""From topics to sweeps with their images: subscriptions, the collector, and the timer that keeps its deadlines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from xmodelkd_ros.messages import stamp_ns
from xmodelkd_ros.node.approximate import ApproximateCollector
from xmodelkd_ros.node.cameras import CameraSubscriptions, FrozenImages
from xmodelkd_ros.node.parameters import Parameters
from xmodelkd_ros.sync import MatchedSweep, Now, SweepCollector

_POLL_S = 0.005


class Matching:
    """Gives sweeps their images in teacher mode, and lets them through at once otherwise.

    All methods are called from the executor's thread; ``infos`` and ``frozen_now`` may be read from others.

    Args:
        node: subscribes to the cameras while they are looked at.
        parameters: the cameras, and how long to wait for them.
        ready: takes the sweeps that go on, in order.
        unmatched: takes each sweep that message_filters drops (``sync.policy: approximate`` only).

    Attributes:
        frozen: images that were the same for too long, by camera.
        frozen_now: the cameras whose last image was.
    """

    def __init__(
        self,
        node: Node,
        parameters: Parameters,
        ready: Callable[[list[MatchedSweep[Any, Any]]], None],
        unmatched: Callable[[Any], None],
    ) -> None:
        self.frozen: Counter[str] = Counter()
        self.frozen_now: set[str] = set()
        self._node, self._ready, self._unmatched = node, ready, unmatched
        self._subscriptions: CameraSubscriptions | None = None
        self._frozen = FrozenImages()
        # Steady time: a stopped /clock must not keep a sweep.
        self._timer = node.create_timer(_POLL_S, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()
        self._parameters = parameters
        self._collector = self._new_collector()
        self.update(parameters)

    @property
    def infos(self) -> dict[str, Any]:
        """The latest CameraInfo of each camera."""
        subscriptions = self._subscriptions  # the worker asks, and they may go meanwhile
        return subscriptions.infos if subscriptions is not None else {}

    @property
    def unused(self) -> dict[str, Counter[str]]:
        """Images that no sweep got, by camera and reason (see :class:`xmodelkd_ros.sync.SweepCollector`)."""
        return self._collector.unused

    def update(self, parameters: Parameters) -> None:
        """Take other values of the parameters that may change, the mode among them."""
        self._parameters = parameters
        looks = parameters.mode == "teacher"
        if looks != (self._subscriptions is not None):
            self._ready(self._collector.flush())
            if self._subscriptions is not None:
                self._subscriptions.destroy()
            self._subscriptions = CameraSubscriptions(self._node, parameters.cameras, self._on_image) if looks else None
            self._collector = self._new_collector()
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
        if self._subscriptions is not None:
            self._subscriptions.destroy()
        self._node.destroy_timer(self._timer)

    def _new_collector(self) -> SweepCollector[Any, Any] | ApproximateCollector:
        names = [camera.name for camera in self._parameters.cameras] if self._subscriptions is not None else []
        if names and self._parameters.policy == "approximate":
            return ApproximateCollector(names, self._unmatched)
        return SweepCollector(names, 0, 0)

    def _on_image(self, camera: str, msg: Any) -> None:
        stamp = stamp_ns(msg.header.stamp) + self._offsets_ns[camera]
        after_ns = self._parameters.frozen_after * 1e9
        if self._frozen.frozen_ns(camera, stamp, msg.data) > after_ns > 0:
            self.frozen[camera] += 1
            self.frozen_now.add(camera)
            return
        self.frozen_now.discard(camera)
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
