"""``xmodelkd build-engine``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.tools.commands.arguments import new_parser


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    text = "build the TensorRT engines of a model in advance, so that the node starts without delay"
    parser = new_parser(commands, "build-engine", text)
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder, or name of a shipped model")
    parser.add_argument("--precision", default="auto", help="auto, fp32 or fp16 (default: %(default)s)")
    parser.add_argument(
        "--engine-cache-dir", type=Path, metavar="DIR", help="engine cache (default: in the user's cache folder)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.tools.build_engine import build_engine

    build_engine(args.model, args.precision, args.engine_cache_dir)
    return 0
