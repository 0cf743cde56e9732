"""The way of a sweep through the node: checked and handed to a thread, labelled and published there, or reported."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import CloudError, XModelKDError
from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.node.camera_captures import CameraFrames
from xmodelkd_ros.node.diagnostics import WARN, LabelledSweep, Report, SweepStatistics, Throttle, to_array
from xmodelkd_ros.node.extrinsics import ExtrinsicError
from xmodelkd_ros.node.image_matching import ImageSync
from xmodelkd_ros.node.loaded_models import LoadedModels
from xmodelkd_ros.node.outputs import Outputs
from xmodelkd_ros.node.parameters import OutputOptions, Parameters
from xmodelkd_ros.node.stamp_order import StampOrder
from xmodelkd_ros.node.teacher_pace import TeacherPace
from xmodelkd_ros.node.worker import NewestWinsWorker
from xmodelkd_ros.segmentation.image_matching import MatchedSweep
from xmodelkd_ros.segmentation.pipeline import Result, Stopwatch

_REASONS: dict[type[Exception], str] = {CloudError: "bad_cloud", ExtrinsicError: "no_transform"}
"""Why a sweep got no labels, by what its processing raised; anything else is ``failed``."""


_PLACES = 20
"""Sweeps that may wait while the teacher is at work, and until the student has caught up with them."""
_CATCH_UP = 3.0
"""How many times as long as the teacher took that may last. Then the newest wins again."""


@dataclass(frozen=True, eq=False)
class _Sweep:
    """A cloud as it came in, and when (seconds of the monotonic clock)."""

    msg: Any
    arrival_s: float


class SweepProcessor:
    """Labels every sweep that an active node gets, in stamp order, as long as the model keeps up.

    Beyond that the newest wins. What is dropped is counted by reason, logged (not more often than
    every few seconds) and has its line in ``~/status``. In teacher mode a sweep waits for the cameras' images, up to
    its deadline; what is missing then costs the teacher, never the sweep.

    Args:
        node: its clock and logger are used.
        segmenter: labels a cloud.
        outputs: publishes.
        parameters: of the node.
    """

    def __init__(self, node: Node, segmenter: LoadedModels, outputs: Outputs, parameters: Parameters) -> None:
        self._node = node
        # With its namespace: a vehicle has several LiDARs, and all report to /diagnostics.
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._segmenter = segmenter
        self._outputs = outputs
        self._options = OutputOptions.of(parameters, segmenter.labels)
        self._mode = parameters.mode
        self._statistics = SweepStatistics()
        self._throttle = Throttle()
        self._order = StampOrder()
        self._pace = TeacherPace()
        self._frame_id = ""
        self._worker = NewestWinsWorker(self._label, self._replaced, self._failed)
        self._catches_up_until_s = -math.inf
        self._matching = ImageSync(node, parameters, self._submit, self._unmatched)

    def on_points(self, msg: Any) -> None:
        """Take a cloud (the subscription's callback)."""
        now_s = time.monotonic()
        stamp = stamp_ns(msg.header.stamp)
        self._statistics.received(now_s, (self._node.get_clock().now().nanoseconds - stamp) * 1e-9)
        self._pace.arrived(now_s)
        self._frame_id = msg.header.frame_id
        if self._order.accept(stamp):
            self._matching.add_sweep(stamp, _Sweep(msg, now_s), wait=not self._pace.rests(now_s))
        else:
            self._report(msg, "dropped", "out_of_order", "its stamp is older than that of the sweep before")

    def on_lost(self, count: int) -> None:
        """Count clouds that were published and did not get here."""
        detail = f"{count} clouds were lost between publisher and node"
        self._statistics.problem("dropped", "lost_in_transport", detail, count)
        held_back = self._throttle.due("lost_in_transport", time.monotonic())
        if held_back is not None:
            self._node.get_logger().warning(
                f"{detail} ({held_back} more times); give the publisher a DDS profile for large messages "
                "(config/fastdds_large_clouds.xml), or this machine less to do"
            )

    def update(self, parameters: Parameters) -> None:
        """Take other values of the parameters that may change; they hold from the next sweep on."""
        options = OutputOptions.of(parameters, self._segmenter.labels)
        self._matching.update(parameters)
        self._options, self._mode = options, parameters.mode

    def stop(self) -> None:
        """End once the sweeps at hand are out. :meth:`on_points` must not be called any more."""
        self._matching.destroy()
        self._worker.stop()

    def report(self) -> None:
        """Publish diagnostics (a timer's callback)."""
        report = self._statistics.report(time.monotonic())
        values = {"mode": self._mode, **self._segmenter.description, **report.values, **self._unused_images()}
        name = f"{self._name}: segmentation"
        stamp = self._node.get_clock().now().to_msg()
        self._outputs.diagnostics(to_array(Report(report.level, report.message, values), stamp, name, self._frame_id))

    def _unused_images(self) -> dict[str, str]:
        counts = {
            f"{camera}.images_{reason}": count
            for camera, by_reason in self._matching.unused.items()
            for reason, count in by_reason.items()
        }
        counts |= {f"{camera}.images_frozen": count for camera, count in self._matching.frozen.items()}
        return {name: str(count) for name, count in sorted(counts.items())}

    def _submit(self, sweeps: list[MatchedSweep[_Sweep, Any]]) -> None:
        self._worker.submit(*sweeps)

    def _label(self, matched: MatchedSweep[_Sweep, Any]) -> None:
        sweep, options, clock, start_s = matched.sweep, self._options, Stopwatch(), time.monotonic()
        with clock("decode"):
            cloud = self._segmenter.decode(sweep.msg)
        try:
            taken, result = self._segmented(matched, cloud, options, clock)
        except Exception as error:
            # The cloud is good: it goes out all the same, for those who wait for it.
            self._outputs.publish(sweep.msg, cloud, Segmentation.unlabelled(len(cloud)), options)
            self._report_failure(sweep.msg, "unlabelled", error)
            return
        with clock("publish"):
            self._outputs.publish(sweep.msg, cloud, result.segmentation, options)
        now_s = time.monotonic()
        labelled = LabelledSweep(
            result, len(cloud), matched.release_reason, taken.used, taken.missing, clock.milliseconds
        )
        self._statistics.published((now_s - sweep.arrival_s) * 1e3, labelled)
        self._outputs.status(self._status(sweep.msg, labelled.report((now_s - sweep.arrival_s) * 1e3)))
        if result.mode == "teacher" and self._pace.took(now_s - start_s, now_s):
            period_ms = self._pace.period_s * 1e3
            self._warn("teacher_too_slow", f"{(now_s - start_s) * 1e3:.0f} ms a sweep, one every {period_ms:.0f} ms")

    def _segmented(
        self, matched: MatchedSweep[_Sweep, Any], cloud: PointCloud, options: OutputOptions, clock: Stopwatch
    ) -> tuple[CameraFrames, Result]:
        """What the cameras took of a sweep, and its labels: the student's where the teacher is not there or fails."""
        frame_id, taken = matched.sweep.msg.header.frame_id, CameraFrames((), {})
        if not self._worker.waiting or time.monotonic() > self._catches_up_until_s:
            self._worker.places = 1  # the newest wins
        if self._mode == "teacher":
            why_not = self._why_not()
            if why_not:
                taken = self._segmenter.not_taken(why_not)
            else:
                with self._many_places():
                    taken, result = self._by_teacher(matched, cloud, options, clock)
                if result is not None:
                    return taken, result
        result = self._segmenter.segment(cloud, frame_id, options)
        clock.milliseconds.update(result.stages_ms)
        return taken, result

    def _why_not(self) -> str:
        """Why the teacher does not look at a sweep; empty if it does."""
        if self._worker.waiting:  # the student, which is quicker, catches up
            return "the teacher is late"
        return "the teacher is too slow, and rests" if self._pace.rests(time.monotonic()) else ""

    def _by_teacher(
        self, matched: MatchedSweep[_Sweep, Any], cloud: PointCloud, options: OutputOptions, clock: Stopwatch
    ) -> tuple[CameraFrames, Result | None]:
        """What the cameras took of a sweep, and the teacher's labels; None if it saw nothing, or failed."""
        frame_id, taken = matched.sweep.msg.header.frame_id, self._segmenter.not_taken("the teacher failed")
        try:
            with clock("decode_images"):
                taken = self._segmenter.take(matched.images, self._matching.infos, frame_id, matched.stamp_ns)
            taken = taken.explained(self._matching.frozen_now)
            if not taken.used:
                return taken, None
            result = self._segmenter.segment(cloud, frame_id, options, taken.camera_frames)
        except Exception as error:
            self._warn("teacher_failed", repr(error))
            return taken.left_to_student(f"the teacher failed: {error!r}"), None
        if result.invalid < len(cloud):  # of an empty sweep no camera sees anything
            taken = taken.without_blind(result.visible_counts)
        if not taken.used:
            return taken, None
        clock.milliseconds.update(result.stages_ms)
        return taken, result

    @contextmanager
    def _many_places(self) -> Iterator[None]:
        """While the teacher works sweeps wait; the student, which is quicker, catches up with them afterwards."""
        start_s = time.monotonic()
        self._worker.places = _PLACES
        try:
            yield
        finally:
            end_s = time.monotonic()
            self._catches_up_until_s = end_s + _CATCH_UP * (end_s - start_s)

    def _warn(self, kind: str, text: str) -> None:
        """Say that the student labels instead of the teacher, not too often."""
        held_back = self._throttle.due(kind, time.monotonic())
        if held_back is not None:
            more = f" ({held_back} more like it)" if held_back else ""
            self._node.get_logger().warning(f"the student labels, {kind}: {text}{more}")

    def _replaced(self, matched: MatchedSweep[_Sweep, Any]) -> None:
        self._report(matched.sweep.msg, "dropped", "overload", "a newer sweep came before the model was free")
        now_s = time.monotonic()
        if self._mode == "teacher" and not self._pace.rests(now_s):
            self._pace.rest(now_s)
            self._warn("teacher_too_slow", "a sweep was dropped")

    def _unmatched(self, sweep: _Sweep) -> None:
        self._report(sweep.msg, "dropped", "unmatched", "message_filters found no image of every camera for it")

    def _failed(self, matched: MatchedSweep[_Sweep, Any], error: Exception) -> None:
        self._report_failure(matched.sweep.msg, "dropped", error)

    def _report_failure(self, msg: Any, outcome: str, error: Exception) -> None:
        expected = isinstance(error, XModelKDError)
        if not expected:
            self._node.get_logger().debug("".join(traceback.format_exception(type(error), error, error.__traceback__)))
        self._report(msg, outcome, _REASONS.get(type(error), "failed"), str(error) if expected else repr(error))

    def _report(self, msg: Any, outcome: str, reason: str, detail: str) -> None:
        """Say that a sweep was dropped, or went out unlabelled, and why."""
        self._statistics.problem(outcome, reason, detail)
        held_back = self._throttle.due(reason, time.monotonic())
        if held_back is not None:
            more = f" ({held_back} more like it)" if held_back else ""
            self._node.get_logger().warning(f"sweep {outcome}, {reason}: {detail}{more}")
        self._outputs.status(self._status(msg, Report(WARN, f"{outcome}: {reason}", {"detail": detail})))

    def _status(self, msg: Any, report: Report) -> DiagnosticArray:
        return to_array(report, msg.header.stamp, f"{self._name}: sweep", msg.header.frame_id)
