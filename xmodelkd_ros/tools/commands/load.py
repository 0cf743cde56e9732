"""``xmodelkd load``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.console import positive_float, positive_int
from xmodelkd_ros.tools.commands.arguments import NO_BAG, add_model, add_number, add_sensor, new_parser


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    text = "run load scenarios with synthetic sweeps: overload, clock faults, slow subscribers"
    parser = new_parser(commands, "load", text)
    add_model(parser)
    add_sensor(parser)
    add_number(parser, "--points", positive_int, 131072, "N", "regular sweep size")
    add_number(parser, "--seconds", positive_float, 10.0, "S", "scenario duration")
    parser.add_argument("--scenarios", nargs="+", default=(), metavar="S", help="scenarios to run (default: all)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of load.md, its plot and metrics.json"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code: 1 if a check failed."""
    from xmodelkd_ros.harness.run_options import RunOptions
    from xmodelkd_ros.tools.load import measure_load

    more = {"command": args.command, "sensor": args.sensor}
    options = RunOptions(NO_BAG, args.model, args.out, args.backend, args.precision, **more)
    outcomes = measure_load(options, args.points, args.seconds, args.scenarios)
    return 1 if any(outcome.failures for outcome in outcomes) else 0
