"""Train, score and compare runs: ``python -m training.compare CONFIG.yaml [--open] [key=value ...]``.

The same command resumes an interrupted comparison.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from training.config.image_training import ImageTrainingConfig
from training.config.label_sets import LABELS
from training.config.training import TrainingConfig
from training.config.yaml_config import require
from training.data.cache import run_cache
from training.data.sources import load_source
from training.experiments.agreement import confusions
from training.experiments.comparison_config import Comparison, RunEntry, ScoreEntry
from training.experiments.comparison_report import Scored, write_comparison
from training.experiments.corruption import MODERATE, SEVERITIES, corrupted
from training.modules.checkpoint import CHECKPOINT
from training.predict.predictor import Predictor, load_predictor, predict_labels
from training.runs.trainer import finished, on_one_device, resolved
from training.train import train
from training.train_images import train_images
from training.worldgen import WORLD_VERSION
from training.worldgen.drive import TEST, VALIDATION
from xmodelkd_ros.console import run_command
from xmodelkd_ros.core.atomic_write import atomic_file, make_folder
from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.metrics import CalibrationError, ConfusionMatrix
from xmodelkd_ros.core.model_spec import sha256
from xmodelkd_ros.resources import label_map

_SCORES = "scores.json"
OPENINGS = "openings.jsonl"
"""Log of all evaluations on held-back sweeps, in the comparison's folder (this project's: docs/evaluations.jsonl)."""


def compare(comparison: Comparison, opened: bool) -> Path:
    """Train and score all missing runs, with ``opened`` on the held-back sweeps too; returns the results' folder.

    Raises:
        ConfigError: as the runs and their data raise it.
    """
    trained = [entry for entry in comparison.runs if not entry.model]
    planned = [(entry, seed) for entry in trained for seed in comparison.seeds_of(entry)]
    # All settings and folders are checked first, so that errors show before training.
    runs = [(entry, seed, on_one_device(comparison.settings(entry, seed))) for entry, seed in planned]
    for *_, settings in runs:
        finished(settings)
    for entry in comparison.runs:
        if entry.model:
            predicted = load_predictor(comparison.network(entry, 0)).module.labels.name
            require(f"{entry.name}: label set", predicted, predicted == LABELS, f"{LABELS} to be compared")
    _check_precision([settings for *_, settings in runs])
    for entry, seed, settings in runs:
        if not finished(settings):
            print(f"{entry.name}, seed {seed}: {settings.run}", file=sys.stderr)
            train_images(settings) if isinstance(settings, ImageTrainingConfig) else train(settings)
    scores = comparison.scores(opened)
    by_run: dict[str, dict[int, dict[str, Scored]]] = {}
    for entry in comparison.runs:
        if entry.scored and not entry.images:
            by_run[entry.name] = {seed: _scores(comparison, entry, seed, scores) for seed in comparison.seeds_of(entry)}
    return write_comparison(comparison, {score.name: score.label_set for score in scores}, by_run)


def _check_precision(runs: Sequence[TrainingConfig | ImageTrainingConfig]) -> None:
    """Raise a ConfigError for runs of different precision, some of which were trained on another machine."""
    precisions = {resolved(settings).precision: settings.run for settings in runs}
    if len(precisions) > 1:
        found = ", ".join(f"{run}: {name}" for name, run in precisions.items())
        raise ConfigError(f"runs would differ in precision ({found}); set it in the overrides of all runs")


def _scores(comparison: Comparison, entry: RunEntry, seed: int, scores: Sequence[ScoreEntry]) -> dict[str, Scored]:
    """The scores of a run, saved beside its checkpoint; those of a finished network in the comparison's folder."""
    run, trained = comparison.folder(entry, seed), comparison.network(entry, seed)
    make_folder(run)
    path, network = run / _SCORES, sha256(trained / CHECKPOINT)
    saved = _saved_scores(path) if path.exists() else {}
    if saved.get("sha256") != network:
        saved = {"sha256": network, "counts": {}}
    for score in scores:
        if _score_key(score) not in saved["counts"]:
            result = score_network(load_predictor(trained), score, f"{run.name} {score.name}")
            saved["counts"][_score_key(score)] = result
            if score.held_back:  # logged first: after an interruption, a duplicate entry is better than none
                _log_opening(comparison, run, score, network, result)
            with atomic_file(path) as unfinished:
                unfinished.write_text(json.dumps(saved), encoding="utf-8")
    return {score.name: saved["counts"][_score_key(score)] for score in scores}


def _saved_scores(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(saved["counts"], dict) and isinstance(saved["sha256"], str):
            return dict(saved)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read {path}: {quoted(error)}; remove it to score the run again") from error
    raise ConfigError(f"{path} holds no scores; remove it to score the run again")


def _log_opening(comparison: Comparison, run: Path, score: ScoreEntry, network: str, result: Scored) -> None:
    """Log an evaluation on held-back sweeps: network, sweeps and scores."""
    confusion = ConfusionMatrix(label_map(score.label_set))
    confusion.counts = np.asarray(result["all"], np.int64)
    line = {"date": date.today().isoformat(), "model": run.name, "sha256": network, "opened": str(score.source)}
    line |= {"why": f"comparison {comparison.run}", "label_set": score.label_set, "miou": confusion.miou()}
    with (Path(comparison.run) / OPENINGS).open("a", encoding="utf-8") as log:
        log.write(json.dumps(line | {"iou": confusion.iou()}) + "\n")


def _score_key(score: ScoreEntry) -> str:
    """The sweeps and settings that scores depend on, whatever the entry's name."""
    world = WORLD_VERSION if score.source.dataset == "world" else None
    corruption = score.corruption
    if score.severity != SEVERITIES[MODERATE]:
        corruption += f" {score.severity}"
    return json.dumps([asdict(score.source), score.held_back, corruption, score.label_set, world])


def score_network(network: Predictor, score: ScoreEntry, title: str) -> Scored:
    """Confusion matrices over all points and the points in a camera's view, and the calibration error."""
    source = load_source(score.source, TEST if score.held_back else VALIDATION, images=True)
    sweeps = source.sweeps
    if score.corruption:
        severity = SEVERITIES.index(score.severity)
        sweeps = [corrupted(sweep, score.corruption, number, severity) for number, sweep in enumerate(sweeps)]
    predicted = list(predict_labels(network, sweeps, source.encoded_images, title))
    truth = [sweep.labels for sweep in sweeps]
    matrices = confusions(source, [sweep.ids for sweep in predicted], truth, label_map(score.label_set))
    calibration = CalibrationError()
    for labels, sweep in zip(truth, predicted, strict=True):
        calibration.update(labels, sweep.ids, sweep.probability)
    return {**{part: confusion.counts.tolist() for part, confusion in matrices.items()}, "ece": calibration.value()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.compare", allow_abbrev=False, description="Train, score and compare runs."
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="comparison to run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that override the file")
    parser.add_argument("--open", action="store_true", help="also score on the held-out test sweeps, and log it")
    options = parser.parse_intermixed_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

    def work() -> str:
        with run_cache():
            folder = compare(Comparison.read(options.config, options.overrides), options.open)
        return (folder / "table.md").read_text(encoding="utf-8") + f"\nwritten: {folder}"

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
