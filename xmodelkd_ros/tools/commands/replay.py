"""``xmodelkd replay``."""

from __future__ import annotations

import argparse
from typing import Any

from xmodelkd_ros.console import positive_float
from xmodelkd_ros.tools.commands.arguments import (
    add_bag,
    add_model,
    add_number,
    add_scoring,
    add_student,
    new_parser,
    scoring_options,
)


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = new_parser(commands, "replay", "play a bag to the running node over DDS and score its labels")
    add_bag(parser)
    add_model(parser)
    add_scoring(parser)
    add_number(parser, "--rate", positive_float, 1.0, "RATE", "playback speed")
    add_student(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.tools.replay import replay

    replay(scoring_options(args, student=args.student), args.rate)
    return 0
