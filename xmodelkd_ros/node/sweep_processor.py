"""Processing of sweeps from the subscription to the publishers."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.node.camera_frames import CameraFrameBuilder
from xmodelkd_ros.node.camera_subscriptions import CameraInfoSubscriptions
from xmodelkd_ros.node.diagnostics import LabelledSweep
from xmodelkd_ros.node.image_input import ImageInput
from xmodelkd_ros.node.loaded_models import LoadedModels
from xmodelkd_ros.node.outputs import OutputOptions, Outputs
from xmodelkd_ros.node.parameters import Parameters
from xmodelkd_ros.node.stamp_order import StampOrder
from xmodelkd_ros.node.sweep_reporter import SweepReporter
from xmodelkd_ros.node.teacher_fallback import TeacherFallback
from xmodelkd_ros.node.worker import NewestWinsWorker
from xmodelkd_ros.segmentation.image_matching import MatchedSweep
from xmodelkd_ros.segmentation.pipeline import Stopwatch


@dataclass(frozen=True, eq=False)
class _Sweep:
    """A PointCloud2 and its arrival time in seconds of the monotonic clock."""

    msg: Any
    arrival_s: float


class SweepProcessor:
    """Labels the sweeps of an active node in stamp order.

    A sweep is received in the executor's thread, waits for its images in teacher mode, and is decoded, labelled and
    published in a worker thread. Under overload the newest sweep wins. Every sweep is reported, labelled or not.
    """

    def __init__(
        self,
        node: Node,
        models: LoadedModels,
        outputs: Outputs,
        parameters: Parameters,
        options: OutputOptions,
    ) -> None:
        self._models, self._outputs, self._options = models, outputs, options
        extrinsics = [parameters.projection_extrinsic, *(camera.extrinsic for camera in parameters.cameras)]
        self._reporter = SweepReporter(node, outputs, one_frame=models.has_sensor or any(extrinsics))
        self._order = StampOrder()
        self._worker = NewestWinsWorker(self._process, self._on_replaced, self._on_error)
        with ExitStack() as undo:  # a subscription may fail, because of an invalid QoS override
            undo.callback(self._worker.stop)
            self._sync = ImageInput(
                node,
                parameters,
                lambda sweeps: self._worker.submit(*sweeps),
                self._on_unmatched,
                self._reporter.lost_images,
            )
            undo.callback(self._sync.destroy)
            self._camera_infos = CameraInfoSubscriptions(node, parameters.cameras)
            undo.pop_all()
        self._builder = CameraFrameBuilder(parameters, models.camera_poses, self._camera_infos.latest)
        self._fallback = TeacherFallback(models, self._builder, self._sync, self._worker, self._reporter)

    def on_points(self, msg: Any) -> None:
        """Receive a sweep (callback of the subscription)."""
        now_s = time.monotonic()
        stamp = stamp_ns(msg.header.stamp)
        self._reporter.received(msg, now_s)
        wait = self._fallback.sweep_received(now_s)
        if self._order.accept(stamp):
            self._sync.add_sweep(stamp, _Sweep(msg, now_s), wait)
        else:
            self._reporter.problem(msg, "dropped", "out_of_order", "its stamp is older than that of the previous sweep")

    def on_lost(self, count: int) -> None:
        """Report sweeps that were published but never reached the node (callback of the subscription)."""
        self._reporter.lost(count)

    def update(self, parameters: Parameters, options: OutputOptions) -> None:
        """Apply changed parameters from the next sweep on."""
        self._sync.update(parameters)
        self._options = options

    def stop(self) -> None:
        """Finish the sweeps received so far. :meth:`on_points` must not be called afterwards."""
        self._sync.destroy()
        self._camera_infos.destroy()
        self._worker.stop()

    def publish_diagnostics(self, input_problem: str) -> None:
        """Publish diagnostics (callback of a timer).

        Args:
            input_problem: why no sweep arrives; empty if they do.
        """
        self._builder.image_problems, self._builder.info_problems = self._sync.problems(), self._camera_infos.problems()
        for camera, problem in {**self._builder.info_problems, **self._builder.image_problems}.items():
            self._reporter.warn_of_silence(f"camera {camera}: {problem}")
        description = {"mode": self._sync.mode, **self._models.description}
        self._reporter.publish_diagnostics(description, self._sync.image_counts, input_problem)

    def _process(self, matched: MatchedSweep[_Sweep, Any]) -> None:
        """Decode, label and publish a sweep (in the worker thread)."""
        msg, options, clock, start_s = matched.sweep.msg, self._options, Stopwatch(), time.monotonic()
        with clock("decode"):
            cloud = self._models.decode(msg)
        self._models.begin(stamp_ns(msg.header.stamp), msg.header.frame_id)
        try:
            frames, result = self._fallback.segment(matched, cloud, msg.header.frame_id, options, clock)
        except Exception as error:
            # The cloud itself is valid, so subscribers that need every sweep still get it.
            self._outputs.publish(msg, cloud, Segmentation.unlabelled(len(cloud)), options, self._models)
            self._reporter.failed(msg, "unlabelled", error)
            return
        with clock("publish"):
            uncertain = self._outputs.publish(msg, cloud, result.segmentation, options, self._models)
        now_s = time.monotonic()
        labelled = LabelledSweep(
            result,
            len(cloud),
            matched.release_reason,
            frames.used,
            frames.missing,
            clock.milliseconds,
            self._models.check_input(),
            self._models.sensor_state,
            uncertain,
        )
        self._reporter.labelled(msg, labelled, (now_s - matched.sweep.arrival_s) * 1e3)
        self._fallback.sweep_published(result.mode, now_s - start_s, now_s)

    def _on_replaced(self, matched: MatchedSweep[_Sweep, Any]) -> None:
        detail = "a newer sweep arrived before the model was free"
        self._reporter.problem(matched.sweep.msg, "dropped", "overload", detail)
        self._fallback.sweep_dropped(time.monotonic())

    def _on_unmatched(self, sweep: _Sweep) -> None:
        detail = "message_filters found no image from every camera for it"
        self._reporter.problem(sweep.msg, "dropped", "unmatched", detail)

    def _on_error(self, matched: MatchedSweep[_Sweep, Any], error: Exception) -> None:
        self._reporter.failed(matched.sweep.msg, "dropped", error)
