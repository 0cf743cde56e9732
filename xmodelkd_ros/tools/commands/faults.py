"""``xmodelkd faults``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.console import positive_float
from xmodelkd_ros.tools.commands.arguments import (
    add_bag,
    add_missing_intensity,
    add_model,
    add_number,
    add_sensor,
    add_student,
    new_parser,
    node_options,
)


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    text = "play a bag with injected faults of cameras, TF and clocks, and check the labels of the node"
    parser = new_parser(commands, "faults", text)
    add_bag(parser)
    add_model(parser)
    add_student(parser)
    add_sensor(parser)
    add_missing_intensity(parser)
    parser.add_argument("--faults", nargs="+", default=(), metavar="FAULT", help="faults to inject (default: all)")
    add_number(parser, "--rate", positive_float, 1.0, "RATE", "playback speed")
    add_number(parser, "--fault-seconds", positive_float, 2.0, "S", "duration of faults")
    add_number(parser, "--rest-seconds", positive_float, 2.0, "S", "rest between faults")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of faults.md and metrics.json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code: 1 if a check failed."""
    from xmodelkd_ros.tools.faults import FaultTiming, measure_faults

    timing = FaultTiming(args.fault_seconds, args.rest_seconds, args.rate)
    outcomes, drive = measure_faults(node_options(args, args.bag, "teacher"), timing, args.faults)
    return 0 if drive.passed and all(outcome.passed for outcome in outcomes) else 1
