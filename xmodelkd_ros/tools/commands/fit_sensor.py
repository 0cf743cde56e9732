"""``xmodelkd fit-sensor``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.console import positive_int
from xmodelkd_ros.tools.commands.arguments import add_bag, add_number, new_parser


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    text = "estimate beam table, field of view and intensity range of a LiDAR from a bag"
    parser = new_parser(commands, "fit-sensor", text)
    add_bag(parser)
    parser.add_argument("--beams", type=positive_int, help="number of beams, if known")
    add_number(parser, "--sweeps", positive_int, 20, "N", "sweeps to read")
    parser.add_argument("--out", type=Path, metavar="FILE", help="sensor file (default: BAG's name.sensor.json)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.tools.fit_sensor import fit_sensor

    fit_sensor(args.bag, args.out, args.points_topic, args.beams, args.sweeps)
    return 0
