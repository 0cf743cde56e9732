"""Generate drives: ``python -m training.world --seed S --sweeps N [--cameras 6] --out DIR [--bag FILE]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.world.generate import DriveOptions, run
from training.worldgen.drive import EACH_LIDAR, for_each_sweep
from training.worldgen.sensing.products import LIDARS, UNSEEN_LIDARS
from xmodelkd_ros.console import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.world",
        allow_abbrev=False,
        description="Generate labelled drives. Seeds that end in 9 are for testing, in 8 for validation.",
    )
    parser.add_argument("--seed", type=int, nargs="+", required=True, metavar="S", help="seeds, one drive each")
    parser.add_argument(
        "--sweeps", type=int, default=40, metavar="N", help="number of sweeps, 10 per second (default: %(default)s)"
    )
    parser.add_argument(
        "--cameras", type=int, choices=(0, 1, 6), default=6, help="number of cameras (default: %(default)s)"
    )
    parser.add_argument(
        "--columns",
        type=int,
        default=0,
        metavar="C",
        help="pulses of a beam per rotation (default: those of the LiDAR)",
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="K", help="rotations of the LiDAR from one sweep to the next"
    )
    names = ", ".join(lidar.name for lidar in (*LIDARS, *UNSEEN_LIDARS))
    parser.add_argument(
        "--lidar",
        default="",
        metavar="NAME",
        help=f"LiDAR of all drives: {names}; '{EACH_LIDAR}': another one, on another vehicle, for each sweep; "
        f"'{EACH_LIDAR} NAME': likewise, all of one product (default: drawn from the seed)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the drive, or of the drives")
    parser.add_argument("--bag", type=Path, metavar="FILE", help="bag to write (one drive only)")
    options = parser.parse_args(argv)
    if not (options.out or options.bag) or (options.bag and len(options.seed) > 1):
        parser.error("say where to write with --out or --bag; a bag takes one seed")
    if options.bag and for_each_sweep(options.lidar):
        parser.error("a bag has one LiDAR; name it with --lidar, or write a folder with --out")
    drive_options = DriveOptions(options.sweeps, options.cameras, options.columns, options.every, options.lidar)
    return run_command(lambda: run(options.seed, drive_options, options.out, options.bag))


if __name__ == "__main__":
    sys.exit(main())
