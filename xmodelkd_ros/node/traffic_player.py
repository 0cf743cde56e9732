"""Publishes sweeps by a timetable, from a bag that holds one sweep of each size.

    python -m xmodelkd_ros.node.traffic_player BAG TIMETABLE --log FILE [--follow TOPIC] [--timeout 20]

The timetable has one JSON line for each sweep, in order of time; ``--log`` says when it left, as that of
:mod:`xmodelkd_ros.node.player`:

    {"at_s": 0.1, "stamp_ns": 123, "points": 107000}

``--follow`` takes no notice of ``at_s``: each sweep leaves as soon as the labels of the one before have come on this
topic, and the log says when they came. The program ends with 0 when all are sent, or on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import PointCloud2

from xmodelkd_ros.bag import BagReader
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.node.outputs import reliable
from xmodelkd_ros.node.player import wait_for_subscribers
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.node.serialized import serialized_stamp_ns, stamped
from xmodelkd_ros.node.sweep_log import SweepLog
from xmodelkd_ros.traffic import Arrival

_TOPIC = "points"
_DEPTH = 10
_LOST_S = 2.0
"""Labels that have not come by then do not come any more."""
_LINGER_S = 0.5
"""Best-effort readers read shared memory, which goes with this process."""


def sweeps_by_points(path: Path) -> dict[int, bytes]:
    """The clouds of a bag as the bytes they were recorded as, by their number of points."""
    with BagReader(path) as reader:
        messages = [bytes(message.data) for message in reader.raw(list(reader.topics))]
    clouds = ((deserialize_message(data, PointCloud2), data) for data in messages)
    return {cloud.height * cloud.width: data for cloud, data in clouds}


def timetable(path: Path) -> Iterator[Arrival]:
    """The lines of a timetable."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield Arrival(**json.loads(line))


class TrafficPlayer:
    """Publishes sweeps.

    Args:
        node: publishes.
        sweeps: by their number of points.
        log: notes when they leave.
    """

    def __init__(self, node: Node, sweeps: dict[int, bytes], log: SweepLog) -> None:
        self.publisher = node.create_publisher(PointCloud2, _TOPIC, reliable(_DEPTH))
        self._sweeps, self._log = sweeps, log

    def play(self, arrivals: Iterator[Arrival], stop: Future) -> None:
        """Publish each sweep at its time."""
        start_s = time.monotonic()
        for arrival in arrivals:
            time.sleep(max(start_s + arrival.at_s - time.monotonic(), 0))
            if stop.done():
                return
            self.send(arrival)

    def send(self, arrival: Arrival) -> None:
        """Publish a sweep now.

        Raises:
            ConfigError: the bag has none of this size.
        """
        if arrival.points not in self._sweeps:
            raise ConfigError(f"the bag has no sweep of {arrival.points} points")
        data = stamped(self._sweeps[arrival.points], arrival.stamp_ns)
        self._log.row(_TOPIC, arrival.stamp_ns, arrival.points, time.monotonic_ns())
        self.publisher.publish(data)


class Follower:
    """Sends a sweep when the labels of the one before are there.

    Args:
        node: subscribes.
        topic: of the labels.
        player: sends.
        log: notes when labels came.
    """

    def __init__(self, node: Node, topic: str, player: TrafficPlayer, log: SweepLog) -> None:
        self._topic, self._player, self._log = topic, player, log
        self._sent: Arrival | None = None
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self.subscription = node.create_subscription(PointCloud2, topic, self._on_labels, reliable(_DEPTH), raw=True)

    def play(self, arrivals: Iterator[Arrival], stop: Future) -> None:
        """Publish all sweeps, one after the other."""
        for arrival in arrivals:
            self._player.send(arrival)
            self._sent, end_s = arrival, time.monotonic() + _LOST_S
            while self._sent is not None and not stop.done() and time.monotonic() < end_s:
                self._executor.spin_once(timeout_sec=0.1)
            if stop.done():
                return

    def _on_labels(self, data: bytes) -> None:
        if self._sent is not None and serialized_stamp_ns(data) == self._sent.stamp_ns:
            self._log.row(self._topic, self._sent.stamp_ns, self._sent.points, time.monotonic_ns())
            self._sent = None


def main(args: Sequence[str] | None = None) -> int:
    """Publish what a timetable says; the exit code."""
    arguments = sys.argv if args is None else list(args)
    options = _parser().parse_args(remove_ros_args(arguments)[1:])
    return run_program(lambda stop: _run(options, arguments, stop))


def _run(options: argparse.Namespace, arguments: Sequence[str], stop: Future) -> int:
    with SweepLog(options.log) as log, ros(arguments):
        node = Node("traffic_player")
        player = TrafficPlayer(node, sweeps_by_points(options.bag), log)
        follower = Follower(node, options.follow, player, log) if options.follow else None
        wait_for_subscribers(node, {_TOPIC: player.publisher}, {_TOPIC: options.subscribers}, options.timeout, stop)
        (follower or player).play(timetable(options.timetable), stop)
        time.sleep(_LINGER_S)
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("traffic_player", description="Publish sweeps by a timetable.")
    parser.add_argument("bag", type=Path, help="bag with one sweep of each size")
    parser.add_argument("timetable", type=Path, help="JSON lines: at_s, stamp_ns, points of each sweep")
    parser.add_argument("--follow", default="", metavar="TOPIC", help="of labels: each sweep waits for the last ones")
    parser.add_argument("--subscribers", type=int, default=1, metavar="N", help="of the sweeps, to wait for")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds to wait for them")
    parser.add_argument("--log", type=Path, help="JSON lines file that says when each sweep left")
    return parser


if __name__ == "__main__":
    sys.exit(main())
