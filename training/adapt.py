"""Learn from a drive without labels: ``python -m training.adapt MODEL BAG --out DIR [--teacher MODEL] ...``.

A teacher labels the drive through its cameras, and the student learns from it. The end of the drive is held out, and
shows what changed. An interrupted run goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
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
from training.data.sources import load_source
from training.deploy.model_folder import export
from training.experiments.adaptation import AdaptConfig, Predictions
from training.experiments.adaptation_report import REPORT, summary, write_report
from training.modules.checkpoint import read_checkpoint
from training.predict.predictor import Predictor, load_predictor
from training.runs.trainer import on_one_device
from training.train import train
from xmodelkd_ros.console import run_command
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.reports.scores import write_metrics
from xmodelkd_ros.resources import find_model, label_map

DEFAULTS = Path(__file__).parents[1] / "config" / "adapt.yaml"
MODEL, METRICS = "model", "metrics.json"


def adapt(config: AdaptConfig, scored: str, command: str) -> dict[str, Any]:
    """Adapt a student, say what came of it, and export it.

    Args:
        config: how.
        scored: label set that truth is compared in.
        command: that makes it again.

    Returns:
        The content of ``metrics.json``.

    Raises:
        ConfigError: model, teacher or drive cannot be used.
    """
    folder, scored_in = Path(config.run), label_map(scored)
    student = read_checkpoint(Path(config.model))
    settings = on_one_device(config.training(student))
    teacher = load_predictor(Path(config.distill.teacher))
    _, held_out = config.parts()
    make_folder(folder)
    # Its labels, if it has any, are for comparison only: a drive without them will do.
    source = load_source(replace(held_out, labels="none"), "train", images=teacher.branch is not None)
    if teacher.branch is not None and not any(source.seen(number).any() for number in range(len(source.sweeps))):
        raise ConfigError(
            f"{config.drive} has no images that show its sweeps, but {config.distill.teacher} needs them; record "
            "CameraInfo and /tf_static too, with clocks that agree, or name a teacher that sees no images"
        )
    before = load_predictor(Path(config.model))
    after = load_predictor(train(settings))
    predictions = Predictions.of(source, {"before": before, "after": after, "teacher": teacher})
    metrics = {
        "drive": {"learnt": str(settings.data.train[-1]), "held_out": str(held_out), "sweeps": len(source.sweeps)},
        "agreement": predictions.agreement(),
        "label_set": scored,
        "truth": predictions.truth(scored_in),
        "old": [_remembered(check, before, after, scored_in) for check in config.check],
        "command": command,
    }
    write_metrics(folder, metrics)
    write_report(folder, metrics, predictions)
    export(folder / "run", folder / MODEL, _temperature(Path(config.model)))
    return metrics


def _temperature(model: Path) -> float | None:
    """That of the model folder that is adapted: what checks for forgetting may be generated, and calibrates nothing."""
    return ModelSpec.read(model).temperature if (model / "model.json").exists() else None


def _remembered(config: SourceConfig, before: Predictor, after: Predictor, scored: LabelMap) -> dict[str, Any]:
    """What the student knew of old drives, and what it knows now."""
    predictions = Predictions.of(load_source(config, "validation"), {"before": before, "after": after})
    return {"data": str(config), **(predictions.truth(scored) or {})}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.adapt", allow_abbrev=False, description="Let a student learn from a drive without labels."
    )
    parser.add_argument("model", metavar="MODEL", help="name, folder or run of the student to begin with")
    parser.add_argument("drive", metavar="BAG", help="the drive")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of the settings")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of model, report and run")
    parser.add_argument("--teacher", metavar="MODEL", default="teacher", help="name, folder or run of the teacher")
    parser.add_argument("--dataset", choices=DATASETS, default="bag", help="what BAG is (default: %(default)s)")
    parser.add_argument("--frames", metavar="A:B", default="", help="frames A to B - 1 (default: all)")
    parser.add_argument("--points-topic", metavar="TOPIC", default="", help="of the sweeps of a bag")
    parser.add_argument("--label-set", metavar="S", default=LABELS, help="set to score in (default: %(default)s)")
    parser.add_argument("--config", type=Path, default=DEFAULTS, help="settings (default: config/adapt.yaml)")
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_intermixed_args(words)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

    def work() -> str:
        config = AdaptConfig.read(options.config, [*_overrides(options), *options.overrides])
        with run_cache():
            metrics = adapt(config, options.label_set, shlex.join(["python", "-m", "training.adapt", *words]))
        return f"{summary(metrics)}\nmodel {Path(config.run) / MODEL} | report {Path(config.run) / REPORT}"

    return run_command(work)


def _overrides(options: argparse.Namespace) -> list[str]:
    frames = frame_range(options.frames, "--frames") if options.frames else None
    return [
        _text("model", _place(options.model)),
        _text("distill.teacher", _place(options.teacher)),
        _text("run", options.out),
        _text("drive.dataset", options.dataset),
        _text("drive.path", options.drive),
        _text("drive.topic", options.points_topic),
        *([f"drive.frames=[{frames.start}, {frames.stop}]"] if frames else []),
    ]


def _text(key: str, value: object) -> str:
    """An override whose value stays text, though it may look like a date or a number."""
    return f"{key}={json.dumps(str(value))}"


def _place(model: str) -> Path:
    """A run's folder as it is; else the folder of a model, which may be given by its name."""
    return Path(model) if Path(model).is_dir() else find_model(model)


if __name__ == "__main__":
    sys.exit(main())
