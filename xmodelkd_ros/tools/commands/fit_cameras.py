"""``xmodelkd fit-cameras``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.tools.commands.arguments import add_bag, new_parser


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    text = "write a parameter file of the node with topics, extrinsics and time offsets of the cameras in a bag"
    parser = new_parser(commands, "fit-cameras", text)
    add_bag(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="parameter file (default: BAG's name.cameras.yaml)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.tools.fit_cameras import fit_cameras

    fit_cameras(args.bag, args.out, args.points_topic)
    return 0
