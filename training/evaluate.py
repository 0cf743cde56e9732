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
from xmodelkd_ros.console import print_notes, print_warnings, run_command
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.camera import CameraView
from xmodelkd_ros.core.errors import ConfigError, LabelError, XModelKDError, listed
from xmodelkd_ros.core.labels import IGNORE, LabelMap
from xmodelkd_ros.core.truth_coverage import TruthCoverage
from xmodelkd_ros.reports.report import Run, score_table, write_report
from xmodelkd_ros.reports.scores import Scores
from xmodelkd_ros.reports.sweep_plots import SweepView
from xmodelkd_ros.reports.truth import TruthTranslation
from xmodelkd_ros.resources import find_model, label_map, translation
from xmodelkd_ros.segmentation.auto_sensor import chosen_sensor
from xmodelkd_ros.segmentation.backend_selection import select_backend
from xmodelkd_ros.segmentation.input_monitor import InputMonitor
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


def evaluate(
    frames: Sequence[tuple[DriveSequence, int]],
    pipeline: SegmentationPipeline,
    scored: LabelMap | None = None,
    monitor: InputMonitor | None = None,
) -> tuple[Scores, SweepView, list[str]]:
    """Segment frames and score all points; returns the scores, a view of the middle frame, and notes for the user.

    Args:
        frames: (drive, frame number) pairs.
        pipeline: the model.
        scored: label set of the scores; the model's own if None.
        monitor: watches the input, if given.

    Raises:
        ConfigError: a frame cannot be read.
    """
    truths = _Truth(pipeline.labels, scored or pipeline.labels)
    scores = Scores(pipeline.labels, scored, pipeline.usable)
    view, unread, known = None, [], None
    for k, (drive, index) in enumerate(
        tqdm(frames, "evaluate", unit=" sweeps", file=sys.stderr, disable=None, leave=False)
    ):
        if drive is not known and pipeline.auto_sensor is not None:
            pipeline.auto_sensor.restart()
        known = drive
        truth, scored_truth = truths.of(drive, index)
        cloud = drive.cloud(index)
        images = EncodedSweepImages.load(drive, index).decode() if pipeline.spec.role == "teacher" else ()
        result = pipeline.segment(cloud, images=images)
        if monitor is not None:
            monitor.add(cloud, result)
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
            views, unread = _camera_views(drive, index)
            view = SweepView(cloud, label, scores.label_map, scored_truth, views)
    assert view is not None
    return scores, view, [*unread, *_notes(frames, scores, pipeline, truths)]


def _camera_views(drive: DriveSequence, index: int) -> tuple[tuple[CameraView, ...], list[str]]:
    """The images of a frame for the plots, and notes on those that cannot be read: scores do not need them."""
    views, notes = [], []
    for image in drive.images(index):
        try:
            views.append(CameraView(image.camera, image.pixels()))
        except XModelKDError as error:
            notes.append(f"camera {image.camera.name} is not drawn: {error}")
    return tuple(views), notes


class _Truth:
    """The ground truth of drives, in the model's and in the scored label set."""

    def __init__(self, model: LabelMap, scored: LabelMap) -> None:
        self._model, self._scored = model, scored
        self._seen: dict[LabelMap, tuple[TruthTranslation, TruthCoverage]] = {}

    def of(self, drive: DriveSequence, index: int) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
        """The (N,) true ids of a frame in both sets; None if it has no labels."""
        labels, own = drive.labels(index), drive.label_map
        if not (labels != IGNORE).any():
            return None, None
        if own not in self._seen:
            self._seen[own] = TruthTranslation.of(own, self._model, self._scored), TruthCoverage(own)
        to_scored, coverage = self._seen[own]
        coverage.add(labels)
        return translation(own, self._model).apply(labels), to_scored.lookup[labels]

    def notes(self, scores: Scores) -> list[str]:
        """What is not scored, and which predicted classes the truth never has."""
        notes = []
        for to_scored, coverage in self._seen.values():
            notes += coverage.notes(to_scored.lookup, self._scored.name) + to_scored.notes(scores.confusion)
        return notes


def _notes(
    frames: Sequence[tuple[DriveSequence, int]], scores: Scores, pipeline: SegmentationPipeline, truths: _Truth
) -> list[str]:
    names, notes = listed(dict.fromkeys(drive.name for drive, _ in frames)), truths.notes(scores)
    if not scores.has_truth:
        notes.append(f"no score: {names} has no labels")
    if pipeline.spec.role == "teacher" and not scores.modes["teacher"]:
        notes.append(f"no sweep of {names} had a usable image: all were labelled by LiDAR alone")
    return notes


def _scored_set(name: str, drives: Sequence[DriveSequence]) -> LabelMap | None:
    """A shipped label set, or the one that a drive brings; None without a name.

    Raises:
        LabelError: there is no such set.
    """
    if not name:
        return None
    own = {drive.label_map.name: drive.label_map for drive in drives}
    try:
        return label_map(name)
    except LabelError as error:
        if name in own:
            return own[name]
        raise LabelError(f"{error}; the data have {listed(own)}") from error


def run(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Evaluate a model and write the report.

    Returns:
        The content of ``metrics.json``, with the mean IoU without vegetation if that is a class.
    """
    make_folder(options.out)  # before the work
    folder = find_model(options.model)
    backend = select_backend(folder, options.backend, options.precision).backend
    pipeline = SegmentationPipeline.load(folder, backend, options.precision, chosen_sensor(options.sensor))
    if options.points_topic and options.dataset != "bag":
        raise ConfigError(f"--points-topic: {options.dataset} has no topics; leave it out")
    split, topic = _split(options), options.points_topic
    drives = open_drives(options.dataset, options.path, split=split, topic=topic, scored=True)
    scored = _scored_set(options.label_set, drives)
    wanted = frame_range(options.frames, "--frames") if options.frames else None
    frames = [(drive, index) for drive in drives for index in (wanted or range(len(drive)))[:: options.every]]
    monitor = InputMonitor(pipeline)
    scores, view, notes = evaluate(frames, pipeline, scored, monitor)
    described = [f"sensor: {pipeline.sensor_facts['description']}"] if pipeline.auto_sensor is not None else []
    print_notes([*described, *notes])
    metrics = scores.metrics(pipeline.spec, pipeline.backend.name, pipeline.backend.precision)
    metrics["sensor"] = dict(pipeline.sensor_facts)
    metrics["warnings"] = monitor.log.notes()
    print_warnings(metrics["warnings"])
    if scores.has_truth and "vegetation" in scores.label_map.names:
        metrics["miou_without_vegetation"] = scores.confusion.miou(exclude=("vegetation",))
    title = f"{options.dataset} {options.path.name}, frames {options.frames or 'all'}"
    facts = (("sensor", metrics["sensor"]["description"]), *(("note", note) for note in notes))
    data = f"{options.dataset} {options.path.name}"
    origin = Run(title, command, "the time of the pipeline", facts, data, drives[0].source)
    write_report(options.out, origin, metrics, scores, pipeline.spec, view)
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
    parser.add_argument(
        "--points-topic", metavar="T", default="", help="topic of a bag's sweeps (needed if it has several)"
    )
    parser.add_argument("--frames", metavar="A:B", default="", help="frames A to B - 1 of each drive (default: all)")
    parser.add_argument("--every", type=int, choices=range(1, 101), metavar="N", default=1, help="use every Nth frame")
    parser.add_argument("--model", metavar="DIR", required=True, help="name or folder of the model")
    parser.add_argument("--backend", default="auto", help="inference library (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, fp32, fp16 or int8 (default: %(default)s)")
    parser.add_argument(
        "--sensor",
        default="auto",
        metavar="FILE|auto|none",
        help="the LiDAR, for models for any: estimated from each drive's first sweeps, that of the model's training, "
        "or a sensor file or known name (default: %(default)s)",
    )
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
