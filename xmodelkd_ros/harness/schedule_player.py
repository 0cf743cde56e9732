"""Publishes sweeps by a timetable, from a bag that holds one sweep of each size.

    python -m xmodelkd_ros.harness.schedule_player BAG TIMETABLE --log FILE [--clock AT:CLOCK:RATE ...] [--timeout 20]

The timetable has one JSON line for each sweep, in order of time; ``--log`` says when it left, as that of
:mod:`xmodelkd_ros.harness.bag_player`:

    {"at_s": 0.1, "stamp_ns": 123, "points": 107000}

``--clock`` publishes ``/clock``: from AT seconds on it shows CLOCK and goes at RATE, until the next of these. The
program ends with 0 when all are sent, or on SIGINT or SIGTERM. An error is one line on stderr and exit code 1.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import PointCloud2

from xmodelkd_ros.bags.bag import BagReader
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.harness.bag_player import wait_for_subscribers
from xmodelkd_ros.harness.cdr import stamped
from xmodelkd_ros.harness.load_scenarios import ClockSegment, ScheduledSweep
from xmodelkd_ros.harness.sim_clock import CLOCK_PERIOD_S, SimClock
from xmodelkd_ros.harness.sweep_log import SweepLog
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.node.qos import reliable

_TOPIC = "points"
_DEPTH = 10
_LAST_NS = 2**31 * 1_000_000_000
"""Stamps have 32 bits for their seconds."""
_LINGER_S = 0.5
"""Best-effort readers read shared memory, which goes with this process."""


def sweeps_by_points(path: Path) -> dict[int, bytes]:
    """The clouds of a bag as the bytes they were recorded as, by their number of points."""
    with BagReader(path) as reader:
        messages = [bytes(message.data) for message in reader.raw(list(reader.topics))]
    clouds = ((deserialize_message(data, PointCloud2), data) for data in messages)
    return {cloud.height * cloud.width: data for cloud, data in clouds}


def timetable(path: Path) -> list[ScheduledSweep]:
    """The lines of a timetable.

    Raises:
        ConfigError: it cannot be read, or a line is not what it should be.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read timetable {path}: {getattr(error, 'strerror', '') or error}") from error
    arrivals = [_arrival(f"{path}, line {number}", line) for number, line in enumerate(lines, 1)]
    late = next((k for k, (a, b) in enumerate(pairwise(arrivals), 2) if b.at_s < a.at_s), None)
    if late is not None:
        raise ConfigError(f"{path}, line {late}: a sweep that comes before the one above; give them in order of time")
    return arrivals


def _arrival(where: str, line: str) -> ScheduledSweep:
    try:
        arrival = ScheduledSweep(**json.loads(line))
        is_good = 0 <= arrival.at_s < float("inf") and {type(arrival.stamp_ns), type(arrival.points)} == {int}
        is_good = is_good and abs(arrival.stamp_ns) < _LAST_NS
    except (ValueError, TypeError):
        is_good = False
    if not is_good:
        raise ConfigError(f'{where}: give {{"at_s": seconds, "stamp_ns": integer, "points": integer}}')
    return arrival


def clock_ns(legs: Sequence[ClockSegment], after_s: float) -> int:
    """What ``/clock`` shows some seconds after the start."""
    leg = legs[max(bisect_right([leg.at_s for leg in legs], after_s) - 1, 0)]
    return round((leg.clock_s + (after_s - leg.at_s) * leg.rate) * 1e9)


class SchedulePlayer:
    """Publishes sweeps.

    Args:
        node: publishes.
        sweeps: by their number of points.
        log: notes when they leave.
        legs: how ``/clock`` goes meanwhile; none: it is not published.
    """

    def __init__(self, node: Node, sweeps: dict[int, bytes], log: SweepLog, legs: Sequence[ClockSegment]) -> None:
        self.publisher = node.create_publisher(PointCloud2, _TOPIC, reliable(_DEPTH))
        self._sweeps, self._log, self._legs = sweeps, log, legs
        self._clock = SimClock(node) if legs else None

    def play(self, arrivals: Sequence[ScheduledSweep], stop: Future) -> None:
        """Publish each sweep at its time.

        Raises:
            ConfigError: the bag has none of this size.
        """
        missing = sorted({arrival.points for arrival in arrivals} - set(self._sweeps))
        if missing:
            raise ConfigError(f"the bag has no sweep of {', '.join(map(str, missing))} points")
        start_s = time.monotonic()
        for arrival in arrivals:
            self._wait(start_s, arrival.at_s, stop)
            if stop.done():
                return
            self._send(arrival)
        self._wait(start_s, time.monotonic() - start_s + _LINGER_S, stop)

    def _wait(self, start_s: float, until_s: float, stop: Future) -> None:
        """Let the clock go until so many seconds after the start."""
        while not stop.done():
            after_s = time.monotonic() - start_s
            if self._clock is not None:
                self._clock.show(clock_ns(self._legs, after_s))
            if after_s >= until_s:
                return
            time.sleep(min(until_s - after_s, CLOCK_PERIOD_S))

    def _send(self, arrival: ScheduledSweep) -> None:
        data = stamped(self._sweeps[arrival.points], arrival.stamp_ns)
        self._log.row(_TOPIC, arrival.stamp_ns, arrival.points, time.monotonic_ns())
        self.publisher.publish(data)


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
        node = Node("schedule_player")
        player = SchedulePlayer(node, sweeps_by_points(options.bag), log, options.clock)
        wait_for_subscribers(node, {_TOPIC: player.publisher}, {_TOPIC: options.subscribers}, options.timeout, stop)
        player.play(arrivals, stop)
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("schedule_player", description="Publish sweeps by a timetable.")
    parser.add_argument("bag", type=Path, help="bag with one sweep of each size")
    parser.add_argument("timetable", type=Path, help="JSON lines: at_s, stamp_ns, points of each sweep")
    parser.add_argument("--clock", type=_leg, nargs="+", default=(), metavar="AT:CLOCK:RATE", help="publish /clock")
    parser.add_argument("--subscribers", type=int, default=1, metavar="N", help="of the sweeps, to wait for")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds to wait for them")
    parser.add_argument("--log", type=Path, help="JSON lines file that says when each sweep left")
    return parser


def _leg(text: str) -> ClockSegment:
    try:
        at_s, clock_s, rate = map(float, text.split(":"))
    except ValueError:
        at_s = clock_s = rate = math.nan
    if not all(map(math.isfinite, (at_s, clock_s, rate))):
        raise argparse.ArgumentTypeError(f"'{text}' is not AT:CLOCK:RATE, such as 0:1000:1")
    return ClockSegment(at_s, clock_s, rate)


if __name__ == "__main__":
    sys.exit(main())
