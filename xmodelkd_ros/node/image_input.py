"""Image-to-sweep matching on ROS topics: subscriptions, the collector, and the timer of its deadlines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.node.approximate_sync import ApproximateCollector
from xmodelkd_ros.node.camera_subscriptions import ImageSubscriptions
from xmodelkd_ros.node.frozen_images import FrozenImageDetector
from xmodelkd_ros.node.parameters import Parameters
from xmodelkd_ros.segmentation.image_matching import MatchedSweep, Now, SweepCollector

_POLL_PERIOD_S = 0.005


class ImageInput:
    """Matches images to sweeps in teacher mode; in student mode it passes sweeps on at once.

    All methods are called from the executor's thread; ``mode`` and ``frozen_cameras`` may be read from others.

    Args:
        node: node that subscribes to the images in teacher mode.
        parameters: mode, cameras, slop and deadline.
        on_ready: callback for released sweeps, in order.
        on_unmatched: callback for each sweep that message_filters drops (``sync.policy: approximate`` only).
        on_lost: callback for the name of a camera and the number of its images that were published but not received.

    Attributes:
        lost_images: number of these images by camera.
    """

    def __init__(
        self,
        node: Node,
        parameters: Parameters,
        on_ready: Callable[[list[MatchedSweep[Any, Any]]], None],
        on_unmatched: Callable[[Any], None],
        on_lost: Callable[[str, int], None] = lambda camera, count: None,
    ) -> None:
        self._node, self._on_ready, self._on_unmatched, self._report_lost = node, on_ready, on_unmatched, on_lost
        self.lost_images: Counter[str] = Counter()
        self._parameters = parameters
        self._images: ImageSubscriptions | None = None
        self._frozen = FrozenImageDetector()
        self._unused_before: dict[str, Counter[str]] = {}
        # Steady time, so that a stopped /clock does not hold sweeps back.
        self._timer = node.create_timer(_POLL_PERIOD_S, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()
        with ExitStack() as undo:
            undo.callback(node.destroy_timer, self._timer)
            self._collector = self._new_collector()
            self.update(parameters)
            undo.pop_all()

    @property
    def mode(self) -> str:
        """The node's mode: ``teacher`` uses images, ``student`` does not."""
        return "student" if self._images is None else "teacher"

    @property
    def frozen_cameras(self) -> frozenset[str]:
        """Cameras that currently publish the same image again and again."""
        return self._frozen.frozen_cameras

    @property
    def image_counts(self) -> dict[str, int]:
        """Number of images that no sweep used, by ``CAMERA.images_REASON``; see :class:`SweepCollector`."""
        counts = {f"{camera}.images_frozen": count for camera, count in self._frozen.counts.items()}
        counts |= {f"{camera}.images_lost_in_transport": count for camera, count in self.lost_images.items()}
        for camera, by_reason in self._unused().items():
            counts |= {f"{camera}.images_{reason}": count for reason, count in by_reason.items()}
        return dict(sorted(counts.items()))

    def update(self, parameters: Parameters) -> None:
        """Apply changed parameters, including the mode."""
        if parameters.mode != self.mode:
            teacher = parameters.mode == "teacher"
            cameras = parameters.cameras
            images = ImageSubscriptions(self._node, cameras, self._on_image, self._on_lost) if teacher else None
            self._on_ready(self._collector.flush())
            if self._images is not None:
                self._images.destroy()
            self._images, self._unused_before = images, self._unused()
            self._frozen.reset()
            self._collector = self._new_collector()
        self._parameters = parameters
        self._collector.slop_ns = round(parameters.slop * 1e9)
        self._collector.deadline_ns = round(parameters.deadline * 1e9)
        self._offsets_ns = {camera.name: round(camera.time_offset * 1e9) for camera in parameters.cameras}

    def add_sweep(self, sweep_ns: int, sweep: Any, wait: bool = True) -> None:
        """Add a sweep.

        Args:
            sweep_ns: stamp of the sweep.
            sweep: the sweep.
            wait: whether it waits for images; False releases it at once, together with those before it.
        """
        self._release(self._collector.add_sweep(sweep_ns, sweep, self._now()))
        if not wait:
            self._release(self._collector.flush())

    def destroy(self) -> None:
        """Release waiting sweeps and remove the subscriptions."""
        self._on_ready(self._collector.flush())
        if self._images is not None:
            self._images.destroy()
        self._node.destroy_timer(self._timer)

    def _unused(self) -> dict[str, Counter[str]]:
        """Unused images by camera and reason, including those of earlier collectors."""
        now, before = self._collector.unused, self._unused_before
        return {name: before.get(name, Counter()) + now.get(name, Counter()) for name in (*before, *now)}

    def _new_collector(self) -> SweepCollector[Any, Any] | ApproximateCollector:
        names = [camera.name for camera in self._parameters.cameras] if self._images is not None else []
        if names and self._parameters.policy == "approximate":
            return ApproximateCollector(names, self._on_unmatched)
        return SweepCollector(names, 0, 0)

    def _on_image(self, camera: str, msg: Any) -> None:
        stamp = stamp_ns(msg.header.stamp) + self._offsets_ns[camera]
        if not self._frozen.is_frozen(camera, stamp, msg.data, self._parameters.frozen_after):
            self._release(self._collector.add_image(camera, stamp, msg, self._now()))

    def _on_lost(self, camera: str, count: int) -> None:
        self.lost_images[camera] += count
        self._report_lost(camera, count)

    def problems(self) -> dict[str, str]:
        """Why no image arrives from a camera, by its name."""
        return {} if self._images is None else self._images.problems()

    def _poll(self) -> None:
        self._release(self._collector.poll(self._now()))

    def _release(self, sweeps: list[MatchedSweep[Any, Any]]) -> None:
        """Pass released sweeps on, and run the timer only while others wait."""
        if sweeps:
            self._on_ready(sweeps)
        if len(self._collector):
            if self._timer.is_canceled():
                self._timer.reset()
        elif not self._timer.is_canceled():
            self._timer.cancel()

    def _now(self) -> Now:
        return Now(self._node.get_clock().now().nanoseconds, time.monotonic_ns())
