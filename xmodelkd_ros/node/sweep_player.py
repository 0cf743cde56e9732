"""Publishes sweeps by a timetable, from a bag that holds one sweep of each size.

    python -m xmodelkd_ros.node.sweep_player BAG TIMETABLE --log FILE [--clock AT:CLOCK:RATE ...] [--timeout 20]

The timetable has one JSON line for each sweep, in order of time; ``--log`` says when it left, as that of
:mod:`xmodelkd_ros.node.player`:

    {"at_s": 0.1, "stamp_ns": 123, "points": 107000}

``--clock`` publishes ``/clock``: from AT seconds on it shows CLOCK and goes at RATE, until the next of these. The
program ends with 0 when all are sent, or on SIGINT or SIGTERM. An error is one line on stderr and exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from xmodelkd_ros.bag import BagReader
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.messages import stamp_from_ns
from xmodelkd_ros.node.outputs import reliable
from xmodelkd_ros.node.player import wait_for_subscribers
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.node.serialized import stamped
from xmodelkd_ros.node.sweep_log import SweepLog
from xmodelkd_ros.scenarios import Arrival, ClockLeg

_TOPIC = "points"
_DEPTH = 10
_CLOCK_PERIOD_S = 0.01
_LINGER_S = 0.5
"""Best-effort readers read shared memory, which goes with this process."""


def sweeps_by_points(path: Path) -> dict[int, bytes]:
    """The clouds of a bag as the bytes they were recorded as, by their number of points."""
    with BagReader(path) as reader:
        messages = [bytes(message.data) for message in reader.raw(list(reader.topics))]
    clouds = ((deserialize_message(data, PointCloud2), data) for data in messages)
    return {cloud.height * cloud.width: data for cloud, data in clouds}


def timetable(path: Path) -> list[Arrival]:
    """The lines of a timetable.

    Raises:
        ConfigError: it cannot be read, or a line is not what it should be.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read timetable {path}: {getattr(error, 'strerror', '') or error}") from error
    return [_arrival(f"{path}, line {number}", line) for number, line in enumerate(lines, 1)]


def _arrival(where: str, line: str) -> Arrival:
    try:
        arrival = Arrival(**json.loads(line))
        is_good = 0 <= arrival.at_s < float("inf") and {type(arrival.stamp_ns), type(arrival.points)} == {int}
    except (ValueError, TypeError):
        is_good = False
    if not is_good:
        raise ConfigError(f'{where}: give {{"at_s": seconds, "stamp_ns": integer, "points": integer}}')
    return arrival


class SimClock:
    """Publishes ``/clock``.

    Args:
        node: publishes.
        legs: how it goes; none: it is not published.
    """

    def __init__(self, node: Node, legs: Sequence[ClockLeg]) -> None:
        self._legs = legs
        self._publisher = node.create_publisher(Clock, "/clock", reliable(1)) if legs else None

    def tick(self, after_s: float) -> None:
        """Say what time it is, seconds after the start."""
        if self._publisher is None:
            return
        leg = self._legs[max(bisect_right([leg.at_s for leg in self._legs], after_s) - 1, 0)]
        message = Clock()
        now_ns = round((leg.clock_s + (after_s - leg.at_s) * leg.rate) * 1e9)
        message.clock = stamp_from_ns(now_ns, type(message.clock))
        self._publisher.publish(message)


class SweepPlayer:
    """Publishes sweeps.

    Args:
        node: publishes.
        sweeps: by their number of points.
        log: notes when they leave.
        clock: goes meanwhile.
    """

    def __init__(self, node: Node, sweeps: dict[int, bytes], log: SweepLog, clock: SimClock) -> None:
        self.publisher = node.create_publisher(PointCloud2, _TOPIC, reliable(_DEPTH))
        self._sweeps, self._log, self._clock = sweeps, log, clock

    def play(self, arrivals: Sequence[Arrival], stop: Future) -> None:
        """Publish each sweep at its time.

        Raises:
            ConfigError: the bag has none of this size.
        """
        missing = sorted({arrival.points for arrival in arrivals} - set(self._sweeps))
        if missing:
            raise ConfigError(f"the bag has no sweep of {', '.join(map(str, missing))} points")
        start_s = time.monotonic()
        for arrival in arrivals:
            for after_s in _until(start_s, arrival.at_s):
                if stop.done():
                    return
                self._clock.tick(after_s)
            self._send(arrival)

    def _send(self, arrival: Arrival) -> None:
        data = stamped(self._sweeps[arrival.points], arrival.stamp_ns)
        self._log.row(_TOPIC, arrival.stamp_ns, arrival.points, time.monotonic_ns())
        self.publisher.publish(data)


def _until(start_s: float, at_s: float) -> Iterator[float]:
    """Seconds since the start, now and again and again until a moment has come."""
    while True:
        after_s = time.monotonic() - start_s
        yield after_s
        if after_s >= at_s:
            return
        time.sleep(min(at_s - after_s, _CLOCK_PERIOD_S))


def main(args: Sequence[str] | None = None) -> int:
    """Publish what a timetable says; the exit code."""
    arguments = sys.argv if args is None else list(args)
    parser = _parser()
    options = parser.parse_args(remove_ros_args(arguments)[1:])
    if any(later.at_s <= earlier.at_s for earlier, later in pairwise(options.clock)):
        parser.error("--clock: give moments in order")
    return run_program(lambda stop: _run(options, arguments, stop))


def _run(options: argparse.Namespace, arguments: Sequence[str], stop: Future) -> int:
    with SweepLog(options.log) as log, ros(arguments):
        arrivals = timetable(options.timetable)
        node = Node("sweep_player")
        player = SweepPlayer(node, sweeps_by_points(options.bag), log, SimClock(node, options.clock))
        wait_for_subscribers(node, {_TOPIC: player.publisher}, {_TOPIC: options.subscribers}, options.timeout, stop)
        player.play(arrivals, stop)
        time.sleep(_LINGER_S)
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("sweep_player", description="Publish sweeps by a timetable.")
    parser.add_argument("bag", type=Path, help="bag with one sweep of each size")
    parser.add_argument("timetable", type=Path, help="JSON lines: at_s, stamp_ns, points of each sweep")
    parser.add_argument("--clock", type=_leg, nargs="+", default=(), metavar="AT:CLOCK:RATE", help="publish /clock")
    parser.add_argument("--subscribers", type=int, default=1, metavar="N", help="of the sweeps, to wait for")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds to wait for them")
    parser.add_argument("--log", type=Path, help="JSON lines file that says when each sweep left")
    return parser


def _leg(text: str) -> ClockLeg:
    try:
        at_s, clock_s, rate = map(float, text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not AT:CLOCK:RATE, such as 0:1000:1") from None
    return ClockLeg(at_s, clock_s, rate)


if __name__ == "__main__":
    sys.exit(main())
