"""The way of a sweep through the node: checked and handed to a thread, labelled and published there, or reported."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.errors import CloudError, XModelKDError
from xmodelkd_ros.messages import stamp_ns
from xmodelkd_ros.node.diagnostics import OK, WARN, Report, SweepStatistics, Throttle, to_array
from xmodelkd_ros.node.extrinsics import ExtrinsicError
from xmodelkd_ros.node.outputs import Outputs
from xmodelkd_ros.node.parameters import OutputOptions
from xmodelkd_ros.node.segmenter import Segmenter
from xmodelkd_ros.node.stamps import StampOrder
from xmodelkd_ros.node.worker import NewestWinsWorker
from xmodelkd_ros.pipeline import Result

_REASONS: dict[type[Exception], str] = {CloudError: "bad_cloud", ExtrinsicError: "no_transform"}
"""Why a sweep got no labels, by what its processing raised; anything else is ``failed``."""


@dataclass(frozen=True, eq=False)
class _Sweep:
    """A cloud as it came in, and when (seconds of the monotonic clock)."""

    msg: Any
    arrival_s: float


class SweepLabeller:
    """Labels every sweep that an active node gets, in stamp order, as long as the model keeps up.

    Beyond that the newest wins. What is dropped is counted by reason, logged (not more often than
    every few seconds) and has its line in ``~/status``.

    Args:
        node: its clock and logger are used.
        segmenter: labels a cloud.
        outputs: publishes.
        options: of the output; may be replaced at any time and hold from the next sweep on.
    """

    def __init__(self, node: Node, segmenter: Segmenter, outputs: Outputs, options: OutputOptions) -> None:
        self.options = options
        self._node = node
        # With its namespace: a vehicle has several LiDARs, and all report to /diagnostics.
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._segmenter = segmenter
        self._outputs = outputs
        self._statistics = SweepStatistics()
        self._throttle = Throttle()
        self._order = StampOrder()
        self._frame_id = ""
        self._worker = NewestWinsWorker(self._label, self._replaced, self._failed)

    def on_points(self, msg: Any) -> None:
        """Take a cloud (the subscription's callback)."""
        sweep = _Sweep(msg, time.monotonic())
        self._statistics.received(sweep.arrival_s)
        self._frame_id = msg.header.frame_id
        if self._order.accept(stamp_ns(msg.header.stamp)):
            self._worker.submit(sweep)
        else:
            self._report(msg, "dropped", "out_of_order", "its stamp is older than that of the sweep before")

    def on_lost(self, event: Any) -> None:
        """Count what the middleware lost before it got here (the subscription's event)."""
        count = event.total_count_change
        detail = f"{count} clouds were lost between publisher and node"
        self._statistics.problem("dropped", "lost_in_transport", detail, count)

    def stop(self) -> None:
        """End once the sweeps at hand are out. :meth:`on_points` must not be called any more."""
        self._worker.stop()

    def report(self) -> None:
        """Publish diagnostics (a timer's callback)."""
        report = self._statistics.report(time.monotonic())
        values = {**self._segmenter.description, **report.values}
        name = f"{self._name}: segmentation"
        stamp = self._node.get_clock().now().to_msg()
        self._outputs.diagnostics(to_array(Report(report.level, report.message, values), stamp, name, self._frame_id))

    def _label(self, sweep: _Sweep) -> None:
        options = self.options
        start = time.perf_counter()
        cloud = self._segmenter.decode(sweep.msg)
        decoded = time.perf_counter()
        try:
            result = self._segmenter.segment(cloud, sweep.msg.header.frame_id, options)
        except Exception as error:
            # The cloud is good: it goes out all the same, for those who wait for it.
            self._outputs.publish(sweep.msg, cloud, Segmentation.unlabelled(len(cloud)), options)
            self._report_failure(sweep.msg, "unlabelled", error)
            return
        segmented = time.perf_counter()
        self._outputs.publish(sweep.msg, cloud, result.segmentation, options)
        publish_ms = (time.perf_counter() - segmented) * 1e3
        stages = {"decode": (decoded - start) * 1e3, **result.stages_ms, "publish": publish_ms}
        latency_ms = (time.monotonic() - sweep.arrival_s) * 1e3
        self._statistics.published(latency_ms, stages)
        self._outputs.status(self._status(sweep.msg, _labelled(result, len(cloud), latency_ms, stages)))

    def _replaced(self, sweep: _Sweep) -> None:
        self._report(sweep.msg, "dropped", "overload", "a newer sweep came before the model was free")

    def _failed(self, sweep: _Sweep, error: Exception) -> None:
        self._report_failure(sweep.msg, "dropped", error)

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


def _labelled(result: Result, points: int, latency_ms: float, stages_ms: dict[str, float]) -> Report:
    """The status of a sweep that went out."""
    values = {
        "mode": result.mode,
        "cameras": "",
        "points": str(points),
        "points_invalid": str(result.invalid),
        "latency_ms": f"{latency_ms:.2f}",
        **{f"{stage}_ms": f"{milliseconds:.2f}" for stage, milliseconds in stages_ms.items()},
    }
    return Report(OK, "labelled", values)
