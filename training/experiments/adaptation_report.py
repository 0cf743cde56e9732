"""HTML report of :mod:`training.adapt`: agreement with the teacher, scores, and changed labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from training.config.label_sets import LABELS
from training.experiments.adaptation import Predictions
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.reports.attribution import credit
from xmodelkd_ros.reports.html import figure_section, html_table, number, swatch, warning_lines, write_page
from xmodelkd_ros.reports.sweep_plots import SweepView, draw_change
from xmodelkd_ros.resources import label_map

REPORT = "report.html"
_SHOWN_SWEEPS = 3


def write_report(
    folder: Path, metrics: Mapping[str, Any], predictions: Predictions, origins: Sequence[DataSource] = ()
) -> None:
    """Write ``report.html`` and its images; ``origins`` are those of the adapted model's training data."""
    data = Path(predictions.source.config.path).name
    named_for = credit(data, predictions.source.origin, "adapted model", origins)
    title = f"Adaptation to {metrics['drive']['learnt']}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        warning_lines(metrics["warnings"]),
        f"<p>Results on {escape(metrics['drive']['held_out'])}, {metrics['drive']['sweeps']} held-out sweeps, and on "
        "the check drives.</p>",
        "<h2>Agreement</h2>",
        html_table(
            ("", "mIoU, all points", "equal labels, all points", "equal labels, points in a camera"), _rows(metrics)
        ),
        "<h2>Classes</h2>",
        html_table(("class", "IoU with the teacher before", "after", *_truth_heads(metrics)), _class_rows(metrics)),
        *_pictures(folder, predictions, named_for),
        f"<footer><p>Made with <code>{escape(metrics['command'])}</code></p><p>{escape(named_for)}</p></footer>",
    ]
    write_page(folder / REPORT, title, sections)


def _rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    compared = [("teacher, before", metrics["agreement"]["before"])]
    compared += [("teacher, after", metrics["agreement"]["after"])]
    for who in ("before", "after", "teacher"):
        if metrics["truth"]:
            compared.append((f"ground truth ({metrics['label_set']}), {who}", metrics["truth"][who]))
    for old in metrics["old"]:
        compared += [(f"ground truth of {old['data']}, {who}", old[who]) for who in ("before", "after")]
    return [
        (
            escape(name),
            number(m["all"]["miou"]),
            number(m["all"]["equal"]),
            number(m["seen"]["equal"]),
        )
        for name, m in compared
    ]


def _truth_heads(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    same_set = metrics["truth"] and metrics["label_set"] == LABELS
    return ("IoU with the ground truth before", "after", "of the teacher") if same_set else ()


def _class_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    labels, agreement = label_map(LABELS), metrics["agreement"]
    tables = [agreement["before"], agreement["after"]]
    if _truth_heads(metrics):
        tables += [metrics["truth"][who] for who in ("before", "after", "teacher")]
    return [
        (swatch(labels, name), *(number(t["all"]["iou"][name]) for t in tables))
        for name in labels.names
        if any(t["all"]["iou"][name] is not None for t in tables)
    ]


def _pictures(folder: Path, predictions: Predictions, named_for: str) -> Iterator[str]:
    count = len(predictions.source.sweeps)
    for index in sorted({k * (count - 1) // (_SHOWN_SWEEPS - 1) for k in range(_SHOWN_SWEEPS)}):
        before, after, teacher = (predictions.labels[who][index] for who in ("before", "after", "teacher"))
        cloud = predictions.source.sweeps[index].cloud
        file = f"change_{index}.png"
        view = SweepView(cloud, after, label_map(LABELS), credit=named_for)
        draw_change(view, before, teacher, folder / file)
        yield figure_section(
            f"Sweep {index + 1} of {count}", file, "Bird's-eye view. Points whose label changed are red."
        )


def summary(metrics: Mapping[str, Any]) -> str:
    """The results in a few lines of text."""
    agreement = metrics["agreement"]
    lines = [
        f"agreement with the teacher {number(agreement['before']['all']['equal'])} before, "
        f"{number(agreement['after']['all']['equal'])} after (points in a camera's view: "
        f"{number(agreement['before']['seen']['equal'])}, {number(agreement['after']['seen']['equal'])})"
    ]
    if metrics["truth"]:
        before, after, teacher = (metrics["truth"][who]["all"]["miou"] for who in ("before", "after", "teacher"))
        label_set = metrics["label_set"]
        lines.append(f"mIoU ({label_set}) {number(before)} before, {number(after)} after, teacher {number(teacher)}")
    for old in metrics["old"]:
        before, after = (old[who]["all"]["miou"] for who in ("before", "after"))
        lines.append(f"{old['data']}: mIoU {number(before)} before, {number(after)} after")
    return "\n".join(lines)
