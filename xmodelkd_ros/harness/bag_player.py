"""Bag player: publishes a bag with its recorded timing and logs when each sweep was published.

    python -m xmodelkd_ros.harness.bag_player BAG [--rate 1.0] [--topics T ...] [--loop] [--clock]
        [--wait-for-subscribers TOPIC:N ...] [--timeout 20] [--log FILE] [--ros-args ...]

Messages are published as the recorded bytes, spaced by their log times; latched topics are latched
again. With ``--wait-for-subscribers`` the first message is held back until each TOPIC (in the bag or
not) has N subscribers, at most ``--timeout`` seconds. Topics whose message package is not installed
are skipped with a note on stderr.

``--log`` writes one JSON line per cloud, with ``time.monotonic_ns()`` taken right before publishing:

    {"topic": "/points", "stamp_ns": 123, "points": 107000, "monotonic_ns": 456}

Exit code 0 when everything is sent and acknowledged, or on SIGINT or SIGTERM; 1 after an error, which
is one line on stderr.
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
from xmodelkd_ros.console import positive_float
from xmodelkd_ros.core.errors import BagError, ConfigError, listed
from xmodelkd_ros.harness.sim_clock import CLOCK_PERIOD_S, SimClock
from xmodelkd_ros.harness.sweep_log import SweepLog, message_class
from xmodelkd_ros.messages.topics import CLOCK
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.node.qos import latched, reliable

_POLL_S = 0.02
_MATCH_DELAY_S = 0.5
"""One side sees a match before the other; a message sent in between is lost."""

_LINGER_S = 0.5
"""Best-effort readers send no acknowledgements and read from shared memory that this process owns."""

_DEPTH = 10
_MAX_GAP_NS = 3_600_000_000_000
"""Longer gaps are not waited for: they are steps of the recorder's clock, such as from 1970 to today."""


class BagPlayer:
    """Publishes the messages of a bag.

    Args:
        node: node of the publishers.
        reader: an open bag.
        topics: names of the topics to play; empty for all.
        clock: whether to publish ``/clock``; a bag that holds it publishes its own.
        log: log of published clouds.

    Raises:
        BagError: the bag lacks a topic, or none can be played.
    """

    def __init__(self, node: Node, reader: BagReader, topics: Sequence[str], clock: bool, log: SweepLog) -> None:
        self._node = node
        self._reader = reader
        self._log = log
        self.publishers: dict[str, Publisher] = {}
        self.notes = list(reader.notes)
        for name in topics or reader.topics:
            self._add(name)
        # A simulator's own clock fits its stamps; two clocks would make the time jump back and forth.
        self._clock = SimClock(node) if clock and CLOCK not in self.publishers else None
        if not self.publishers:
            raise BagError(f"none of the topics of bag {reader.path} can be played: {listed(self.notes)}")

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
        """Publish every message once, when it is due at ``rate`` times the speed of the recording."""
        start = time.monotonic()
        origin_ns: int | None = None
        last_ns = self._reader.end_ns  # no gap before the first message
        for message in self._reader.raw(self.publishers.keys()):
            cloud = self._cloud_to_log(message)
            origin_ns = message.log_time_ns if origin_ns is None else origin_ns
            gap_ns, last_ns = message.log_time_ns - last_ns, message.log_time_ns
            if gap_ns > _MAX_GAP_NS:
                print(f"note: a gap of {gap_ns / 1e9:.0f} s in the bag is skipped", file=sys.stderr)
                origin_ns += gap_ns
            # Relative to the start, not to the previous message, so that errors do not accumulate.
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
        """Sleep until a message is due, publishing ``/clock`` meanwhile."""
        while not stop.done():
            remaining_s = max(due - time.monotonic(), 0.0)
            if self._clock is not None:
                self._clock.publish(log_time_ns - round(remaining_s * rate * 1e9))
            if remaining_s == 0:
                return
            time.sleep(min(remaining_s, CLOCK_PERIOD_S))

    def finish(self) -> None:
        """Block until reliable subscribers have acknowledged everything."""
        for publisher in self.publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=_LINGER_S))
        time.sleep(_LINGER_S)


def wait_for_subscribers(
    node: Node, publishers: Mapping[str, Publisher], required: Mapping[str, int], timeout_s: float, stop: Future
) -> None:
    """Block until every topic has the required number of subscribers.

    Args:
        node: queried for topics of other publishers.
        publishers: own publishers by topic; they count matched subscriptions, not only discovered ones.
        required: number of subscribers per topic.
        timeout_s: longest wait.
        stop: ends the wait when done.

    Raises:
        ConfigError: timeout.
    """
    deadline = time.monotonic() + timeout_s

    def count(topic: str) -> int:
        own = publishers.get(topic)
        return int(own.get_subscription_count() if own is not None else node.count_subscribers(topic))

    def missing() -> list[str]:
        counts = {topic: count(topic) for topic in required}
        return [f"{topic} has {counts[topic]} of {n}" for topic, n in required.items() if counts[topic] < n]

    matched_s = time.monotonic()
    while (unmatched := missing()) or time.monotonic() < matched_s + _MATCH_DELAY_S:
        if stop.done():
            return
        if unmatched:  # again, where a subscriber changes its QoS
            matched_s = time.monotonic()
        if matched_s > deadline:
            raise ConfigError(f"no subscribers within {timeout_s:g} s: {', '.join(unmatched)}")
        time.sleep(_POLL_S)


def main(args: Sequence[str] | None = None) -> int:
    """Play a bag and return the exit code."""
    arguments = sys.argv if args is None else list(args)
    options = _parser().parse_args(remove_ros_args(arguments)[1:])
    return run_program(lambda stop: _run(options, arguments, stop))


def _run(options: argparse.Namespace, arguments: Sequence[str], stop: Future) -> int:
    with BagReader(options.bag) as reader, SweepLog(options.log) as log, ros(arguments):
        node = Node("bag_player")
        player = BagPlayer(node, reader, options.topics, options.clock, log)
        for note in player.notes:
            print(f"note: {note}", file=sys.stderr)
        required = dict(options.wait_for_subscribers)
        wait_for_subscribers(node, player.publishers, required, options.timeout, stop)
        player.play(options.rate, stop)
        while options.loop and not stop.done():
            player.play(options.rate, stop)
        player.finish()
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bag_player", description="Publish a bag with its recorded timing.")
    parser.add_argument("bag", type=Path, help="rosbag2 folder or single file")
    parser.add_argument("--rate", type=positive_float, default=1.0, help="playback speed (default: %(default)s)")
    parser.add_argument("--topics", nargs="+", default=(), metavar="T", help="topics to play (default: all)")
    parser.add_argument("--loop", action="store_true", help="repeat until SIGINT or SIGTERM")
    parser.add_argument("--clock", action="store_true", help="publish /clock, unless the bag holds it")
    parser.add_argument(
        "--wait-for-subscribers",
        nargs="+",
        type=_topic_and_count,
        default=(),
        metavar="TOPIC:N",
        help="numbers of subscribers to wait for before starting",
    )
    parser.add_argument("--timeout", type=positive_float, default=20.0, help="seconds to wait for subscribers")
    parser.add_argument("--log", type=Path, help="JSON lines file of the publication times of clouds")
    return parser


def _topic_and_count(text: str) -> tuple[str, int]:
    topic, _, count = text.rpartition(":")
    if not topic or not count.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not TOPIC:N, such as /points:1")
    return topic, int(count)


if __name__ == "__main__":
    sys.exit(main())
