"""Report of a comparison: means, confidence intervals of paired gains, tables, learning curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.config.label_sets import SCORED_LABELS
from training.experiments.comparison_config import Comparison
from training.worldgen import WORLD_VERSION
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.metrics import ConfusionMatrix
from xmodelkd_ros.reports.markdown import markdown_table
from xmodelkd_ros.resources import label_map

_MEASURES = {"miou_without_vegetation": "without vegetation", "miou_seen": "in a camera's view"}
"""Measures beside the mIoU over all points: vegetation is the class with the largest gain in the first comparisons."""
_MIOU_NAMES = {SCORED_LABELS: "mIoU9"}

_CONFIDENCE = 0.95

Scored = Mapping[str, Any]
"""Confusion matrices over ``all`` points and those ``seen`` by a camera, and the calibration error ``ece``."""
AllScores = Mapping[str, Mapping[int, Mapping[str, Scored]]]
"""Scores by run, seed and score entry."""

_LOGS = "tensorboard"


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation and, for two or more values, half the width of the 95 % interval (Student's t)."""
    count = len(values)
    sd = float(np.std(values, ddof=1)) if count > 1 else None
    half = None if sd is None else float(stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1) * sd / np.sqrt(count))
    return {"mean": float(np.mean(values)), "sd": sd, "interval": half, "values": [float(value) for value in values]}


def results(by_run: AllScores, label_sets: Mapping[str, str], baseline: str) -> dict[str, Any]:
    """Measures, IoU of each class and paired gains over the baseline, for each score entry and run.

    Args:
        by_run: the scores.
        label_sets: the score entries, and the label set of each.
        baseline: name of the run that the others are compared with.
    """
    tables: dict[str, Any] = {}
    for score, labels in label_sets.items():
        measured = {
            row: {seed: _measures(counts[score], label_map(labels)) for seed, counts in seeds.items()}
            for row, seeds in by_run.items()
        }
        tables[score] = {row: _row(seeds, measured[baseline]) for row, seeds in measured.items()}
    return tables


def _measures(scored: Scored, labels: LabelMap) -> dict[str, float]:
    confusion = {name: ConfusionMatrix(labels) for name in ("all", "seen")}
    for name, matrix in confusion.items():
        matrix.counts = np.asarray(scored[name], np.int64)
    has_vegetation = "vegetation" in labels.names
    measures = {
        "miou": confusion["all"].miou(),
        "miou_without_vegetation": confusion["all"].miou(exclude=("vegetation",)) if has_vegetation else None,
        "miou_seen": confusion["seen"].miou(),
        "ece": scored["ece"],
        **confusion["all"].iou(),
    }
    return {name: value for name, value in measures.items() if value is not None}


def _row(seeds: Mapping[int, Mapping[str, float]], baseline: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
    """Measures over all seeds, and gains over the seeds shared with the baseline."""
    shared = sorted(set(seeds) & set(baseline))
    names = next(iter(seeds.values()))
    return {
        "measures": {name: summary([seeds[seed][name] for seed in seeds]) for name in names},
        "gains": {name: summary([seeds[seed][name] - baseline[seed][name] for seed in shared]) for name in names}
        if shared
        else {},
    }


def tables(outcome: Mapping[str, Any], label_sets: Mapping[str, str]) -> str:
    """All results as Markdown tables, in percent: the mIoU of all score entries, then all measures of each.

    Args:
        outcome: of :func:`results`.
        label_sets: the label set of each score entry.
    """
    parts = []
    if len(outcome) > 1:
        runs = list(next(iter(outcome.values())))
        head = ["mIoU", *(f"{score} ({len(label_map(label_sets[score]))})" for score in outcome)]
        lines = [[run, *(_mean(rows[run]["measures"].get("miou")) for rows in outcome.values())] for run in runs]
        parts.append("**all**, in brackets the number of classes\n\n" + markdown_table(head, lines, numeric=True))
    return "\n\n".join([*parts, *(_score_table(s, rows, label_sets[s]) for s, rows in outcome.items())]) + "\n"


def _score_table(score: str, rows: Mapping[str, Any], labels: str) -> str:
    """The measures that the score entry has, and the IoU of the classes that occur."""
    first = next(iter(rows.values()))["measures"]
    classes = [name for name in label_map(labels).names if name in first]
    heads = {"miou": _MIOU_NAMES.get(labels, f"mIoU ({labels})"), **_MEASURES}
    shown = [measure for measure in heads if measure in first]
    head = ["", "seeds", *(name for measure in shown for name in (heads[measure], "gain"))]
    lines = []
    for name, row in rows.items():
        cells = [name, str(len(next(iter(row["measures"].values()))["values"]))]
        for measure in shown:
            cells += [_mean(row["measures"].get(measure)), _gain(row["gains"].get(measure))]
        cells.append(_mean(row["measures"].get("ece")))
        lines.append(cells + [_percent(row["measures"][c]["mean"]) for c in classes])
    return f"**{score}**\n\n" + markdown_table([*head, "ECE, uncalibrated", *classes], lines, numeric=True)


def _mean(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    return _percent(value["mean"]) + ("" if value["sd"] is None else f" ± {_percent(value['sd'])}")


def _gain(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    half = value["interval"]
    interval = "" if half is None else f" ({_signed(value['mean'] - half)} to {_signed(value['mean'] + half)})"
    return _signed(value["mean"]) + interval


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"


def write_comparison(comparison: Comparison, label_sets: Mapping[str, str], by_run: AllScores) -> Path:
    """Write ``metrics.json``, ``table.md`` and, of trained runs, ``curves.png`` into the comparison's folder, returned.

    Args:
        comparison: the comparison.
        label_sets: its score entries, and the label set of each.
        by_run: the scores.
    """
    folder = Path(comparison.run)
    outcome = results(by_run, label_sets, comparison.baseline)
    metrics = {"world": WORLD_VERSION, "baseline": comparison.baseline, "label_sets": label_sets, "results": outcome}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    (folder / "table.md").write_text(tables(outcome, label_sets), encoding="utf-8")
    _draw_curves(comparison, folder / "curves.png")
    return folder


def _draw_curves(comparison: Comparison, path: Path) -> None:
    """Plot the mIoU of the validation sweeps over the steps, mean and range of the seeds, if any run has logs."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for entry in comparison.runs:
        if not entry.scored or entry.images:
            continue
        runs = (comparison.folder(entry, seed) for seed in comparison.seeds_of(entry))
        curves = [_curve(run) for run in runs if (run / _LOGS).is_dir()]  # logs may have been deleted
        if not curves:
            continue
        # A run that was killed may lack an epoch.
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        values = np.array([[curve[step] for step in steps] for curve in curves])
        axes.plot(steps, values.mean(axis=0), label=entry.name)
        axes.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.15)
    if not axes.has_data():
        return
    axes.set(xlabel="steps", ylabel="mIoU9 of the validation sweeps / %")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _curve(run: Path) -> dict[int, float]:
    """The mIoU of the first validation source in percent, by step."""
    events = EventAccumulator(str(run / _LOGS))
    events.Reload()
    tag = next(t for t in events.Tags()["scalars"] if t.startswith(("val0_", "choose0_")) and t.endswith("/miou"))
    return {point.step + 1: 100 * point.value for point in events.Scalars(tag)}
