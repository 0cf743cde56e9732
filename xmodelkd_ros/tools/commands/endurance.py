"""``xmodelkd endurance``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.console import positive_int
from xmodelkd_ros.tools.commands.arguments import (
    NO_BAG,
    add_bag,
    add_missing_intensity,
    add_mode,
    add_model,
    add_number,
    add_sensor,
    add_student,
    new_parser,
    node_options,
)


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    text = "let the node label thousands of sweeps and check for growth of memory, handles, threads and latency"
    parser = new_parser(commands, "endurance", text)
    add_bag(parser, default="synthetic sweeps, for a student")
    add_model(parser)
    add_mode(parser)
    add_student(parser)
    add_sensor(parser)
    add_missing_intensity(parser)
    add_number(parser, "--points", positive_int, 131072, "N", "size of the largest synthetic sweeps")
    add_number(parser, "--sweeps", positive_int, 10000, "N", "number of sweeps")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of endurance.md, its plot and metrics.json"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code: 1 if a check failed."""
    from xmodelkd_ros.tools.endurance import measure_endurance

    options = node_options(args, args.bag or NO_BAG, args.mode)
    return 1 if measure_endurance(options, args.sweeps, None if args.bag else args.points).failures else 0
