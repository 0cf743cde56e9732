"""``xmodelkd label``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xmodelkd_ros.console import positive_int, probability
from xmodelkd_ros.tools.commands.arguments import (
    add_camera_matching,
    add_missing_intensity,
    add_mode,
    add_number,
    add_sensor,
    add_student,
    camera_options,
    new_parser,
)


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = new_parser(commands, "label", "write the labels of bags down, beside their points")
    parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="rosbag2 folder, .mcap or .db3 file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of labelled bags and summary")
    parser.add_argument("--model", default="", metavar="DIR", help="model folder or name (default: the mode)")
    add_mode(parser)
    add_student(parser)
    add_camera_matching(parser)
    add_sensor(parser)
    add_missing_intensity(parser)
    parser.add_argument("--points-topic", default="", metavar="TOPIC", help="topic of the sweeps, if there are several")
    parser.add_argument("--label-set", default="", metavar="SET", help="label set to write (default: the model's)")
    text = "write 255 for labels of a lower probability"
    add_number(parser, "--min-probability", probability, 0.0, "P", text)
    parser.add_argument(
        "--field", default="", help="name of the new field (default: label; predicted_label in labelled clouds)"
    )
    parser.add_argument(
        "--format", choices=["mcap", "semantickitti"], default="mcap", help="form of the output (default: %(default)s)"
    )
    parser.add_argument(
        "--topics",
        choices=["all", "labels"],
        default="all",
        help="mcap: copy all topics, or only clouds and transforms (default: %(default)s)",
    )
    parser.add_argument(
        "--boxes", default="", metavar="FILE.json", help="also write boxes around road users; {bag}: name of the bag"
    )
    parser.add_argument("--backend", default="auto", help="inference back end (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, fp32, fp16 or int8 (default: %(default)s)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=positive_int, default=1, metavar="N", help="bags to label at once (default: %(default)s)"
    )
    where.add_argument("--ray", default="", metavar="ADDRESS", help="label on a Ray cluster")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit code."""
    from xmodelkd_ros.harness.run_options import RunOptions
    from xmodelkd_ros.tools.label import LabelOptions
    from xmodelkd_ros.tools.label_bags import label_bags

    options = RunOptions(
        bag=args.bags[0],
        model=args.model or args.mode,
        out=args.out,
        backend=args.backend,
        precision=args.precision,
        label_set=args.label_set,
        points_topic=args.points_topic,
        command=args.command,
        mode=args.mode,
        student=args.student,
        sensor=args.sensor,
        camera_options=camera_options(args),
        missing_intensity=args.missing_intensity,
    )
    how = LabelOptions(options, args.min_probability, args.field, args.format, args.topics, args.boxes)
    outcomes, summary = label_bags(args.bags, args.out, how, args.jobs, args.ray)
    failed = sum(outcome.summary is None for outcome in outcomes)
    sweeps = sum(outcome.summary["sweeps"] for outcome in outcomes if outcome.summary)
    done = f"{len(outcomes) - failed} of {len(outcomes)} bags, {sweeps} sweeps"
    print(f"{done} | summary {summary}")
    return 1 if failed else 0
