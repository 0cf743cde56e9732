"""``xmodelkd evaluate``."""

from __future__ import annotations

import argparse
from typing import Any

from xmodelkd_ros.console import positive_float
from xmodelkd_ros.tools.commands.arguments import (
    add_bag,
    add_model,
    add_number,
    add_scoring,
    new_parser,
    scoring_options,
)


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = new_parser(commands, "evaluate", "segment a bag offline, without ROS, and score the labels")
    add_bag(parser)
    add_model(parser)
    add_scoring(parser)
    parser.add_argument(
        "--against", default="", metavar="MODEL", help="also report the agreement with the labels of this model"
    )
    parser.add_argument(
        "--boxes", action="store_true", help="also score boxes around road users, by those around the true labels"
    )
    parser.add_argument(
        "--filter-drop",
        type=lambda text: tuple(name for name in text.split(",") if name),
        default=(),
        metavar="A,B",
        help="also count what a filter that drops these classes removes of each class, by its min_probability",
    )
    text = "teacher: use older images, to measure the effect of latency"
    add_number(parser, "--image-age", positive_float, 0.0, "SECONDS", text)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.tools.evaluate import evaluate

    evaluate(scoring_options(args), args.against, args.boxes, args.filter_drop)
    return 0
