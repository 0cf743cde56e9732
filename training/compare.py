"""Train, score and compare: ``python -m training.compare CONFIG.yaml [--open] [key=value ...]``.

An interrupted comparison goes on where it stopped when the same command is given again.
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
from training.config.label_sets import SCORED_LABELS
from training.config.training import TrainingConfig
from training.data.cache import run_cache
from training.data.sources import load_source
from training.experiments.agreement import confusions
from training.experiments.comparison_config import Comparison, RunEntry, ScoreEntry
from training.experiments.comparison_report import Scored, write_comparison
from training.experiments.corruption import corrupted
from training.modules.checkpoint import CHECKPOINT
from training.predict.predictor import Predictor, load_predictor, predict_labels
from training.runs.trainer import finished, on_one_device, resolved
from training.train import train
from training.train_images import train_images
from training.worldgen import WORLD_VERSION
from training.worldgen.drive import TEST, VALIDATION
from xmodelkd_ros.console import run_command
from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.errors import ConfigError, quoted
from xmodelkd_ros.core.metrics import CalibrationError, ConfusionMatrix
from xmodelkd_ros.core.model_spec import sha256
from xmodelkd_ros.resources import label_map

_SCORES = "scores.json"
OPENINGS = "openings.jsonl"
"""Each time that a network saw held-back sweeps, in the comparison's folder (docs/evaluations.jsonl holds ours)."""


def compare(comparison: Comparison, opened: bool) -> Path:
    """Train what is not trained, score what is not scored, and write the results; their folder is returned.

    Args:
        comparison: what to compare.
        opened: whether the held-back sweeps are scored too.

    Raises:
        ConfigError: as the runs and their data raise it.
    """
    planned = [(entry, seed) for entry in comparison.runs for seed in comparison.seeds_of(entry)]
    # All settings and folders first: mistakes show before the work.
    every = [(entry, seed, on_one_device(comparison.settings(entry, seed))) for entry, seed in planned]
    for *_, settings in every:
        finished(settings)
    _check_precision([settings for *_, settings in every])
    for entry, seed, settings in every:
        if not finished(settings):
            print(f"{entry.name}, seed {seed}: {settings.run}", file=sys.stderr)
            train_images(settings) if isinstance(settings, ImageTrainingConfig) else train(settings)
    wanted = [score for score in comparison.score if opened or not score.held_back]
    found: dict[str, dict[int, dict[str, Scored]]] = {}
    for entry in comparison.runs:
        if entry.scored and not entry.images:
            found[entry.name] = {seed: _scores(comparison, entry, seed, wanted) for seed in comparison.seeds_of(entry)}
    return write_comparison(comparison, [score.name for score in wanted], found)


def _check_precision(runs: Sequence[TrainingConfig | ImageTrainingConfig]) -> None:
    """Raise a ConfigError if runs would be of different precision: half of them were trained on another machine."""
    found = {resolved(settings).precision: settings.run for settings in runs}
    if len(found) > 1:
        raise ConfigError(
            f"runs would differ in precision ({', '.join(f'{run}: {name}' for name, run in found.items())}); set it in "
            "the overrides of all runs"
        )


def _scores(comparison: Comparison, entry: RunEntry, seed: int, wanted: Sequence[ScoreEntry]) -> dict[str, Scored]:
    """The scores of a run, kept beside its checkpoint."""
    run = comparison.folder(entry, seed)
    kept, network = run / _SCORES, sha256(run / CHECKPOINT)
    known = _known(kept) if kept.exists() else {}
    if known.get("sha256") != network:
        known = {"sha256": network, "counts": {}}
    for score in wanted:
        if _scored_with(score) not in known["counts"]:
            found = score_network(load_predictor(run), score, f"{run.name} {score.name}")
            known["counts"][_scored_with(score)] = found
            if score.held_back:  # first: an opening that is written down twice is better than one that is not
                _log_opening(comparison, run, score, network, found)
            with atomic_file(kept) as unfinished:
                unfinished.write_text(json.dumps(known), encoding="utf-8")
    return {score.name: known["counts"][_scored_with(score)] for score in wanted}


def _known(kept: Path) -> dict[str, Any]:
    """What was scored before."""
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        if isinstance(known["counts"], dict) and isinstance(known["sha256"], str):
            return dict(known)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read {kept}: {quoted(error)}; remove it, and the run is scored again") from error
    raise ConfigError(f"{kept} holds no scores; remove it, and the run is scored again")


def _log_opening(comparison: Comparison, run: Path, score: ScoreEntry, network: str, found: Scored) -> None:
    """Write down that held-back sweeps were opened, with which network, and what it reached."""
    confusion = ConfusionMatrix(label_map(SCORED_LABELS))
    confusion.counts = np.asarray(found["all"], np.int64)
    line = {"date": date.today().isoformat(), "model": run.name, "sha256": network, "opened": str(score.source)}
    line |= {"why": f"comparison {comparison.run}", "label_set": SCORED_LABELS, "miou": confusion.miou()}
    with (Path(comparison.run) / OPENINGS).open("a", encoding="utf-8") as log:
        log.write(json.dumps(line | {"iou": confusion.iou()}) + "\n")


def _scored_with(score: ScoreEntry) -> str:
    """What counts are of, however it is called."""
    world = WORLD_VERSION if score.source.dataset == "world" else None
    return json.dumps([asdict(score.source), score.held_back, score.corruption, SCORED_LABELS, world])


def score_network(network: Predictor, score: ScoreEntry, what: str) -> Scored:
    """Count the confusion of a network over all points of some sweeps and those that a camera sees; its calibration."""
    source = load_source(score.source, TEST if score.held_back else VALIDATION, images=True)
    sweeps = source.sweeps
    if score.corruption:
        sweeps = [corrupted(sweep, score.corruption, number) for number, sweep in enumerate(sweeps)]
    said, truth = list(predict_labels(network, sweeps, source.encoded_images, what)), [sweep.labels for sweep in sweeps]
    found = confusions(source, [sweep.ids for sweep in said], truth, label_map(SCORED_LABELS))
    calibration = CalibrationError()
    for labels, sweep in zip(truth, said, strict=True):
        calibration.update(labels, sweep.ids, sweep.probability)
    return {**{part: confusion.counts.tolist() for part, confusion in found.items()}, "ece": calibration.value()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.compare", allow_abbrev=False, description="Train, score and compare."
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--open", action="store_true", help="score held-back sweeps too")
    options = parser.parse_intermixed_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

    def work() -> str:
        with run_cache():
            folder = compare(Comparison.read(options.config, options.overrides), options.open)
        return (folder / "table.md").read_text(encoding="utf-8") + f"\nwritten: {folder}"

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
