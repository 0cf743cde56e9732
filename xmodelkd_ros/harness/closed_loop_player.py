"""Plays a bag over and over as fast as its sweeps get labels: each leaves when the labels of the one before have come.

    python -m xmodelkd_ros.harness.closed_loop_player BAG --points /points --labels /segmenter/labels --sweeps 10000
        [--cameras /front/image_raw:/front/camera_info ...] [--idle 0] [--timeout 20] --log FILE

Every pass goes on where the one before ended: stamps are those of one drive. Images leave before the sweep that they
are nearest to. ``--idle`` waits between sweeps, as a share of the time that the labels took. ``--log`` says when each
sweep left and when labels came, all of them (see :mod:`xmodelkd_ros.harness.bag_player`). The program ends with 0 when all
are sent, or on SIGINT or SIGTERM. An error is one line on stderr and exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import PointCloud2

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.harness.bag_player import wait_for_subscribers
from xmodelkd_ros.harness.cdr import serialized_points, serialized_stamp_ns
from xmodelkd_ros.harness.looped_drive import LoopedDrive, Recorded, camera_topics
from xmodelkd_ros.harness.sweep_log import SweepLog
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.node.qos import reliable

_DEPTH = 10
_LOST_S = 5.0
"""Labels that have not come by then do not come any more."""
_MOST_LOST = 3
"""Sweeps in a row without labels; then nobody answers any more."""
_LINGER_S = 1.5
"""Labels that come twice, and the node's last diagnostics, come by then."""


class ClosedLoopPlayer:
    """Publishes a drive at the speed of its labels.

    Args:
        node: publishes.
        drive: the drive.
        labels: topic of the labels.
        log: notes when sweeps left and labels came.

    Attributes:
        publishers: by topic.
    """

    def __init__(self, node: Node, drive: LoopedDrive, labels: str, log: SweepLog) -> None:
        self._drive, self._labels, self._log = drive, labels, log
        self.publishers = drive.publishers(node)
        self._awaited_ns: int | None = None
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self.subscription = node.create_subscription(PointCloud2, labels, self._on_labels, reliable(_DEPTH), raw=True)

    def play(self, sweeps: int, idle: float, stop: Future) -> None:
        """Publish so many sweeps, and what belongs to them.

        Args:
            sweeps: how many.
            idle: seconds to wait after labels for each second that they took.
            stop: ends the play when done.

        Raises:
            ConfigError: no labels come any more.
        """
        left, lost = sweeps, 0
        for message in self._drive.messages(sweeps_wait_ns=self._drive.sweep_ns // 2):
            if stop.done() or left == 0:
                break
            if message.points is None:
                self._publish(message)
                continue
            start_s, left = time.monotonic(), left - 1
            self._send(message, message.points)
            self._spin(_LOST_S, stop, for_labels=True)
            lost = 0 if self._awaited_ns is None else lost + 1
            if lost == _MOST_LOST:
                raise ConfigError(
                    f"no labels on {self._labels} for the last {lost} of {sweeps - left} sweeps; look at the node's log"
                )
            if idle:
                self._spin(idle * (time.monotonic() - start_s), stop)
        self._spin(_LINGER_S, stop)

    def _send(self, message: Recorded, points: int) -> None:
        assert message.stamp_ns is not None  # a cloud has one
        self._awaited_ns = message.stamp_ns + message.later_ns
        self._log.row(message.topic, self._awaited_ns, points, time.monotonic_ns())
        self._publish(message)

    def _publish(self, message: Recorded) -> None:
        self.publishers[message.topic].publish(self._drive.data(message, message.later_ns))

    def _spin(self, seconds: float, stop: Future, for_labels: bool = False) -> None:
        """Take labels for some seconds; no longer than until those have come that are awaited, if so."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and not stop.done():
            if for_labels and self._awaited_ns is None:
                return
            self._executor.spin_once(timeout_sec=min(left_s, 0.1))

    def _on_labels(self, data: bytes) -> None:
        stamp = serialized_stamp_ns(data)
        self._log.row(self._labels, stamp, serialized_points(data), time.monotonic_ns())
        if stamp == self._awaited_ns:
            self._awaited_ns = None


def main(args: Sequence[str] | None = None) -> int:
    """Play a bag at the speed of its labels; the exit code."""
    arguments = sys.argv if args is None else list(args)
    options = _parser().parse_args(remove_ros_args(arguments)[1:])
    return run_program(lambda stop: _run(options, arguments, stop))


def _run(options: argparse.Namespace, arguments: Sequence[str], stop: Future) -> int:
    cameras = dict(options.cameras)
    with BagReader(options.bag) as reader, SweepLog(options.log) as log, ros(arguments):
        drive = LoopedDrive(reader, options.points, cameras)
        node = Node("closed_loop_player")
        player = ClosedLoopPlayer(node, drive, options.labels, log)
        wanted = dict.fromkeys((options.points, *cameras, *cameras.values()), 1)
        wait_for_subscribers(node, player.publishers, wanted, options.timeout, stop)
        player.play(options.sweeps, options.idle, stop)
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("closed_loop_player", description="Play a bag as fast as its sweeps get labels.")
    parser.add_argument("bag", type=Path, help="rosbag2 folder or single file")
    parser.add_argument("--points", required=True, metavar="TOPIC", help="of the sweeps")
    parser.add_argument("--labels", required=True, metavar="TOPIC", help="of their labels")
    parser.add_argument("--cameras", nargs="+", type=camera_topics, default=(), metavar="IMAGE:INFO", help="topics")
    parser.add_argument("--sweeps", type=int, required=True, metavar="N", help="to send")
    parser.add_argument("--idle", type=float, default=0.0, metavar="SHARE", help="of the time labels take, to wait")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds to wait for subscribers")
    parser.add_argument("--log", type=Path, help="JSON lines file that says when sweeps left and labels came")
    return parser


if __name__ == "__main__":
    sys.exit(main())
