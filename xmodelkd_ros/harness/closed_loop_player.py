"""Closed-loop player: publishes a bag repeatedly, each sweep once the labels of the previous one have arrived.

    python -m xmodelkd_ros.harness.closed_loop_player BAG --points /points --labels /segmenter/labels --sweeps 10000
        [--cameras /front/image_raw:/front/camera_info ...] [--idle 0] [--timeout 20] [--log FILE] [--ros-args ...]

Every pass continues the stamps of the previous one, so that they form one drive. Images are published before the sweep
that is nearest in time. ``--idle`` sleeps after each sweep, for a fraction of its latency. ``--log``
records the publication of each sweep and the arrival of all labels (format of
:mod:`xmodelkd_ros.harness.bag_player`). Exit code 0 when all sweeps are sent, or on SIGINT or SIGTERM; 1 after an
error, which is one line on stderr.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import PointCloud2

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.console import non_negative_float, positive_float, positive_int
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.harness.bag_player import wait_for_subscribers
from xmodelkd_ros.harness.cdr import serialized_stamp_ns
from xmodelkd_ros.harness.looped_drive import DriveMessage, LoopedDrive, camera_topics
from xmodelkd_ros.harness.sweep_log import SweepLog, add_usable_arguments, usable_points
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.node.qos import reliable

_DEPTH = 10
_LABEL_TIMEOUT_S = 5.0
"""Labels that have not arrived by then are lost."""
_MAX_LOST = 3
"""Consecutive sweeps without labels after which playback fails."""
_LINGER_S = 1.5
"""Time for duplicated labels and the node's last diagnostics to arrive."""


class ClosedLoopPlayer:
    """Publishes a drive at the rate at which its sweeps are labelled."""

    def __init__(self, node: Node, drive: LoopedDrive, labels: str, log: SweepLog) -> None:
        self._drive, self._labels, self._log = drive, labels, log
        self.publishers = drive.publishers(node)
        self._awaited_ns: int | None = None
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self.subscription = node.create_subscription(PointCloud2, labels, self._on_labels, reliable(_DEPTH), raw=True)

    def play(self, sweeps: int, idle: float, stop: Future) -> None:
        """Publish a number of sweeps and the other messages between them.

        Args:
            sweeps: number of sweeps.
            idle: sleep after each sweep, as a fraction of its latency.
            stop: ends playback when done.

        Raises:
            ConfigError: no labels arrive any more.
        """
        remaining, lost = sweeps, 0
        for message in self._drive.messages(sweep_delay_ns=self._drive.sweep_ns // 2):
            if stop.done() or remaining == 0:
                break
            if message.points is None:
                self._publish(message)
                continue
            start_s, remaining = time.monotonic(), remaining - 1
            self._send(message, message.points)
            self._spin(_LABEL_TIMEOUT_S, stop, until_labels=True)
            lost = 0 if self._awaited_ns is None else lost + 1
            if lost == _MAX_LOST:
                sent = sweeps - remaining
                raise ConfigError(
                    f"no labels on {self._labels} for the last {lost} of {sent} sweeps; see the node's log"
                )
            if idle:
                self._spin(idle * (time.monotonic() - start_s), stop)
        self._spin(_LINGER_S, stop)

    def _send(self, message: DriveMessage, points: int) -> None:
        assert message.stamp_ns is not None  # a cloud has one
        self._awaited_ns = message.stamp_ns + message.offset_ns
        self._log.row(message.topic, self._awaited_ns, points, time.monotonic_ns())
        self._publish(message)

    def _publish(self, message: DriveMessage) -> None:
        self.publishers[message.topic].publish(self._drive.data(message, message.offset_ns))

    def _spin(self, seconds: float, stop: Future, until_labels: bool = False) -> None:
        """Run callbacks for some seconds, or only until the awaited labels have arrived."""
        end_s = time.monotonic() + seconds
        while (remaining_s := end_s - time.monotonic()) > 0 and not stop.done():
            if until_labels and self._awaited_ns is None:
                return
            self._executor.spin_once(timeout_sec=min(remaining_s, 0.1))

    def _on_labels(self, data: bytes) -> None:
        stamp, monotonic_ns = serialized_stamp_ns(data), time.monotonic_ns()
        self._log.message(self._labels, deserialize_message(data, PointCloud2), monotonic_ns)
        if stamp == self._awaited_ns:
            self._awaited_ns = None


def main(args: Sequence[str] | None = None) -> int:
    """Play a bag in closed loop and return the exit code."""
    arguments = sys.argv if args is None else list(args)
    options = _parser().parse_args(remove_ros_args(arguments)[1:])
    return run_program(lambda stop: _run(options, arguments, stop))


def _run(options: argparse.Namespace, arguments: Sequence[str], stop: Future) -> int:
    cameras = dict(options.cameras)
    with BagReader(options.bag) as reader, SweepLog(options.log, usable_points(options)) as log, ros(arguments):
        drive = LoopedDrive(reader, options.points, cameras)
        node = Node("closed_loop_player")
        player = ClosedLoopPlayer(node, drive, options.labels, log)
        required = dict.fromkeys((options.points, *cameras, *cameras.values()), 1)
        wait_for_subscribers(node, player.publishers, required, options.timeout, stop)
        player.play(options.sweeps, options.idle, stop)
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "closed_loop_player", description="Publish a bag at the rate at which its sweeps are labelled."
    )
    parser.add_argument("bag", type=Path, help="rosbag2 folder or single file")
    parser.add_argument("--points", required=True, metavar="TOPIC", help="topic of the sweeps")
    parser.add_argument("--labels", required=True, metavar="TOPIC", help="topic of the labels")
    parser.add_argument(
        "--cameras", nargs="+", type=camera_topics, default=(), metavar="IMAGE:INFO", help="topics of each camera"
    )
    parser.add_argument("--sweeps", type=positive_int, required=True, metavar="N", help="number of sweeps to publish")
    parser.add_argument(
        "--idle",
        type=non_negative_float,
        default=0.0,
        metavar="FRACTION",
        help="sleep after each sweep, as a fraction of its latency",
    )
    parser.add_argument("--timeout", type=positive_float, default=20.0, help="seconds to wait for subscribers")
    add_usable_arguments(parser)
    parser.add_argument("--log", type=Path, help="JSON lines file of published sweeps and received labels")
    return parser


if __name__ == "__main__":
    sys.exit(main())
