"""``xmodelkd fit-sensor``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.console import positive_int
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.tools.commands.arguments import add_bag, add_number, new_parser


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    text = "estimate beam table, field of view and intensity range of a LiDAR from a bag"
    parser = new_parser(commands, "fit-sensor", text)
    add_bag(parser, "none, with --like")
    parser.add_argument("--like", default="", metavar="NAME", help="product, such as VLP-16; without BAG its own table")
    parser.add_argument("--beams", type=positive_int, help="number of beams, if known")
    add_number(parser, "--sweeps", positive_int, 20, "N", "sweeps to read")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="sensor file (default: name of BAG or product.sensor.json)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.tools.fit_sensor import fit_sensor, write_known

    if args.bag is not None:
        fit_sensor(args.bag, args.out, args.points_topic, args.beams, args.sweeps, args.like)
    elif args.like:
        write_known(args.like, args.out)
    else:
        raise ConfigError("fit-sensor needs a BAG, or the name of a known LiDAR with --like NAME")
    return 0
