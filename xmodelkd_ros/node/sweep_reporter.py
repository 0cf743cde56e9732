"""Reports on sweeps: ``~/status``, ``/diagnostics``, counters and throttled warnings."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Mapping
from typing import Any

from rclpy.node import Node

from xmodelkd_ros.core.errors import CloudError, XModelKDError
from xmodelkd_ros.messages.clouds import used_fields
from xmodelkd_ros.messages.headers import frame_name, stamp_ns
from xmodelkd_ros.node.diagnostics import (
    WARN,
    LabelledSweep,
    Report,
    SweepStatistics,
    Throttle,
    to_array,
    with_suppressed,
)
from xmodelkd_ros.node.extrinsics import ExtrinsicError
from xmodelkd_ros.node.outputs import Outputs

_REASONS: dict[type[Exception], str] = {CloudError: "bad_cloud", ExtrinsicError: "no_transform"}
"""Reason for a sweep without labels, by the error that was raised; ``failed`` for any other."""
_LARGE_MESSAGES = (
    "give the publisher a DDS profile for large clouds (config/fastdds_large_clouds.xml), "
    "or reduce the load of this machine"
)
_NUMBER = re.compile(r"[\d.]+")
_SILENCE_PERIOD_S = 30.0
"""Interval of warnings that nothing arrives."""

_INPUT_PERIOD_S = 60.0
"""Interval of warnings about the input, which last as long as the drive."""
_CLOCK_S = 3.0
"""Time without /clock after which that is a problem."""
_NO_CLOCK = (
    "use_sim_time is true, but no time arrives on /clock: play the bag with --clock, start the simulator, or set "
    "use_sim_time to false"
)
_MAX_FRAMES = 100
"""Number of frames that are remembered."""


class SweepReporter:
    """Counts what happens to sweeps, publishes it and logs problems, each kind at most every few seconds.

    Args:
        node: its logger and clock are used.
        outputs: its publishers.
        one_frame: whether parameters hold for one frame of the clouds only.
    """

    def __init__(self, node: Node, outputs: Outputs, one_frame: bool = False) -> None:
        self._node, self._outputs = node, outputs
        # With the namespace, because several LiDARs of a vehicle report to the same /diagnostics.
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._statistics = SweepStatistics()
        self._throttle, self._input_throttle = Throttle(), Throttle(_INPUT_PERIOD_S)
        self._silence_throttle = Throttle(_SILENCE_PERIOD_S)
        self._start_s = time.monotonic()
        self._one_frame = one_frame
        self._frame_id: str | None = None
        self._frames: set[str] = set()
        self._frame_changes = 0
        self._fields: dict[str, str] = {}

    def received(self, msg: Any, now_s: float) -> None:
        """Count a sweep that arrived."""
        age_s = (self._node.get_clock().now().nanoseconds - stamp_ns(msg.header.stamp)) * 1e-9
        self._statistics.received(now_s, age_s)
        frame = frame_name(msg.header.frame_id)
        if self._frame_id not in (None, frame):
            self._frame_changes += 1
            # Without such parameters, several LiDARs may share a topic.
            if self._one_frame or frame not in self._frames:
                change = f"the frame of the clouds changed from '{self._frame_id}' to '{frame}'"
                one = "sensor, projection_extrinsic and cameras' extrinsics are those of one LiDAR: start a node each"
                other = "if that is not a LiDAR's own frame, set projection_frame"
                self.warn("frame_changed", f"{change}; {one if self._one_frame else other}")
        if len(self._frames) < _MAX_FRAMES:
            self._frames.add(frame)
        self._frame_id = frame

    def labelled(self, msg: Any, sweep: LabelledSweep, latency_ms: float) -> None:
        """Count a sweep that was published with labels, and publish its status."""
        self._statistics.published(latency_ms, sweep)
        self._fields = used_fields(msg)
        for finding in sweep.findings:
            self.warn(finding.kind, finding.text, self._input_throttle)
        self._publish_status(msg, sweep.report(latency_ms))

    def lost(self, count: int) -> None:
        """Count sweeps that were published but never reached the node, and warn."""
        detail = f"{count} clouds were lost between publisher and node"
        self._statistics.problem("dropped", "lost_in_transport", detail, count)
        self.warn("lost_in_transport", f"{detail}; {_LARGE_MESSAGES}")

    def lost_images(self, camera: str, count: int) -> None:
        """Warn about images that were published but never reached the node."""
        self.warn(
            f"{camera}.lost_in_transport",
            f"{count} images of camera {camera} were lost between publisher and node; {_LARGE_MESSAGES}",
        )

    def failed(self, msg: Any, outcome: str, error: Exception) -> None:
        """Report a sweep that got no labels because of an error."""
        expected = isinstance(error, XModelKDError)
        if not expected:
            self._node.get_logger().debug("".join(traceback.format_exception(error)))
        self.problem(msg, outcome, _REASONS.get(type(error), "failed"), str(error) if expected else repr(error))

    def problem(self, msg: Any, outcome: str, reason: str, detail: str) -> None:
        """Report a sweep that got no labels.

        Args:
            msg: the sweep.
            outcome: ``dropped``, or ``unlabelled`` if it was published without labels.
            reason: one word, the name of the counter.
            detail: one-line description.
        """
        self._statistics.problem(outcome, reason, detail)
        self.warn(reason, f"sweep {outcome}, {reason}: {detail}")
        self._publish_status(msg, Report(WARN, f"{outcome}: {reason}", {"detail": detail}))

    def warn(self, kind: str, text: str, throttle: Throttle | None = None) -> None:
        """Log a warning, unless one of its kind was logged in the last seconds."""
        suppressed = (throttle or self._throttle).due(kind, time.monotonic())
        if suppressed is not None:
            self._node.get_logger().warning(with_suppressed(text, suppressed))

    def warn_of_silence(self, text: str) -> None:
        """Log a warning that nothing arrives on a topic, unless the same, but for numbers, was in the last 30 s."""
        self.warn(_NUMBER.sub("", text), text, self._silence_throttle)

    def publish_diagnostics(
        self, description: Mapping[str, str], image_counts: Mapping[str, int], silence: str = ""
    ) -> None:
        """Publish the node's diagnostics: what runs, statistics of sweeps, and counts of unused images.

        Args:
            description: what runs.
            image_counts: numbers of unused images.
            silence: why no sweep arrives, if none does; also logged.
        """
        stopped_clock = _NO_CLOCK if self._lacks_clock() else ""
        if stopped_clock:
            self.warn_of_silence(stopped_clock)
        report = self._statistics.report(time.monotonic(), silence, stopped_clock)
        if silence and report.message.endswith(silence):
            self.warn_of_silence(f"no sweep arrives: {silence}")
        values = {
            **description,
            **report.values,
            **{name: str(count) for name, count in image_counts.items()},
            **({"frame_changes": str(self._frame_changes)} if self._frame_changes else {}),
            **{f"{use}_field": name for use, name in self._fields.items()},
        }
        stamp, name = self._node.get_clock().now().to_msg(), f"{self._name}: segmentation"
        self._outputs.diagnostics(
            to_array(Report(report.level, report.message, values), stamp, name, self._frame_id or "")
        )

    def _lacks_clock(self) -> bool:
        """Whether the node's time is that of /clock, which has not come for a while."""
        clock = self._node.get_clock()
        return clock.ros_time_is_active and clock.now().nanoseconds == 0 and time.monotonic() - self._start_s > _CLOCK_S

    def _publish_status(self, msg: Any, report: Report) -> None:
        self._outputs.status(to_array(report, msg.header.stamp, f"{self._name}: sweep", msg.header.frame_id))
