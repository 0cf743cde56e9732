"""``xmodelkd doctor``."""

from __future__ import annotations

import argparse
from typing import Any

from xmodelkd_ros.tools.commands.arguments import new_parser


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = new_parser(commands, "doctor", "check whether the node and the tools can run here")
    parser.add_argument("--model", default="student", help="model to check (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.tools.doctor import doctor

    return doctor(args.model)
