"""Adapt a student to drives without labels: ``python -m training.adapt MODEL BAG [BAG ...] --out DIR ...``.

A teacher, an image network or both label the drives with the help of their cameras, and the student trains on these
labels. The end of each drive is held out for the evaluation. The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.config.data import DATASETS, SourceConfig, frame_range
from training.config.label_sets import LABELS
from training.config.training import NO_TEACHER
from training.data.cache import run_cache
from training.data.sources import Source, few_sweeps, joined, load_source
from training.deploy.model_folder import export_checkpoint
from training.distillation.prerequisites import UpstreamModels
from training.experiments.adaptation import AdaptConfig, Predictions
from training.experiments.adaptation_report import REPORT, summary, write_report
from training.experiments.verdict import verdict
from training.modules.checkpoint import model_or_run, read_checkpoint
from training.predict.predictor import Predictor, predictor_of
from training.runs.trainer import on_one_device
from training.train import train
from xmodelkd_ros.console import print_notes, print_warnings, run_command
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.errors import ConfigError, listed
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.reports.scores import write_metrics
from xmodelkd_ros.resources import label_map, user_path
from xmodelkd_ros.segmentation.auto_sensor import chosen_sensor
from xmodelkd_ros.segmentation.input_monitor import InputMonitor
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

DEFAULTS = Path(__file__).parents[1] / "config" / "adapt.yaml"
MODEL, METRICS = "model", "metrics.json"
_CAMERA_TEACHER, _CLASS_TEACHER = "teacher", "class_teacher"
_CHECKED = 40
"""Sweeps of the learnt part that are checked."""


def adapt(config: AdaptConfig, scored: str, command: str) -> dict[str, Any]:
    """Adapt a student, evaluate it on the held-out part, and export it; returns the content of ``metrics.json``.

    Args:
        config: the settings.
        scored: label set of the scores against the ground truth.
        command: the command line, for the report.

    Raises:
        ConfigError: model, teacher or drive cannot be used.
    """
    with run_cache():  # opens the drive once, and closes it
        return _adapted(config, scored, command)


def _adapted(config: AdaptConfig, scored: str, command: str) -> dict[str, Any]:
    folder, scored_in = Path(config.run), label_map(scored)
    student = read_checkpoint(Path(config.model))
    if student.config.teacher:
        raise ConfigError(f"{config.model} is a camera teacher, but adapt trains a student: give MODEL student")
    split = config.split()
    learnt = [part for part, _ in split]
    settings = on_one_device(config.training(student, learnt))
    upstream = UpstreamModels.of(settings)
    make_folder(folder)
    held_out = [_held_out(part, upstream) for _, part in split]
    is_exported = (Path(config.model) / "model.json").exists()
    warnings = _input_warnings(Path(config.model), learnt, held_out) if is_exported else []
    before = predictor_of(student)
    trained = read_checkpoint(train(settings, student, upstream))
    after = predictor_of(trained)
    predictions = Predictions.of(joined(held_out), before, after, upstream)
    export_checkpoint(trained, folder / MODEL, _temperature(Path(config.model)))
    if not is_exported:
        warnings = _input_warnings(folder / MODEL, learnt, held_out)
    metrics: dict[str, Any] = {
        "drive": {
            "learnt": listed(map(str, learnt)),
            "held_out": listed(str(part) for _, part in split),
            "sweeps": len(predictions.source.sweeps),
        },
        "agreement": predictions.agreement(),
        "over_time": predictions.over_time(),
        "label_set": scored,
        "truth": predictions.truth(scored_in),
        "old": [_retention(check, before, after, scored_in) for check in config.check],
        "warnings": warnings,
        "command": command,
    }
    metrics["verdict"] = verdict(metrics)
    write_metrics(folder, metrics)
    write_report(folder, metrics, predictions, trained.origins, upstream.read_network)
    return metrics


def _held_out(part: SourceConfig, upstream: UpstreamModels) -> Source:
    """The held-out part of a drive. Ground truth, if it has any, is used for scoring only.

    Raises:
        ConfigError: images are needed, but none shows a point.
    """
    source = load_source(replace(part, labels="none"), "train", images=upstream.takes_images)
    if upstream.takes_images and not any(source.visible_points(k).any() for k in range(len(source.sweeps))):
        raise ConfigError(
            f"{part} has no images that show its sweeps, but the teacher needs them; record CameraInfo and /tf_static "
            "too, with clocks that agree, or name a teacher that uses no images"
        )
    return source


def _input_warnings(model: Path, learnt: Sequence[SourceConfig], held_out: Sequence[Source]) -> list[str]:
    """Print and return warnings about sweeps of the drives that the model does not expect."""
    found = [_warnings_of(model, part, source) for part, source in zip(learnt, held_out, strict=True)]
    warnings = list(dict.fromkeys(warning for one in found for warning in one))
    print_warnings(warnings)
    return warnings


def _warnings_of(model: Path, part: SourceConfig, held_out: Source) -> list[str]:
    monitor = InputMonitor(SegmentationPipeline.load(model, sensor=chosen_sensor(part.sensor)))
    learnt = few_sweeps(replace(part, labels="none"), _CHECKED, images=False)
    for sweep in (*learnt.sweeps, *held_out.sweeps):
        monitor.add(sweep.cloud, monitor.pipeline.segment(sweep.cloud))
    if monitor.pipeline.auto_sensor is not None:
        print_notes([f"{part}: sensor: {monitor.pipeline.sensor_facts['description']}"])
    return monitor.log.notes()


def _temperature(model: Path) -> float | None:
    """Temperature of the initial model folder, if any: generated check drives are unsuitable for calibration."""
    return ModelSpec.read(model).temperature if (model / "model.json").exists() else None


def _retention(config: SourceConfig, before: Predictor, after: Predictor, scored: LabelMap) -> dict[str, Any]:
    """Scores on a check drive before and after the adaptation."""
    predictions = Predictions.of(load_source(config, "validation"), before, after)
    return {"data": str(config), **(predictions.truth(scored) or {})}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.adapt", allow_abbrev=False, description="Adapt a student to drives without labels."
    )
    parser.add_argument("model", metavar="MODEL", help="name, folder or run of the initial student")
    parser.add_argument(
        "drives", nargs="+", metavar="BAG", help="rosbag2 folder or .mcap file; with --dataset, a drive of that dataset"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of model, report and run")
    parser.add_argument(
        "--teacher",
        metavar="MODEL|none",
        help=f"name, folder or run of the teacher (default: {_CAMERA_TEACHER}, with --images-by {_CLASS_TEACHER})",
    )
    parser.add_argument(
        "--images-by",
        metavar="NETWORK",
        default="",
        help="folder of an image network, whose classes a teacher reads; with --teacher none it teaches by itself",
    )
    parser.add_argument(
        "--use-labels", action="store_true", help="train on labels of the drives, where they have some (by hand)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting that overrides the file"
    )
    parser.add_argument("--dataset", choices=DATASETS, default="bag", help="format of BAG (default: %(default)s)")
    parser.add_argument("--frames", metavar="A:B", default="", help="frames A to B - 1 (default: all)")
    parser.add_argument("--points-topic", metavar="TOPIC", default="", help="topic of the sweeps in a bag")
    parser.add_argument(
        "--odometry", action="store_true", help="estimate the motion of bags without /tf (needs the extra odometry)"
    )
    parser.add_argument(
        "--sensor",
        default="auto",
        metavar="FILE|auto|none",
        help="the LiDAR, for models for any: estimated, that of the model's training, or a sensor file or known name "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--label-set", metavar="S", default=LABELS, help="label set of the scores (default: %(default)s)"
    )
    parser.add_argument("--config", type=Path, default=DEFAULTS, help="settings (default: config/adapt.yaml)")
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_intermixed_args(words)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

    def work() -> str:
        config = AdaptConfig.read(options.config, [*_positional_overrides(options), *options.set], _given(options))
        metrics = adapt(config, options.label_set, shlex.join(["python", "-m", "training.adapt", *words]))
        return f"{summary(metrics)}\nmodel {Path(config.run) / MODEL} | report {Path(config.run) / REPORT}"

    return run_command(work)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line's options replace."""
    drive: dict[str, Any] = {"dataset": options.dataset, "topic": options.points_topic, "sensor": options.sensor}
    drive["odometry"] = options.odometry
    drive["labels"] = "own" if options.use_labels else "none"
    if options.frames:
        frames = frame_range(options.frames, "--frames")
        drive["frames"] = (frames.start, frames.stop)
    return {
        "model": str(model_or_run(options.model)),
        "run": str(options.out),
        "drives": [{**drive, "path": path} for path in options.drives],
        "distill": {"on_labelled": options.use_labels, **_teachers(options)},
    }


def _teachers(options: argparse.Namespace) -> dict[str, Any]:
    """What labels the drives: a teacher, with ``--images-by`` one of classes, or an image network by itself."""
    network = {"image_network": str(user_path(options.images_by))} if options.images_by else {}
    teacher = options.teacher or (_CLASS_TEACHER if network else _CAMERA_TEACHER)
    if teacher != NO_TEACHER:
        return {**network, "teacher": str(model_or_run(teacher))}
    if not network:
        raise ConfigError("--teacher none needs --images-by NETWORK, or nobody labels the drives")
    alone = {"pseudo_share": 0.0, "logits_weight": 0.0, "lovasz_weight": 0.0}
    return {**network, **alone, "teacher": NO_TEACHER, "image_weight": 1.0}


def _positional_overrides(options: argparse.Namespace) -> list[str]:
    """The settings among the words of ``BAG``, where they stood in earlier releases; removes them there."""
    settings = [word for word in options.drives if "=" in word and not os.path.exists(word)]
    options.drives = [word for word in options.drives if word not in settings]
    if not options.drives:
        raise ConfigError("give at least one BAG")
    if settings:
        print_notes([f"{word}: give it as --set {word}; this form goes with the next release" for word in settings])
    return settings


if __name__ == "__main__":
    sys.exit(main())
