"""Score an exported model on frames of a dataset: ``python -m training.evaluate pandaset PATH --frames A:B ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from training.command import run_command
from training.config import frame_range
from training.data.pandaset import PandaSetSequence
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.pipeline import SegmentationPipeline
from xmodelkd_ros.resources import find_model, label_map, translation
from xmodelkd_ros.tools.pictures import CameraView, SweepView
from xmodelkd_ros.tools.report import Run, table, write_report
from xmodelkd_ros.tools.score import Scores


def evaluate(
    sequence: PandaSetSequence,
    frames: Sequence[int],
    pipeline: SegmentationPipeline,
    scored: LabelMap | None = None,
) -> tuple[Scores, SweepView]:
    """Segment frames and score them over all points.

    Args:
        sequence: where the frames come from.
        frames: their numbers.
        pipeline: the model.
        scored: the label set to score in; the model's own if None.

    Returns:
        The scores, and the middle frame to look at.
    """
    scores = Scores(pipeline.labels, scored)
    to_model = translation(sequence.label_map, pipeline.labels)
    view = None
    for frame in tqdm(frames, "evaluate", unit=" sweeps", file=sys.stderr, disable=None, leave=False):
        cloud, truth = sequence.cloud(frame), to_model.apply(sequence.labels(frame))
        result = pipeline.segment(cloud)
        scores.add(cloud, result.segmentation, truth, stages_ms=result.stages_ms, mode=result.mode)
        if frame == frames[len(frames) // 2]:
            label = scores.to_scored(result.segmentation.label)
            view = SweepView(cloud, label, scores.label_map, scores.to_scored(truth), _pictures(sequence, frame))
    assert view is not None
    return scores, view


def _pictures(sequence: PandaSetSequence, frame: int) -> tuple[CameraView, ...]:
    return tuple(CameraView(image.camera, np.asarray(Image.open(image.path))) for image in sequence.images(frame))


def run(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Evaluate as the command line says and write the report.

    Returns:
        The content of ``metrics.json``, with the mean IoU without vegetation where that is a class.
    """
    pipeline = SegmentationPipeline.load(find_model(options.model), options.backend)
    scored = label_map(options.label_set) if options.label_set else None
    frames = frame_range(options.frames, "--frames")
    scores, view = evaluate(PandaSetSequence(options.path), frames, pipeline, scored)
    metrics = scores.metrics(pipeline.spec, pipeline.backend.name, pipeline.backend.precision)
    if scores.label_map.knows("vegetation"):
        metrics["miou_without_vegetation"] = scores.confusion.miou(without=("vegetation",))
    title = f"{options.dataset} frames {options.frames}"
    write_report(options.out, Run(title, command, "the time of the pipeline"), metrics, scores, pipeline.spec, view)
    return metrics


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.evaluate", allow_abbrev=False, description="Score a model on frames of a dataset."
    )
    parser.add_argument("dataset", choices=["pandaset"], help="what PATH holds")
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of the sequence; its pickles must be trusted")
    parser.add_argument("--frames", metavar="A:B", required=True, help="frames A to B - 1")
    parser.add_argument("--model", metavar="DIR", required=True, help="name or folder of the model")
    parser.add_argument("--mode", choices=["student"], default="student", help="student: LiDAR only")
    parser.add_argument("--backend", default="auto", help="library that runs the network (default: %(default)s)")
    parser.add_argument("--label-set", default="", metavar="S", help="set to score in (default: the model's own)")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of metrics.json and report")
    words = list(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(words)

    def work() -> str:
        metrics = run(options, " ".join(["python -m training.evaluate", *words]))
        return f"{table(metrics)} | report {options.out / 'report.html'}"

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
