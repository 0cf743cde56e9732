"""Command line arguments that several subcommands share, and the options that they make of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodelkd_ros.console import positive_float

if TYPE_CHECKING:
    from xmodelkd_ros.bags.image_replay import CameraOptions
    from xmodelkd_ros.harness.run_options import RunOptions

NO_BAG = Path("synthetic sweeps")
"""Placeholder for the bag of subcommands that use synthetic sweeps."""


def new_parser(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Add the parser of a subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(name, allow_abbrev=False, help=text, description=text)
    return parser


def add_number(
    parser: argparse.ArgumentParser, name: str, of_type: Callable[[str], float], default: float, metavar: str, text: str
) -> None:
    """Add a numeric option, with its default in the help."""
    parser.add_argument(name, type=of_type, default=default, metavar=metavar, help=f"{text} (default: %(default)s)")


def add_bag(parser: argparse.ArgumentParser, default: str = "") -> None:
    """Add the bag and the topic of its sweeps; the bag is optional if its replacement is described."""
    text = "rosbag2 folder, .mcap or .db3 file"
    if default:
        parser.add_argument("bag", type=Path, nargs="?", metavar="BAG", help=f"{text} (default: {default})")
    else:
        parser.add_argument("bag", type=Path, metavar="BAG", help=text)
    parser.add_argument(
        "--points-topic", default="", metavar="TOPIC", help="topic of the sweeps, if the bag has several cloud topics"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add model, back end and precision, which :mod:`xmodelkd_ros.inference.backend` validates."""
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder, or name of a shipped model")
    parser.add_argument("--backend", default="auto", help="inference back end (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, fp32, fp16 or int8 (default: %(default)s)")


def add_mode(parser: argparse.ArgumentParser) -> None:
    """Add the mode."""
    parser.add_argument(
        "--mode",
        choices=["student", "teacher"],
        default="student",
        help="student: LiDAR only; teacher: LiDAR and camera images (default: %(default)s)",
    )


def add_student(parser: argparse.ArgumentParser) -> None:
    """Add the fallback student of a teacher."""
    parser.add_argument(
        "--student", metavar="DIR", default="student", help="teacher: fallback student (default: %(default)s)"
    )


def add_sensor(parser: argparse.ArgumentParser) -> None:
    """Add the sensor."""
    text = (
        "auto: estimate the LiDAR from the first sweeps, if the model is one for any LiDAR; none: that of the model's "
        "training; or a sensor file, or name of a known LiDAR (default: %(default)s)"
    )
    parser.add_argument("--sensor", default="auto", metavar="FILE|auto|none", help=text)


def add_missing_intensity(parser: argparse.ArgumentParser) -> None:
    """Add what to do with clouds without intensity, as the node's parameter ``missing_intensity``."""
    text = (
        "clouds without intensity, if the model uses it: reject them, or fill in zeros; auto: fill if it was trained "
        "without intensity too (default: %(default)s)"
    )
    parser.add_argument("--missing-intensity", choices=["auto", "reject", "fill"], default="auto", help=text)


def add_camera_matching(parser: argparse.ArgumentParser) -> None:
    """Add how images are matched to sweeps in teacher mode."""
    text = "teacher: maximum time difference between image and sweep"
    add_number(parser, "--slop", positive_float, 0.05, "SECONDS", text)
    add_number(parser, "--deadline", positive_float, 0.05, "SECONDS", "teacher: longest wait of a sweep for its images")
    parser.add_argument(
        "--fixed-frame",
        default="",
        metavar="FRAME",
        help="teacher: frame of /tf for the ego motion between image and sweep (default: no motion)",
    )
    parser.add_argument("--drop-cameras", default="", metavar="A,B", help="teacher: cameras to leave out")


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add mode, camera options, label set and output folder of the subcommands that score labels."""
    add_mode(parser)
    add_camera_matching(parser)
    parser.add_argument(
        "--label-set", default="", metavar="SET", help="label set of the scores, e.g. pandaset9 (default: the model's)"
    )
    add_sensor(parser)
    add_missing_intensity(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of metrics.json and report.html")


def camera_options(args: argparse.Namespace) -> CameraOptions:
    """How images are matched to sweeps, from the arguments of :func:`add_camera_matching`."""
    from xmodelkd_ros.bags.image_replay import CameraOptions

    return CameraOptions(
        slop_ns=round(args.slop * 1e9),
        fixed_frame=args.fixed_frame,
        dropped=tuple(filter(None, args.drop_cameras.split(","))),
        image_age_ns=round(getattr(args, "image_age", 0.0) * 1e9),
        deadline_ns=round(args.deadline * 1e9),
    )


def scoring_options(args: argparse.Namespace, **more: Any) -> RunOptions:
    """Options of a subcommand that scores labels."""
    from xmodelkd_ros.harness.run_options import RunOptions

    return RunOptions(
        bag=args.bag,
        model=args.model,
        out=args.out,
        backend=args.backend,
        precision=args.precision,
        label_set=args.label_set,
        points_topic=args.points_topic,
        command=args.command,
        mode=args.mode,
        sensor=args.sensor,
        camera_options=camera_options(args),
        missing_intensity=args.missing_intensity,
        **more,
    )


def node_options(args: argparse.Namespace, bag: Path, mode: str) -> RunOptions:
    """Options of a subcommand that runs the node on a bag without scoring."""
    from xmodelkd_ros.harness.run_options import RunOptions

    return RunOptions(
        bag=bag,
        model=args.model,
        out=args.out,
        backend=args.backend,
        precision=args.precision,
        points_topic=args.points_topic,
        command=args.command,
        mode=mode,
        student=args.student,
        sensor=args.sensor,
        missing_intensity=args.missing_intensity,
    )
