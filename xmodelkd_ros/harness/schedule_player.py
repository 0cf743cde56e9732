"""Schedule player: publishes sweeps at scheduled times, from a bag with one cloud of each size.

    python -m xmodelkd_ros.harness.schedule_player BAG SCHEDULE [--clock AT:CLOCK:RATE ...] [--subscribers 1]
        [--timeout 20] [--log FILE] [--ros-args ...]

The schedule has one JSON line per sweep, in order of time:

    {"at_s": 0.1, "stamp_ns": 123, "points": 107000}

``--clock`` publishes ``/clock``: from AT seconds on it starts at CLOCK and advances by RATE seconds per second, until
the next segment. ``--log`` records the publication of each sweep (format of :mod:`xmodelkd_ros.harness.bag_player`).
Exit code 0 when all sweeps are sent, or on SIGINT or SIGTERM; 1 after an error, which is one line on stderr.
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
from xmodelkd_ros.console import positive_float, positive_int
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.harness.bag_player import wait_for_subscribers
from xmodelkd_ros.harness.cdr import with_stamp
from xmodelkd_ros.harness.load_scenarios import ClockSegment, ScheduledSweep
from xmodelkd_ros.harness.sim_clock import CLOCK_PERIOD_S, SimClock
from xmodelkd_ros.harness.sweep_log import SweepLog
from xmodelkd_ros.node.process import ros, run_program
from xmodelkd_ros.node.qos import reliable

_TOPIC = "points"
_DEPTH = 10
_MAX_STAMP_NS = 2**31 * 1_000_000_000
"""Stamps hold seconds as a signed 32-bit integer."""
_LINGER_S = 0.5
"""Best-effort readers read from shared memory that this process owns."""


def clouds_by_size(path: Path) -> dict[int, bytes]:
    """Serialized clouds of a bag by their number of points."""
    with BagReader(path) as reader:
        messages = [bytes(message.data) for message in reader.raw(list(reader.topics))]
    clouds = ((deserialize_message(data, PointCloud2), data) for data in messages)
    return {cloud.height * cloud.width: data for cloud, data in clouds}


def read_schedule(path: Path) -> list[ScheduledSweep]:
    """Read a schedule.

    Raises:
        ConfigError: the file cannot be read, or a line is invalid or out of order.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read schedule {path}: {getattr(error, 'strerror', '') or error}") from error
    sweeps = [_parse_sweep(f"{path}, line {number}", line) for number, line in enumerate(lines, 1)]
    unordered = next((k for k, (a, b) in enumerate(pairwise(sweeps), 2) if b.at_s < a.at_s), None)
    if unordered is not None:
        raise ConfigError(f"{path}, line {unordered}: at_s is before that of the line above; sort the lines by at_s")
    return sweeps


def _parse_sweep(where: str, line: str) -> ScheduledSweep:
    try:
        sweep = ScheduledSweep(**json.loads(line))
        is_valid = 0 <= sweep.at_s < float("inf") and {type(sweep.stamp_ns), type(sweep.points)} == {int}
        is_valid = is_valid and abs(sweep.stamp_ns) < _MAX_STAMP_NS
    except (ValueError, TypeError):
        is_valid = False
    if not is_valid:
        raise ConfigError(f'{where}: give {{"at_s": seconds, "stamp_ns": integer, "points": integer}}')
    return sweep


def clock_ns(segments: Sequence[ClockSegment], elapsed_s: float) -> int:
    """Time of ``/clock`` some seconds after the start, nanoseconds."""
    segment = segments[max(bisect_right([segment.at_s for segment in segments], elapsed_s) - 1, 0)]
    return round((segment.clock_s + (elapsed_s - segment.at_s) * segment.rate) * 1e9)


class SchedulePlayer:
    """Publishes sweeps at scheduled times.

    Args:
        node: node of the publishers.
        clouds: serialized clouds by number of points.
        log: log of published sweeps.
        clock: segments of ``/clock``, which is not published if empty.
    """

    def __init__(self, node: Node, clouds: dict[int, bytes], log: SweepLog, clock: Sequence[ClockSegment]) -> None:
        self.publisher = node.create_publisher(PointCloud2, _TOPIC, reliable(_DEPTH))
        self._clouds, self._log, self._segments = clouds, log, clock
        self._clock = SimClock(node) if clock else None

    def play(self, sweeps: Sequence[ScheduledSweep], stop: Future) -> None:
        """Publish each sweep when it is due.

        Raises:
            ConfigError: the bag has no cloud of this size.
        """
        missing = sorted({sweep.points for sweep in sweeps} - set(self._clouds))
        if missing:
            raise ConfigError(f"the bag has no sweep of {', '.join(map(str, missing))} points")
        start_s = time.monotonic()
        for sweep in sweeps:
            self._wait(start_s, sweep.at_s, stop)
            if stop.done():
                return
            self._send(sweep)
        self._wait(start_s, time.monotonic() - start_s + _LINGER_S, stop)

    def _wait(self, start_s: float, until_s: float, stop: Future) -> None:
        """Sleep until some seconds after the start, publishing ``/clock`` meanwhile."""
        while not stop.done():
            elapsed_s = time.monotonic() - start_s
            if self._clock is not None:
                self._clock.publish(clock_ns(self._segments, elapsed_s))
            if elapsed_s >= until_s:
                return
            time.sleep(min(until_s - elapsed_s, CLOCK_PERIOD_S))

    def _send(self, sweep: ScheduledSweep) -> None:
        data = with_stamp(self._clouds[sweep.points], sweep.stamp_ns)
        self._log.row(_TOPIC, sweep.stamp_ns, sweep.points, time.monotonic_ns())
        self.publisher.publish(data)


def main(args: Sequence[str] | None = None) -> int:
    """Publish scheduled sweeps and return the exit code."""
    arguments = sys.argv if args is None else list(args)
    parser = _parser()
    options = parser.parse_args(remove_ros_args(arguments)[1:])
    if any(later.at_s <= earlier.at_s for earlier, later in pairwise(options.clock)):
        parser.error("--clock: sort the segments by AT")
    return run_program(lambda stop: _run(options, arguments, stop))


def _run(options: argparse.Namespace, arguments: Sequence[str], stop: Future) -> int:
    with SweepLog(options.log) as log, ros(arguments):
        sweeps = read_schedule(options.schedule)
        node = Node("schedule_player")
        player = SchedulePlayer(node, clouds_by_size(options.bag), log, options.clock)
        wait_for_subscribers(node, {_TOPIC: player.publisher}, {_TOPIC: options.subscribers}, options.timeout, stop)
        player.play(sweeps, stop)
        node.destroy_node()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("schedule_player", description="Publish sweeps at scheduled times.")
    parser.add_argument("bag", type=Path, help="bag with one cloud of each size")
    parser.add_argument("schedule", type=Path, help="JSON lines: at_s, stamp_ns and points of each sweep")
    parser.add_argument(
        "--clock", type=_clock_segment, nargs="+", default=(), metavar="AT:CLOCK:RATE", help="publish /clock"
    )
    parser.add_argument("--subscribers", type=positive_int, default=1, metavar="N", help="subscribers to wait for")
    parser.add_argument("--timeout", type=positive_float, default=20.0, help="seconds to wait for them")
    parser.add_argument("--log", type=Path, help="JSON lines file of the publication times of sweeps")
    return parser


def _clock_segment(text: str) -> ClockSegment:
    try:
        at_s, clock_s, rate = map(float, text.split(":"))
    except ValueError:
        at_s = clock_s = rate = math.nan
    if not all(map(math.isfinite, (at_s, clock_s, rate))):
        raise argparse.ArgumentTypeError(f"'{text}' is not AT:CLOCK:RATE, such as 0:1000:1")
    return ClockSegment(at_s, clock_s, rate)


if __name__ == "__main__":
    sys.exit(main())
