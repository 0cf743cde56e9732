"""Train, score and compare: ``python -m training.compare CONFIG.yaml [--open] [key=value ...]``.

An interrupted comparison goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.checkpoint import CHECKPOINT
from training.command import run_command
from training.comparison import Comparison, RunEntry, ScoreEntry
from training.comparison_report import write_comparison
from training.config import ImageTrainingConfig
from training.data.sources import Source, load_source
from training.data.sweeps import WholeSweeps, with_rows
from training.data.views import NO_CAMERA
from training.label_sets import LABELS, SCORED_LABELS
from training.lessons import TrainedTeacher, trained_teacher
from training.run import finished
from training.train import train
from training.train_images import train_images
from training.world.drive import CHOOSE, TEST
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.core.model_spec import sha256
from xmodelkd_ros.core.projection import NO_PIXEL, RangeProjector
from xmodelkd_ros.resources import label_map, translation
from xmodelkd_ros.tools.session import progress

_SCORES = "scores.json"
Counts = dict[str, list[list[int]]]
"""Confusion over all points, and over those that a camera sees: ``all``, ``seen``."""


def compare(comparison: Comparison, opened: bool) -> Path:
    """Train what is not trained, score what is not scored, and write the results; their folder is returned.

    Args:
        comparison: what to compare.
        opened: whether the held-back sweeps are scored too.

    Raises:
        ConfigError: as the runs and their data raise it.
    """
    for entry in comparison.runs:
        for seed in comparison.seeds_of(entry):
            settings = comparison.settings(entry, seed)
            if not finished(settings):
                print(f"{entry.name}, seed {seed}: {settings.run}", file=sys.stderr)
                train_images(settings) if isinstance(settings, ImageTrainingConfig) else train(settings)
    wanted = [score for score in comparison.score if opened or not score.held_back]
    found: dict[str, dict[int, dict[str, Counts]]] = {}
    for entry in comparison.runs:
        if entry.scored and not entry.images:
            found[entry.name] = {seed: _scores(comparison, entry, seed, wanted) for seed in comparison.seeds_of(entry)}
    return write_comparison(comparison, [score.name for score in wanted], found)


def _scores(comparison: Comparison, entry: RunEntry, seed: int, wanted: Sequence[ScoreEntry]) -> dict[str, Counts]:
    """The counts of a run, kept beside its checkpoint."""
    run = comparison.folder(entry, seed)
    kept, network = run / _SCORES, sha256(run / CHECKPOINT)
    known: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if known.get("sha256") != network:
        known = {"sha256": network, "counts": {}}
    for score in wanted:
        if score.name not in known["counts"]:
            known["counts"][score.name] = count(trained_teacher(run), score, f"{run.name} {score.name}")
            kept.write_text(json.dumps(known), encoding="utf-8")
    return {score.name: known["counts"][score.name] for score in wanted}


def count(network: TrainedTeacher, score: ScoreEntry, what: str) -> Counts:
    """Count the confusion of a network over all points of some sweeps, and over those that a camera sees."""
    source = load_source(score.source, TEST if score.held_back else CHOOSE, images=True)
    (sweeps,) = with_rows([source.sweeps], [True])
    whole = WholeSweeps(sweeps, network.inputs, network.knowledge(sweeps, source.looks))
    projector = RangeProjector(network.inputs.projection)
    to_scored = translation(label_map(LABELS), label_map(SCORED_LABELS))
    confusions = {name: ConfusionMatrix(label_map(SCORED_LABELS)) for name in ("all", "seen")}
    for number, sweep in enumerate(progress(sweeps, len(sweeps), what)):
        batch = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in whole[number].items()}
        with torch.inference_mode():
            predicted = to_scored.apply(network.module.say(batch).logits[0].argmax(dim=0).numpy())
        valid = projector.project(sweep.cloud).pixel != NO_PIXEL
        truth = to_scored.apply(sweep.labels)[valid]
        confusions["all"].update(truth, predicted)
        seen = _seen(source, number)[valid]
        confusions["seen"].update(truth[seen], predicted[seen])
    return {name: confusion.counts.tolist() for name, confusion in confusions.items()}


def _seen(source: Source, number: int) -> NDArray[np.bool_]:
    if not source.looks:
        return np.zeros(len(source.sweeps[number].labels), np.bool_)
    return np.asarray((source.looks[number].views.camera != NO_CAMERA).any(axis=1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.compare", allow_abbrev=False, description="Train, score and compare."
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--open", action="store_true", help="score held-back sweeps too")
    options = parser.parse_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

    def work() -> str:
        folder = compare(Comparison.read(options.config, options.overrides), options.open)
        return (folder / "table.md").read_text(encoding="utf-8") + f"\nwritten: {folder}"

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
