"""``xmodelkd view``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.console import positive_int
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.messages.topics import SEGMENTER
from xmodelkd_ros.tools.commands.arguments import add_bag, add_sensor, new_parser


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = new_parser(commands, "view", "look at the labels of a bag, or of a running node, in three dimensions")
    add_bag(parser, "none with --live")
    parser.add_argument("--live", action="store_true", help="instead of a bag, the labels of a running node")
    parser.add_argument(
        "--node", default=f"/{SEGMENTER}", metavar="NAME", help="--live: name of the node (%(default)s)"
    )
    parser.add_argument("--model", default="", metavar="DIR", help="model folder or name (default: the bag's labels)")
    add_sensor(parser)
    parser.add_argument(
        "--every", type=positive_int, default=1, metavar="N", help="show every n-th sweep (%(default)s)"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE.rrd", help="write a recording for Rerun instead of opening its viewer"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    if args.live == (args.bag is not None):
        raise ConfigError("give a BAG, or --live for the labels of a running node")
    if args.live:
        return _live(args)
    from xmodelkd_ros.tools.view import ViewOptions, view

    shown = view(ViewOptions(args.bag, args.model, args.points_topic, args.sensor, args.every, args.save))
    print(f"{args.save or args.bag.name}: {shown} sweeps" + (f" | rerun {args.save}" if args.save else ""))
    return 0


def _live(args: argparse.Namespace) -> int:
    from xmodelkd_ros.harness import live_view

    words = ["live_view", "--node", args.node, *(["--save", str(args.save)] if args.save else [])]
    return live_view.main(words)
