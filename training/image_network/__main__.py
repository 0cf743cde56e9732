"""Check of an image network: ``python -m training.image_network check NETWORK BAG --out DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config.data import DATASETS, SourceConfig
from training.data.cache import run_cache
from training.data.sources import Source, few_sweeps
from training.image_network.answers import ImageAnswers
from training.image_network.check import REPORT, check, warnings_of
from training.image_network.network import ImageNetwork
from training.image_network.reader import NetworkReader
from xmodelkd_ros.console import positive_int, print_warnings, progress, run_command
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.resources import find_model, prefer_source_tree, translation, user_path
from xmodelkd_ros.segmentation.auto_sensor import chosen_sensor
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser("python -m training.image_network", allow_abbrev=False, description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    own = commands.add_parser("check", allow_abbrev=False, help="draw its classes over images and points of a drive")
    own.add_argument("network", metavar="NETWORK", help="folder with an ONNX file and network.json")
    own.add_argument("drive", metavar="BAG", help="rosbag2 folder or .mcap file; with --dataset, a drive of it")
    own.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of report, pictures and metrics")
    own.add_argument("--model", metavar="MODEL", default="student", help="student to compare with (%(default)s)")
    own.add_argument("--sweeps", type=positive_int, default=12, metavar="N", help="number, evenly spread (%(default)s)")
    own.add_argument("--dataset", choices=DATASETS, default="bag", help="format of BAG (%(default)s)")
    own.add_argument("--points-topic", metavar="TOPIC", default="", help="topic of the sweeps in a bag")
    own.add_argument("--sensor", default="auto", metavar="FILE|auto|none", help="the LiDAR (%(default)s)")
    own.set_defaults(work=_check)
    options = parser.parse_args(arguments)
    prefer_source_tree()
    return run_command(lambda: options.work(options))


def _check(options: argparse.Namespace) -> str:
    reader = NetworkReader(ImageAnswers(ImageNetwork(user_path(options.network))))
    config = SourceConfig(options.dataset, options.drive, options.points_topic, options.sensor, labels="none")
    with run_cache():
        source = few_sweeps(config, options.sweeps, images=True)
        if not source.encoded_images:
            raise ConfigError(f"{config} has no images; record an image topic, its CameraInfo and /tf_static")
        labels = _student_labels(options, source, reader.classes.labels)
        metrics = check(reader, source, labels, options.out)
    print_warnings(warnings_of(metrics))
    return (
        f"{reader.answers.network.config.name}: images show {metrics['visible']:.0%} of the points, agreement with "
        f"{options.model} {metrics['agreement']:.0%} | report {options.out / REPORT}"
    )


def _student_labels(options: argparse.Namespace, source: Source, labels: LabelMap) -> list[NDArray[np.uint8]]:
    """The class ids that the student gives the points of each sweep, in a label set."""
    pipeline = SegmentationPipeline.load(find_model(options.model), sensor=chosen_sensor(options.sensor))
    into = translation(pipeline.labels, labels)
    return [
        into.apply(pipeline.segment(sweep.cloud).segmentation.label)
        for sweep in progress(source.sweeps, len(source.sweeps), options.model)
    ]


if __name__ == "__main__":
    sys.exit(main())
