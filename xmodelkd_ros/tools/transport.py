"""Transport latency of clouds over DDS, with and without the shipped Fast DDS profile.

    python -m xmodelkd_ros.tools.transport [--points 131072 262144] [--sweeps 60] [--rate 10]

Plays a bag of synthetic sweeps in the layout of the node's labels (24 bytes per point) to a recorder in another
process, once for each combination of profiles. Latency is measured from just before publication to arrival. The
recorder subscribes with the reliability that the player offers, as the node does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, ROSBAGS_TYPES, BagReader, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.console import exit_code, positive_float, positive_int
from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.harness.dds_profile import PROFILE_VARIABLES, profile_variable, shipped_profile
from xmodelkd_ros.harness.processes import Program, dds_environment, wait_for
from xmodelkd_ros.harness.sweep_log import SweepLogReader
from xmodelkd_ros.harness.synthetic_sweep import synthetic_sweep
from xmodelkd_ros.messages.clouds import labels_to_msg
from xmodelkd_ros.messages.headers import stamp_from_ns
from xmodelkd_ros.messages.topics import POINTS
from xmodelkd_ros.reports.markdown import markdown_row, markdown_table

_COLUMNS = ("points", "publisher profile", "subscriber profile", "p50, ms", "p99, ms", "lost")
_BEAMS = ProjectionSpec(tuple(np.linspace(15, -25, 64).tolist()), 1024)
_READY_S = 30.0
_END_S = 60.0
"""Timeout of the player, on top of the length of the bag."""


def write_bag(path: Path, points: int, sweeps: int, rate_hz: float) -> None:
    """Write a bag that repeats one cloud."""
    cloud, time_class = synthetic_sweep(_BEAMS, points), message_class("builtin_interfaces/msg/Time")
    header_class = message_class("std_msgs/msg/Header")
    # The recorder does not count clouds without labels.
    segmentation = Segmentation(np.zeros(points, np.uint8), np.ones(points, np.float32), np.zeros(points, np.float32))
    with BagWriter(path) as bag:
        bag.add_topic(POINTS, POINT_CLOUD_TYPE)
        for number in range(sweeps):
            stamp_ns = round(number / rate_hz * 1e9)
            header = header_class(stamp_from_ns(stamp_ns, time_class), "lidar")
            message = labels_to_msg(cloud, segmentation, header, ROSBAGS_TYPES)
            bag.write(POINTS, stamp_ns, message)


def arrivals_ms(bag: Path, folder: Path, sender_profile: bool, receiver_profile: bool) -> list[float | None]:
    """Transport latency of each cloud of a bag in milliseconds; None for lost ones.

    Args:
        bag: bag of :func:`write_bag`.
        folder: folder of the logs.
        sender_profile: whether the player uses the shipped profile.
        receiver_profile: whether the recorder uses it.

    Raises:
        ProcessError: a process failed.
    """
    environment = dds_environment()
    without = {name: value for name, value in environment.items() if name not in PROFILE_VARIABLES}
    with_profile = {**without, profile_variable(without): shipped_profile()}
    sent, received = SweepLogReader(folder / "sent.jsonl"), SweepLogReader(folder / "received.jsonl")
    player_arguments = [str(bag), "--wait-for-subscribers", f"{POINTS}:1", "--log", str(sent.path)]
    player = Program(
        "harness.bag_player", player_arguments, with_profile if sender_profile else without, folder / "player.log"
    )
    recorder_arguments = ["--topics", POINTS, "--log", str(received.path)]
    recorder_env = with_profile if receiver_profile else without
    recorder = Program("harness.recorder", recorder_arguments, recorder_env, folder / "recorder.log")
    with ExitStack() as stack:
        running = [stack.enter_context(recorder), stack.enter_context(player)]
        wait_for(lambda: received.has_event("ready"), running, _READY_S, "the recorder")
        with BagReader(bag) as reader:
            length_s = (reader.end_ns - reader.start_ns) / 1e9
        wait_for(lambda: player.returncode is not None, running, _END_S + length_s, "the end of the bag")
        player.check()
    arrivals = received.clouds(POINTS)
    return [(arrivals[key] - at_ns) / 1e6 if key in arrivals else None for key, at_ns in sent.clouds(POINTS).items()]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code."""
    options = _parser().parse_args(argv)

    def print_table() -> int:
        print(markdown_table(_COLUMNS, []))
        for points in options.points:
            _print_rows(points, options.sweeps, options.rate)
        return 0

    return exit_code(print_table)


def _print_rows(points: int, sweeps: int, rate_hz: float) -> None:
    for sender, receiver in ((False, False), (False, True), (True, False), (True, True)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_bag(folder / "clouds.mcap", points, sweeps, rate_hz)
            times = arrivals_ms(folder / "clouds.mcap", folder, sender, receiver)
        arrived = [time for time in times if time is not None]
        p50, p99 = (f"{np.percentile(arrived, q):.1f}" if arrived else "-" for q in (50, 99))
        profiles = ("shipped" if shipped else "default" for shipped in (sender, receiver))
        lost = f"{len(times) - len(arrived)} of {len(times)}"
        print(markdown_row((f"{points:,}", *profiles, p50, p99, lost)), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m xmodelkd_ros.tools.transport", description="Measure DDS transport latency of clouds."
    )
    parser.add_argument(
        "--points",
        type=positive_int,
        nargs="+",
        default=[131072, 262144],
        metavar="N",
        help="points per cloud (default: %(default)s)",
    )
    parser.add_argument("--sweeps", type=positive_int, default=60, help="number of clouds (default: %(default)s)")
    parser.add_argument("--rate", type=positive_float, default=10.0, help="clouds per second (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
