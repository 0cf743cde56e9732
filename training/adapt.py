"""Adapt a student to a drive without labels: ``python -m training.adapt MODEL BAG --out DIR [--teacher MODEL] ...``.

A teacher labels the drive with the help of its cameras, and the student trains on these pseudo-labels. The end of the
drive is held out for the evaluation. The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.config.data import DATASETS, SourceConfig, frame_range
from training.config.label_sets import LABELS
from training.data.cache import run_cache
from training.data.sources import Source, few_sweeps, load_source
from training.deploy.model_folder import export_checkpoint
from training.distillation.prerequisites import UpstreamModels
from training.experiments.adaptation import AdaptConfig, Predictions
from training.experiments.adaptation_report import REPORT, summary, write_report
from training.modules.checkpoint import model_or_run, read_checkpoint
from training.predict.predictor import Predictor, predictor_of
from training.runs.trainer import on_one_device
from training.train import train
from xmodelkd_ros.console import print_notes, print_warnings, run_command
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.reports.scores import write_metrics
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.segmentation.auto_sensor import chosen_sensor
from xmodelkd_ros.segmentation.input_monitor import InputMonitor
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

DEFAULTS = Path(__file__).parents[1] / "config" / "adapt.yaml"
MODEL, METRICS = "model", "metrics.json"
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
    part, held_out = config.split()
    settings = on_one_device(config.training(student, part))
    upstream = UpstreamModels.of(settings)
    teacher = upstream.teacher
    assert teacher is not None
    make_folder(folder)
    # labels="none" also accepts a drive without ground truth; if there is any, it is used for scoring only.
    source = load_source(replace(held_out, labels="none"), "train", images=teacher.reader is not None)
    visible = any(source.visible_points(number).any() for number in range(len(source.sweeps)))
    if teacher.reader is not None and not visible:
        raise ConfigError(
            f"{config.drive} has no images that show its sweeps, but {config.distill.teacher} needs them; record "
            "CameraInfo and /tf_static too, with clocks that agree, or name a teacher that uses no images"
        )
    is_exported = (Path(config.model) / "model.json").exists()
    warnings = _input_warnings(Path(config.model), part, source) if is_exported else []
    before = predictor_of(student)
    trained = read_checkpoint(train(settings, student, upstream))
    after = predictor_of(trained)
    predictions = Predictions.of(source, {"before": before, "after": after, "teacher": teacher})
    export_checkpoint(trained, folder / MODEL, _temperature(Path(config.model)))
    if not is_exported:
        warnings = _input_warnings(folder / MODEL, part, source)
    metrics = {
        "drive": {"learnt": str(settings.data.train[-1]), "held_out": str(held_out), "sweeps": len(source.sweeps)},
        "agreement": predictions.agreement(),
        "label_set": scored,
        "truth": predictions.truth(scored_in),
        "old": [_retention(check, before, after, scored_in) for check in config.check],
        "warnings": warnings,
        "command": command,
    }
    write_metrics(folder, metrics)
    write_report(folder, metrics, predictions, trained.origins)
    return metrics


def _input_warnings(model: Path, part: SourceConfig, held_out: Source) -> list[str]:
    """Print and return warnings about sweeps of the drive that the model does not expect."""
    monitor = InputMonitor(SegmentationPipeline.load(model, sensor=chosen_sensor(part.sensor)))
    learnt = few_sweeps(replace(part, labels="none"), _CHECKED, images=False)
    for sweep in (*learnt.sweeps, *held_out.sweeps):
        monitor.add(sweep.cloud, monitor.pipeline.segment(sweep.cloud))
    if monitor.pipeline.auto_sensor is not None:
        print_notes([f"sensor: {monitor.pipeline.sensor_facts['description']}"])
    warnings = monitor.log.notes()
    print_warnings(warnings)
    return warnings


def _temperature(model: Path) -> float | None:
    """Temperature of the initial model folder, if any: generated check drives are unsuitable for calibration."""
    return ModelSpec.read(model).temperature if (model / "model.json").exists() else None


def _retention(config: SourceConfig, before: Predictor, after: Predictor, scored: LabelMap) -> dict[str, Any]:
    """Scores on a check drive before and after the adaptation."""
    predictions = Predictions.of(load_source(config, "validation"), {"before": before, "after": after})
    return {"data": str(config), **(predictions.truth(scored) or {})}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.adapt", allow_abbrev=False, description="Adapt a student to a drive without labels."
    )
    parser.add_argument("model", metavar="MODEL", help="name, folder or run of the initial student")
    parser.add_argument(
        "drive", metavar="BAG", help="rosbag2 folder or .mcap file; with --dataset, a drive of that dataset"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that override the file")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of model, report and run")
    parser.add_argument("--teacher", metavar="MODEL", default="teacher", help="name, folder or run of the teacher")
    parser.add_argument("--dataset", choices=DATASETS, default="bag", help="format of BAG (default: %(default)s)")
    parser.add_argument("--frames", metavar="A:B", default="", help="frames A to B - 1 (default: all)")
    parser.add_argument("--points-topic", metavar="TOPIC", default="", help="topic of the sweeps in a bag")
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
        config = AdaptConfig.read(options.config, options.overrides, _given(options))
        metrics = adapt(config, options.label_set, shlex.join(["python", "-m", "training.adapt", *words]))
        return f"{summary(metrics)}\nmodel {Path(config.run) / MODEL} | report {Path(config.run) / REPORT}"

    return run_command(work)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line's options replace."""
    drive: dict[str, Any] = {"dataset": options.dataset, "path": options.drive, "topic": options.points_topic}
    drive["sensor"] = options.sensor
    if options.frames:
        frames = frame_range(options.frames, "--frames")
        drive["frames"] = (frames.start, frames.stop)
    return {
        "model": str(model_or_run(options.model)),
        "run": str(options.out),
        "drive": drive,
        "distill": {"teacher": str(model_or_run(options.teacher))},
    }


if __name__ == "__main__":
    sys.exit(main())
