"""Export a drive to a bag: ``python -m training.to_bag DATASET PATH OUT [--frames A:B]``.

The bag holds sweeps with ground truth, camera images, calibrations and transforms. Ground truth is the field ``label``
of the clouds; the latched topic ``/label_info_json`` defines its classes. ``/tf`` has the vehicle's pose at each
sweep's stamp, where the dataset has poses.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.config.data import DATASETS, frame_range
from training.data.registry import open_drives
from training.datasets.bag_export import write_bag
from xmodelkd_ros.console import print_notes, run_command
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.messages.topics import POINTS


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser("python -m training.to_bag", description="Export frames of a drive to a bag.")
    parser.add_argument("dataset", choices=DATASETS, help="dataset of the drive")
    parser.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="folder of the drive; for nuscenes VERSION/scene-NNNN",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="rosbag2 folder to create, or one .mcap file")
    parser.add_argument("--frames", metavar="A:B", default="", help="frames A to B - 1 (default: all)")
    parser.add_argument(
        "--points-topic", metavar="TOPIC", default=POINTS, help="topic of the sweeps (default: %(default)s)"
    )
    parser.add_argument(
        "--storage", choices=["mcap", "sqlite3"], default="mcap", help="storage format (default: %(default)s)"
    )
    args = parser.parse_args(argv)

    def work() -> str:
        (sequence,) = open_drives(args.dataset, args.path, max_drives=1)
        frames = frame_range(args.frames, "--frames") if args.frames else range(len(sequence))
        if frames.stop > len(sequence):
            raise ConfigError(f"{sequence.name} has no frame {frames.stop - 1}; it has 0 to {len(sequence) - 1}")
        if not write_bag(sequence, frames, args.out, args.points_topic, args.storage):
            print_notes([f"{sequence.name}: these sweeps have no ground truth: field label is 255 throughout the bag"])
        return f"{args.out}: {len(frames)} sweeps"

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
