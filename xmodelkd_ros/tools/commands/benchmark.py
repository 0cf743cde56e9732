"""``xmodelkd benchmark``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.console import positive_int
from xmodelkd_ros.tools.commands.arguments import add_model, add_number, add_sensor, new_parser


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = new_parser(commands, "benchmark", "measure the time of every stage on a synthetic sweep")
    add_model(parser)
    add_sensor(parser)
    add_number(parser, "--points", positive_int, 131072, "N", "sweep size")
    add_number(parser, "--cameras", positive_int, 0, "N", "cameras of a teacher, with JPEG images")
    parser.add_argument(
        "--image-size", type=_size, default=(1920, 1080), metavar="WxH", help="image size (default: 1920x1080)"
    )
    add_number(parser, "--repeats", positive_int, 100, "N", "sweeps to measure")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of metrics.json and report.html")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.tools.benchmark import Load, benchmark

    width, height = args.image_size
    load = Load(args.points, args.cameras, width, height, args.sensor)
    benchmark(args.model, args.out, load, args.backend, args.precision, args.repeats)
    return 0


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    try:
        return positive_int(width), positive_int(height)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not WIDTHxHEIGHT, such as 1920x1080") from error
