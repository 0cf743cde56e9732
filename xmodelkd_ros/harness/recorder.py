"""Recorder: records topics into a bag and logs the arrival time of each message.

    python -m xmodelkd_ros.harness.recorder --topics /segmenter/labels /segmenter/status /diagnostics
        [--out FILE.mcap [--discard-unfinished]] [--log FILE] [--pause SECONDS] [--ros-args ...]

Waits until each topic has a publisher, and subscribes with the type and QoS that it offers.
``--out`` stores every message as the received bytes, at the system time of its arrival.
``--log`` writes a line ``{"event": "ready"}`` once all topics are matched, and one JSON line per message
with ``time.monotonic_ns()`` on arrival; ``points`` is null for other messages than clouds, ``stamp_ns`` for
messages without a header:

    {"topic": "/segmenter/labels", "stamp_ns": 123, "points": 107000, "monotonic_ns": 456}

A labelled cloud whose usable points lack labels also has ``"labelled": false``; ``--min-range`` and ``--ego-box`` are
those of the model and of the sensor file.

``--pause`` sleeps after each message, to simulate a slow subscriber.

Exit code 0 on SIGINT or SIGTERM, when the complete bag is moved to its place; 1 after an error (a full disk too), which
is one line on stderr. After an error, or a kill (less the last second), the recording stays in a folder
``FILE.mcap.unfinished-...``, from which ``xmodelkd recover`` makes a bag.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.utilities import remove_ros_args

from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.console import non_negative_float
from xmodelkd_ros.core.errors import ConfigError, XModelKDError
from xmodelkd_ros.harness.sweep_log import SweepLog, add_usable_arguments, message_class, usable_points
from xmodelkd_ros.node.process import ros, run_program, spin
from xmodelkd_ros.node.qos import reliable

_POLL_S = 0.02
_MATCH_S = 5.0
_DEPTH = 100
"""Queue depth: messages that may wait while a large one is written."""
_FLUSH_PERIOD_S = 1.0
"""What a recording may lose when the process is killed."""


class Recorder:
    """Subscribes to topics and records their messages in a bag, if any, and in a log."""

    def __init__(self, node: Node, bag: BagWriter | None, log: SweepLog, pause_s: float = 0.0) -> None:
        self._node = node
        self._bag = bag
        self._log = log
        self._pause_s = pause_s
        self._subscriptions: list[Any] = []

    def connect(self, topics: Sequence[str], stop: Future) -> None:
        """Subscribe to every topic as soon as it has a publisher, and log ``ready`` once all are matched.

        Raises:
            ConfigError: the package of a topic's type is not installed.
            BagError: the bag cannot store a topic's type.
        """
        missing = list(topics)
        while missing and not stop.done():
            for topic in tuple(missing):
                publishers = self._node.get_publishers_info_by_topic(topic)
                if publishers:
                    self._subscribe(topic, publishers)
                    missing.remove(topic)
            time.sleep(_POLL_S)
        if not missing:
            self._wait_for_matches(stop)
            self._log.event("ready")

    def _wait_for_matches(self, stop: Future) -> None:
        """Wait until all subscriptions are matched: messages published before are lost on a busy machine."""
        end_s = time.monotonic() + _MATCH_S
        while not stop.done() and time.monotonic() < end_s:
            # Subscriptions of Humble do not report it.
            counts = [getattr(subscription, "get_publisher_count", lambda: 1)() for subscription in self._subscriptions]
            if all(counts):
                return
            time.sleep(_POLL_S)

    def _subscribe(self, topic: str, publishers: Sequence[TopicEndpointInfo]) -> None:
        type_name = publishers[0].topic_type
        type_ = message_class(type_name)
        if type_ is None:
            raise ConfigError(f"cannot record '{topic}': the package of {type_name} is not installed")
        qos = _matching([p.qos_profile for p in publishers])
        if self._bag is not None:
            self._bag.add_topic(topic, type_name, qos.durability == DurabilityPolicy.TRANSIENT_LOCAL)

        def on_message(data: bytes) -> None:
            self._record(topic, type_, data, time.monotonic_ns())

        self._subscriptions.append(self._node.create_subscription(type_, topic, on_message, qos, raw=True))

    def _record(self, topic: str, type_: Any, data: bytes, monotonic_ns: int) -> None:
        if self._bag is not None:
            self._bag.write_raw(topic, time.time_ns(), data)
        if self._log.enabled:
            self._log.message(topic, deserialize_message(data, type_), monotonic_ns)
        time.sleep(self._pause_s)


def _matching(offered: Sequence[QoSProfile]) -> QoSProfile:
    """Strictest QoS that is compatible with all of several publishers."""
    qos = reliable(_DEPTH)
    if any(q.reliability == ReliabilityPolicy.BEST_EFFORT for q in offered):
        qos.reliability = ReliabilityPolicy.BEST_EFFORT
    if all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered):
        qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return qos


def main(args: Sequence[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM and return the exit code."""
    arguments = sys.argv if args is None else list(args)
    options = _parser().parse_args(remove_ros_args(arguments)[1:])
    return run_program(lambda stop: _run(options, arguments, stop))


def _run(options: argparse.Namespace, arguments: Sequence[str], stop: Future) -> int:
    with ExitStack() as stack:
        keep = not options.discard_unfinished
        bag = stack.enter_context(BagWriter(options.out, keep=keep)) if options.out is not None else None
        log = stack.enter_context(SweepLog(options.log, usable_points(options)))
        stack.enter_context(ros(arguments))
        node = Node("recorder")
        if bag is not None:
            node.create_timer(_FLUSH_PERIOD_S, bag.flush, clock=Clock(clock_type=ClockType.STEADY_TIME))
        Recorder(node, bag, log, options.pause).connect(options.topics, stop)
        spin(node, stop, fatal=XModelKDError)
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("recorder", description="Record topics into a bag and log arrival times.")
    parser.add_argument("--topics", nargs="+", required=True, metavar="T", help="topics to record")
    parser.add_argument("--out", type=Path, help="bag to write (.mcap file or folder)")
    parser.add_argument("--log", type=Path, help="JSON lines file")
    parser.add_argument("--pause", type=non_negative_float, default=0.0, help="seconds to sleep after each message")
    add_usable_arguments(parser)
    parser.add_argument("--discard-unfinished", action="store_true", help="delete an unfinished bag")
    return parser


if __name__ == "__main__":
    sys.exit(main())
