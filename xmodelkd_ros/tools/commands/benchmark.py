"""``xmodelkd benchmark``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.console import positive_int
from xmodelkd_ros.tools.commands.arguments import add_model, new_parser


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = new_parser(commands, "benchmark", "measure the time of every stage on a synthetic sweep")
    add_model(parser)
    parser.add_argument("--points", type=positive_int, default=131072, help="sweep size (default: %(default)s)")
    parser.add_argument(
        "--cameras",
        type=positive_int,
        default=0,
        metavar="N",
        help="cameras of a teacher, with JPEG images (default: 0)",
    )
    parser.add_argument(
        "--image-size", type=_size, default=(1920, 1080), metavar="WxH", help="image size (default: 1920x1080)"
    )
    parser.add_argument("--repeats", type=positive_int, default=100, help="sweeps to measure (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of metrics.json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.tools.benchmark import Load, benchmark

    load = Load(args.points, args.cameras, *args.image_size)
    benchmark(args.model, args.out, load, args.backend, args.precision, args.repeats)
    return 0


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return positive_int(width), positive_int(height)
