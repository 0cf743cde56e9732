"""The command ``xmodelkd``. Errors are one line on stderr; what a subcommand needs is imported when it runs."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from xmodelkd_ros.console import exit_code, positive_float, positive_int

if TYPE_CHECKING:
    from xmodelkd_ros.bags.image_replay import CameraOptions
    from xmodelkd_ros.harness.run_options import RunOptions

_NO_BAG = Path("synthetic sweeps")
"""In the place of a bag, where a command makes its own sweeps."""
_TERMINATED = 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        The exit code: 0 on success only.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = _parser().parse_args(arguments)
    args.command = shlex.join(["xmodelkd", *arguments])
    if threading.current_thread() is threading.main_thread():
        # As an exception, so that programs that were started and temporary files are cleared away.
        signal.signal(signal.SIGTERM, _terminate)
    return exit_code(lambda: args.run(args))


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_TERMINATED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "xmodelkd",
        allow_abbrev=False,
        description="Measure segmentation models on bags, fit sensors, check an installation.",
    )
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    _add_evaluate(commands)
    _add_replay(commands)
    _add_faults(commands)
    _add_load(commands)
    _add_endurance(commands)
    _add_benchmark(commands)
    _add_build_engine(commands)
    _add_fit_sensor(commands)
    _add_fit_cameras(commands)
    _add_recover(commands)
    doctor = commands.add_parser("doctor", allow_abbrev=False, help="check whether the node and the tools can run here")
    doctor.add_argument("--model", default="student", help="model to look for (default: %(default)s)")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("evaluate", allow_abbrev=False, help="segment a bag without ROS and score it")
    _add_bag(parser)
    _add_model(parser)
    _add_scoring(parser)
    parser.add_argument(
        "--against", default="", metavar="MODEL", help="also report how often this model gives the same labels"
    )
    parser.add_argument(
        "--image-age",
        type=positive_float,
        default=0.0,
        metavar="SECONDS",
        help="teacher: show it images that are this old, to see what that costs (default: %(default)s)",
    )
    parser.set_defaults(run=_evaluate)


def _add_replay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "replay", allow_abbrev=False, help="play a bag to the real node over DDS and score what it publishes"
    )
    _add_bag(parser)
    _add_model(parser)
    _add_scoring(parser)
    parser.add_argument("--rate", type=positive_float, default=1.0, help="speed of play (default: %(default)s)")
    _add_student(parser)
    parser.set_defaults(run=_replay)


def _add_faults(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "faults", allow_abbrev=False, help="play a bag while cameras and clocks fail, and see what the node makes of it"
    )
    _add_bag(parser)
    _add_model(parser)
    _add_student(parser)
    parser.add_argument("--faults", nargs="+", default=(), metavar="F", help="which (default: all)")
    parser.add_argument("--rate", type=positive_float, default=1.0, help="speed of play (default: %(default)s)")
    parser.add_argument(
        "--fault-seconds", type=positive_float, default=2.0, metavar="S", help="of each fault (default: %(default)s)"
    )
    parser.add_argument(
        "--rest-seconds", type=positive_float, default=2.0, metavar="S", help="after each fault (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of faults.md and metrics.json")
    parser.set_defaults(run=_faults)


def _add_load(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "load",
        allow_abbrev=False,
        help="give the node more sweeps than it can label, other ones, other clocks and bad company; needs no data",
    )
    _add_model(parser)
    parser.add_argument(
        "--points", type=positive_int, default=131072, help="of an everyday sweep (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=positive_float, default=10.0, metavar="S", help="of each scenario (default: %(default)s)"
    )
    parser.add_argument("--scenarios", nargs="+", default=(), metavar="S", help="which (default: all)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of load.md, its plot and metrics.json"
    )
    parser.set_defaults(run=_load)


def _add_endurance(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "endurance",
        allow_abbrev=False,
        help="let the node label thousands of sweeps, as fast as it can, and watch what it takes",
    )
    _add_bag(parser, or_else="synthetic sweeps, for a student")
    _add_model(parser)
    _add_mode(parser)
    _add_student(parser)
    parser.add_argument(
        "--points", type=positive_int, default=131072, help="of the largest synthetic sweeps (default: %(default)s)"
    )
    parser.add_argument("--sweeps", type=positive_int, default=10000, help="how many (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of endurance.md, its plot and metrics.json"
    )
    parser.set_defaults(run=_endurance)


def _add_benchmark(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "benchmark", allow_abbrev=False, help="time every stage on a synthetic sweep; needs no data"
    )
    _add_model(parser)
    parser.add_argument(
        "--points", type=positive_int, default=131072, help="points of the sweep (default: %(default)s)"
    )
    parser.add_argument(
        "--cameras",
        type=positive_int,
        default=0,
        metavar="N",
        help="a teacher's, each with a JPEG image (default: none)",
    )
    parser.add_argument(
        "--image-size", type=_size, default=(1920, 1080), metavar="WxH", help="of their images (default: 1920x1080)"
    )
    parser.add_argument("--repeats", type=positive_int, default=100, help="sweeps to time (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of metrics.json")
    parser.set_defaults(run=_benchmark)


def _add_build_engine(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "build-engine",
        allow_abbrev=False,
        help="build the TensorRT engines of a model, so that the node starts at once",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder, or name of a shipped model")
    parser.add_argument("--precision", default="auto", help="auto, fp32 or fp16 (default: %(default)s)")
    parser.add_argument(
        "--engine-cache-dir",
        type=Path,
        default=None,
        metavar="DIR",
        help="where engines are kept (default: user's cache)",
    )
    parser.set_defaults(run=_build_engine)


def _add_fit_cameras(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "fit-cameras",
        allow_abbrev=False,
        help="find topics, places and timing of the cameras in a bag, as a parameter file for the node",
    )
    _add_bag(parser)
    parser.add_argument(
        "--out", type=Path, default=None, metavar="FILE", help="parameter file (default: the bag's name.cameras.yaml)"
    )
    parser.set_defaults(run=_fit_cameras)


def _add_fit_sensor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "fit-sensor",
        allow_abbrev=False,
        help="find the beam table, field of view and intensity range of a LiDAR from its sweeps",
    )
    _add_bag(parser)
    parser.add_argument("--beams", type=positive_int, default=None, help="number of beams, where it is known")
    parser.add_argument(
        "--sweeps", type=positive_int, default=20, help="sweeps to read from the start (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=None, metavar="FILE", help="sensor file (default: the bag's name.sensor.json)"
    )
    parser.set_defaults(run=_fit_sensor)


def _add_recover(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "recover", allow_abbrev=False, help="make a bag of a recording whose process was killed, or whose disk was full"
    )
    parser.add_argument("unfinished", type=Path, metavar="UNFINISHED", help="folder or .mcap file that was left behind")
    parser.add_argument("out", type=Path, metavar="OUT", help="rosbag2 folder to create, or one .mcap file")
    parser.set_defaults(run=_recover)


def _add_bag(parser: argparse.ArgumentParser, or_else: str = "") -> None:
    """The bag; ``or_else`` is taken where none is given."""
    what = "rosbag2 folder, .mcap or .db3 file"
    if or_else:
        parser.add_argument("bag", type=Path, nargs="?", metavar="BAG", help=f"{what} (default: {or_else})")
    else:
        parser.add_argument("bag", type=Path, metavar="BAG", help=what)
    parser.add_argument(
        "--points-topic", default="", metavar="TOPIC", help="topic of the sweeps, where the bag has several clouds"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    # Names only: the choices stand in inference.backend, which says what it knows.
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder, or name of a shipped model")
    parser.add_argument("--backend", default="auto", help="library that runs the network (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, fp32, fp16 or int8 (default: %(default)s)")


def _add_mode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mode",
        choices=["student", "teacher"],
        default="student",
        help="student: LiDAR only; teacher: show the model the cameras' images (default: %(default)s)",
    )


def _add_student(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--student", metavar="DIR", default="student", help="teacher: student that stands by (default: %(default)s)"
    )


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    _add_mode(parser)
    parser.add_argument(
        "--slop",
        type=positive_float,
        default=0.05,
        metavar="SECONDS",
        help="teacher: an image farther from a sweep is not of it (default: %(default)s)",
    )
    parser.add_argument(
        "--deadline",
        type=positive_float,
        default=0.05,
        metavar="SECONDS",
        help="teacher: how long a sweep waits for images (default: %(default)s)",
    )
    parser.add_argument(
        "--fixed-frame",
        default="",
        metavar="FRAME",
        help="teacher: frame in which /tf says how the vehicle moved between image and sweep (default: it stood still)",
    )
    parser.add_argument("--drop-cameras", default="", metavar="A,B", help="teacher: cameras whose images do not come")
    parser.add_argument(
        "--label-set", default="", metavar="SET", help="set to score in, such as pandaset9 (default: the model's own)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of metrics.json and report.html")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return positive_int(width), positive_int(height)


def _evaluate(args: argparse.Namespace) -> int:
    from xmodelkd_ros.tools.evaluate import evaluate

    evaluate(_options(args), args.against)
    return 0


def _replay(args: argparse.Namespace) -> int:
    from xmodelkd_ros.tools.replay import replay

    replay(replace(_options(args), student=args.student), args.rate)
    return 0


def _options(args: argparse.Namespace) -> RunOptions:
    from xmodelkd_ros.harness.run_options import RunOptions

    return RunOptions(
        args.bag,
        args.model,
        args.out,
        args.backend,
        args.precision,
        args.label_set,
        args.points_topic,
        args.command,
        args.mode,
        _camera_options(args),
    )


def _camera_options(args: argparse.Namespace) -> CameraOptions:
    from xmodelkd_ros.bags.image_replay import CameraOptions

    return CameraOptions(
        slop_ns=round(args.slop * 1e9),
        fixed_frame=args.fixed_frame,
        dropped=tuple(filter(None, args.drop_cameras.split(","))),
        image_age_ns=round(getattr(args, "image_age", 0.0) * 1e9),
        deadline_ns=round(args.deadline * 1e9),
    )


def _benchmark(args: argparse.Namespace) -> int:
    from xmodelkd_ros.tools.benchmark import Load, benchmark

    load = Load(args.points, args.cameras, *args.image_size)
    benchmark(args.model, args.out, load, args.backend, args.precision, args.repeats)
    return 0


def _build_engine(args: argparse.Namespace) -> int:
    from xmodelkd_ros.tools.build_engine import build_engine

    build_engine(args.model, args.precision, args.engine_cache_dir)
    return 0


def _options_of_node(args: argparse.Namespace, bag: Path, mode: str) -> RunOptions:
    """Of a node that labels a bag, without scores."""
    from xmodelkd_ros.harness.run_options import RunOptions

    return RunOptions(
        bag,
        args.model,
        args.out,
        args.backend,
        args.precision,
        points_topic=args.points_topic,
        command=args.command,
        mode=mode,
        student=args.student,
    )


def _faults(args: argparse.Namespace) -> int:
    from xmodelkd_ros.tools.faults import Timing, measure_faults

    options = _options_of_node(args, args.bag, "teacher")
    outcomes, whole = measure_faults(options, Timing(args.fault_seconds, args.rest_seconds, args.rate), args.faults)
    return 0 if whole.as_promised and all(outcome.as_promised for outcome in outcomes) else 1


def _load(args: argparse.Namespace) -> int:
    from xmodelkd_ros.harness.run_options import RunOptions
    from xmodelkd_ros.tools.load import measure_load

    options = RunOptions(_NO_BAG, args.model, args.out, args.backend, args.precision, command=args.command)
    outcomes = measure_load(options, args.points, args.seconds, args.scenarios)
    return 1 if any(outcome.broken for outcome in outcomes) else 0


def _endurance(args: argparse.Namespace) -> int:
    from xmodelkd_ros.tools.endurance import measure_endurance

    options = _options_of_node(args, args.bag or _NO_BAG, args.mode)
    return 1 if measure_endurance(options, args.sweeps, None if args.bag else args.points).broken else 0


def _fit_cameras(args: argparse.Namespace) -> int:
    from xmodelkd_ros.tools.fit_cameras import fit_cameras

    fit_cameras(args.bag, args.out, args.points_topic)
    return 0


def _fit_sensor(args: argparse.Namespace) -> int:
    from xmodelkd_ros.tools.fit_sensor import fit_sensor

    fit_sensor(args.bag, args.out, args.points_topic, args.beams, args.sweeps)
    return 0


def _recover(args: argparse.Namespace) -> int:
    from xmodelkd_ros.bags.recover import recover
    from xmodelkd_ros.console import print_notes

    notes: list[str] = []
    count = recover(args.unfinished, args.out, notes.append)
    print_notes(notes)
    print(f"{args.out}: {count} messages")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from xmodelkd_ros.tools.doctor import doctor

    return doctor(args.model)


if __name__ == "__main__":
    sys.exit(main())
