"""``xmodelkd recover``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.console import print_notes
from xmodelkd_ros.tools.commands.arguments import new_parser


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = new_parser(
        commands, "recover", "make a bag from a recording that was interrupted by a kill or a full disk"
    )
    parser.add_argument(
        "unfinished", type=Path, metavar="UNFINISHED", help="folder, .mcap or .db3 file of the recording"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="rosbag2 folder or .mcap file to create")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.bags.recover import recover

    notes: list[str] = []
    messages = recover(args.unfinished, args.out, notes.append)
    print_notes(notes)
    print(f"{args.out}: {messages} messages")
    return 0
