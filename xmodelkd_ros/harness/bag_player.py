"""Plays a bag over ROS at its own timing, and logs when each sweep left.

    python -m xmodelkd_ros.harness.bag_player BAG [--rate 1.0] [--topics T ...] [--loop] [--clock]
        [--wait-for-subscribers TOPIC:N ...] [--timeout 20] [--log FILE] [--ros-args ...]

Messages are published as the bytes they were recorded as, spaced by their times of recording;
latched topics are latched again. With ``--wait-for-subscribers`` the first message waits until each
TOPIC (of the bag or not) has N subscribers, for ``--timeout`` seconds at most. Topics whose message
package is not installed are skipped with a note on stderr.

``--log`` writes one JSON line for each cloud, with ``time.monotonic_ns()`` right before publishing:

    {"topic": "/points", "stamp_ns": 123, "points": 107000, "monotonic_ns": 456}

The program ends with 0 when everything is sent and acknowledged, or on SIGINT or SIGTERM. An error
is one line on stderr and exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import PointCloud2

from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, BagReader, RawMessage
from xmodelkd_ros.core.errors import BagError, ConfigError, listed
from xmodelkd_ros.harness.sim_clock import CLOCK_PERIOD_S, SimClock
from xmodelkd_ros.harness.sweep_log import SweepLog, message_class
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.node.qos import latched, reliable

_POLL_S = 0.02
_SETTLE_S = 0.5
"""A match is seen on one side first; a message sent before the other side sees it is lost."""

_LINGER_S = 0.5
"""Best-effort readers acknowledge nothing and read shared memory, which goes with this process."""

_DEPTH = 10


class Player:
    """Publishes the messages of a bag.

    Args:
        node: publishes.
        reader: an open bag.
        topics: names of the topics to play; empty for all.
        clock: whether to publish ``/clock``.
        log: where clouds are noted.

    Attributes:
        notes: topics that cannot be played, and why.
        publishers: by topic.

    Raises:
        BagError: a topic is not in the bag, or none can be played.
    """

    def __init__(self, node: Node, reader: BagReader, topics: Sequence[str], clock: bool, log: SweepLog) -> None:
        self._node = node
        self._reader = reader
        self._log = log
        self._clock = SimClock(node) if clock else None
        self.publishers: dict[str, Publisher] = {}
        self.notes = list(reader.notes)
        for name in topics or reader.topics:
            self._add(name)
        if not self.publishers:
            raise BagError(f"bag {reader.path} has no topic that can be played: {listed(self.notes)}")

    def _add(self, name: str) -> None:
        topic = self._reader.topics.get(name)
        if topic is None:
            raise BagError(f"bag {self._reader.path} has no topic '{name}'; it has {listed(self._reader.topics)}")
        type_ = message_class(topic.type)
        if type_ is None:
            self.notes.append(f"{name} skipped: the package of {topic.type} is not installed")
            return
        self.publishers[name] = self._node.create_publisher(
            type_, name, latched() if topic.latched else reliable(_DEPTH)
        )

    def play(self, rate: float, stop: Future) -> None:
        """Publish every message once, at its time.

        Args:
            rate: how many times faster than recorded.
            stop: ends the play when done.
        """
        start = time.monotonic()
        origin_ns: int | None = None
        for message in self._reader.raw(self.publishers.keys()):
            cloud = self._cloud_to_log(message)
            origin_ns = message.log_time_ns if origin_ns is None else origin_ns
            # From the start, not from the message before: errors do not add up.
            due = start + (message.log_time_ns - origin_ns) * 1e-9 / rate
            self._wait(due, message.log_time_ns, rate, stop)
            if stop.done():
                return
            if cloud is not None:
                self._log.message(message.topic, cloud, time.monotonic_ns())
            self.publishers[message.topic].publish(bytes(message.data))

    def _cloud_to_log(self, message: RawMessage) -> PointCloud2 | None:
        is_cloud = self._reader.topics[message.topic].type == POINT_CLOUD_TYPE
        return deserialize_message(message.data, PointCloud2) if is_cloud and self._log.enabled else None

    def _wait(self, due: float, log_time_ns: int, rate: float, stop: Future) -> None:
        """Sleep until a message is due, and let the clock run meanwhile."""
        while not stop.done():
            left_s = max(due - time.monotonic(), 0.0)
            if self._clock is not None:
                self._clock.show(log_time_ns - round(left_s * rate * 1e9))
            if left_s == 0:
                return
            time.sleep(min(left_s, CLOCK_PERIOD_S))

    def finish(self) -> None:
        """Return when reliable subscribers have everything."""
        for publisher in self.publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=_LINGER_S))
        time.sleep(_LINGER_S)


def wait_for_subscribers(
    node: Node, publishers: Mapping[str, Publisher], wanted: Mapping[str, int], timeout_s: float, stop: Future
) -> None:
    """Return when every topic has its number of subscribers.

    Args:
        node: knows topics that others publish.
        publishers: own ones, by topic; they count who is matched, not only who is there.
        wanted: how many for each topic.
        timeout_s: how long to wait.
        stop: ends the wait when done.

    Raises:
        ConfigError: they did not come in time.
    """
    deadline = time.monotonic() + timeout_s

    def count(topic: str) -> int:
        own = publishers.get(topic)
        return int(own.get_subscription_count() if own is not None else node.count_subscribers(topic))

    def missing() -> list[str]:
        there = {topic: count(topic) for topic in wanted}
        return [f"{topic} has {there[topic]} of {n}" for topic, n in wanted.items() if there[topic] < n]

    while lacking := missing():
        if stop.done():
            return
        if time.monotonic() > deadline:
            raise ConfigError(f"subscribers did not come within {timeout_s:g} s: {', '.join(lacking)}")
        time.sleep(_POLL_S)
    time.sleep(_SETTLE_S)


def main(args: Sequence[str] | None = None) -> int:
    """Play a bag; the exit code."""
    arguments = sys.argv if args is None else list(args)
    options = _parser().parse_args(remove_ros_args(arguments)[1:])
    return run_program(lambda stop: _run(options, arguments, stop))


def _run(options: argparse.Namespace, arguments: Sequence[str], stop: Future) -> int:
    with BagReader(options.bag) as reader, SweepLog(options.log) as log, ros(arguments):
        node = Node("bag_player")
        player = Player(node, reader, options.topics, options.clock, log)
        for note in player.notes:
            print(f"note: {note}", file=sys.stderr)
        wanted = dict(options.wait_for_subscribers)
        wait_for_subscribers(node, player.publishers, wanted, options.timeout, stop)
        player.play(options.rate, stop)
        while options.loop and not stop.done():
            player.play(options.rate, stop)
        player.finish()
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bag_player", description="Play a bag over ROS at its own timing.")
    parser.add_argument("bag", type=Path, help="rosbag2 folder or single file")
    parser.add_argument("--rate", type=_positive, default=1.0, help="how many times faster than recorded")
    parser.add_argument("--topics", nargs="+", default=(), metavar="T", help="topics to play (default: all)")
    parser.add_argument("--loop", action="store_true", help="start again at the end, until a signal comes")
    parser.add_argument("--clock", action="store_true", help="publish /clock")
    parser.add_argument(
        "--wait-for-subscribers", nargs="+", type=_topic_and_count, default=(), metavar="TOPIC:N", help="before playing"
    )
    parser.add_argument("--timeout", type=_positive, default=20.0, help="seconds to wait for subscribers")
    parser.add_argument("--log", type=Path, help="JSON lines file that says when each cloud was published")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _topic_and_count(text: str) -> tuple[str, int]:
    topic, _, count = text.rpartition(":")
    if not topic or not count.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not TOPIC:N, such as /points:1")
    return topic, int(count)


if __name__ == "__main__":
    sys.exit(main())
