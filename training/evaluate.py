"""Evaluate an exported model on drives: ``python -m training.evaluate DATASET PATH [--frames A:B] ...``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.config.data import DATASETS, SPLITS, WITH_SPLITS, frame_range
from training.data.registry import open_drives
from training.datasets.exposures import EncodedSweepImages
from training.datasets.sequence import DriveSequence
from xmodelkd_ros.console import print_notes, run_command
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.camera import CameraView
from xmodelkd_ros.core.errors import ConfigError, listed
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.reports.report import Run, score_table, write_report
from xmodelkd_ros.reports.scores import Scores
from xmodelkd_ros.reports.sweep_plots import SweepView
from xmodelkd_ros.resources import find_model, label_map, translation
from xmodelkd_ros.segmentation.backend_selection import select_backend
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


def evaluate(
    frames: Sequence[tuple[DriveSequence, int]], pipeline: SegmentationPipeline, scored: LabelMap | None = None
) -> tuple[Scores, SweepView]:
    """Segment frames and score all points; returns the scores and a view of the middle frame.

    Args:
        frames: (drive, frame number) pairs.
        pipeline: the model.
        scored: label set of the scores; the model's own if None.

    Raises:
        ConfigError: a frame cannot be read.
    """
    scores = Scores(pipeline.labels, scored, pipeline.usable)
    view = None
    for k, (drive, index) in enumerate(
        tqdm(frames, "evaluate", unit=" sweeps", file=sys.stderr, disable=None, leave=False)
    ):
        truth, scored_truth = _truth(drive, index, scores, pipeline.labels)
        cloud = drive.cloud(index)
        images = EncodedSweepImages.load(drive, index).decode() if pipeline.spec.role == "teacher" else ()
        result = pipeline.segment(cloud, images=images)
        scores.add(
            cloud,
            result.segmentation,
            truth,
            scored_truth=scored_truth,
            stages_ms=result.stages_ms,
            mode=result.mode,
        )
        if k == len(frames) // 2:
            label = scores.to_scored(result.segmentation.label)
            views = tuple(CameraView(image.camera, image.pixels()) for image in drive.images(index))
            view = SweepView(cloud, label, scores.label_map, scored_truth, views)
    assert view is not None
    _print_notes(frames, scores, pipeline)
    return scores, view


def _truth(
    drive: DriveSequence, index: int, scores: Scores, model_labels: LabelMap
) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """The (N,) true ids of a frame in the model's and in the scored label set; None if it has no labels."""
    labels = drive.labels(index)
    if not (labels != IGNORE).any():
        return None, None
    truth = translation(drive.label_map, model_labels).apply(labels)
    # Scores in the drive's own classes use its labels unchanged, even if the model has fewer classes.
    return truth, labels if scores.label_map == drive.label_map else scores.to_scored(truth)


def _print_notes(frames: Sequence[tuple[DriveSequence, int]], scores: Scores, pipeline: SegmentationPipeline) -> None:
    names = listed(dict.fromkeys(drive.name for drive, _ in frames))
    if not scores.has_truth:
        print_notes([f"no score: {names} has no labels"])
    if pipeline.spec.role == "teacher" and not scores.modes["teacher"]:
        print_notes([f"no sweep of {names} had a usable image: all were labelled by LiDAR alone"])


def run(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Evaluate a model and write the report.

    Returns:
        The content of ``metrics.json``, with the mean IoU without vegetation if that is a class.
    """
    folder = find_model(options.model)
    backend = select_backend(folder, options.backend, options.precision).backend
    pipeline = SegmentationPipeline.load(folder, backend, options.precision)
    scored = label_map(options.label_set) if options.label_set else None
    drives = open_drives(options.dataset, options.path, split=_split(options))
    wanted = frame_range(options.frames, "--frames") if options.frames else None
    frames = [(drive, index) for drive in drives for index in (wanted or range(len(drive)))[:: options.every]]
    make_folder(options.out)
    scores, view = evaluate(frames, pipeline, scored)
    metrics = scores.metrics(pipeline.spec, pipeline.backend.name, pipeline.backend.precision)
    if scores.has_truth and scores.label_map.has_class("vegetation"):
        metrics["miou_without_vegetation"] = scores.confusion.miou(exclude=("vegetation",))
    title = f"{options.dataset} {options.path.name}, frames {options.frames or 'all'}"
    write_report(options.out, Run(title, command, "the time of the pipeline"), metrics, scores, pipeline.spec, view)
    return metrics


def _split(options: argparse.Namespace) -> str:
    """The official split of a data set; empty for all of it."""
    if options.dataset not in WITH_SPLITS and options.split:
        raise ConfigError(
            f"--split: {options.dataset} has no official splits; leave it out, and select frames with --frames"
        )
    return (options.split or "val").replace("all", "") if options.dataset in WITH_SPLITS else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.evaluate", allow_abbrev=False, description="Evaluate a model on frames of a dataset."
    )
    parser.add_argument("dataset", choices=DATASETS, help="dataset of the drives")
    parser.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="folder of a drive, or of many; for nuscenes a version's folder, or VERSION/scene-NNNN",
    )
    parser.add_argument(
        "--split",
        choices=[*SPLITS, "all"],
        help="official split of a whole SemanticKITTI or nuScenes data set (default: val)",
    )
    parser.add_argument("--frames", metavar="A:B", default="", help="frames A to B - 1 of each drive (default: all)")
    parser.add_argument("--every", type=int, choices=range(1, 101), metavar="N", default=1, help="use every Nth frame")
    parser.add_argument("--model", metavar="DIR", required=True, help="name or folder of the model")
    parser.add_argument("--backend", default="auto", help="inference library (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, fp32, fp16 or int8 (default: %(default)s)")
    parser.add_argument(
        "--label-set", default="", metavar="S", help="label set of the scores (default: the model's own)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of metrics.json and report")
    words = list(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(words)

    def work() -> str:
        metrics = run(options, shlex.join(["python", "-m", "training.evaluate", *words]))
        return f"{score_table(metrics)} | report {options.out / 'report.html'}"

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
