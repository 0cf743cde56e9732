"""HTML report of :mod:`training.adapt`: agreement with the teacher, scores, and changed labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.config.label_sets import LABELS
from training.experiments.adaptation import Predictions
from training.image_network.pictures import classes_over_image, points_over_image
from training.image_network.reader import NetworkReader
from xmodelkd_ros.core.model_spec import DataSource
from xmodelkd_ros.core.visibility import NO_CAMERA
from xmodelkd_ros.reports.attribution import credit
from xmodelkd_ros.reports.html import figure_section, html_table, number, swatch, warning_lines, write_page
from xmodelkd_ros.reports.sweep_plots import SweepView, draw_change
from xmodelkd_ros.resources import label_map

REPORT = "report.html"
_SHOWN_SWEEPS = 3


def write_report(
    folder: Path,
    metrics: Mapping[str, Any],
    predictions: Predictions,
    origins: Sequence[DataSource] = (),
    network: NetworkReader | None = None,
) -> None:
    """Write ``report.html`` and its images.

    Args:
        folder: where.
        metrics: the content of ``metrics.json``.
        predictions: on the held-out sweeps.
        origins: of the adapted model's training data.
        network: the image network that taught it, if any.
    """
    data = Path(predictions.source.config.path).name
    named_for = credit(data, predictions.source.origin, "adapted model", origins)
    title = f"Adaptation to {metrics['drive']['learnt']}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        warning_lines(metrics["warnings"]),
        f"<p>Results on {escape(metrics['drive']['held_out'])}, {metrics['drive']['sweeps']} held-out sweeps, and on "
        "the check drives.</p>",
        f"<p><strong>{escape(metrics['verdict'])}</strong></p>",
        "<h2>Agreement</h2>",
        html_table(
            ("", "mIoU, all points", "equal labels, all points", "equal labels, points in a camera"), _rows(metrics)
        ),
        "<h2>Classes</h2>",
        html_table(("class", *_heads(metrics)), _class_rows(metrics)),
        *_pictures(folder, predictions, named_for, network),
        f"<footer><p>Made with <code>{escape(metrics['command'])}</code></p><p>{escape(named_for)}</p></footer>",
    ]
    write_page(folder / REPORT, title, sections)


def _rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    teacher, truth = metrics["agreement"]["teacher"] or {}, metrics["truth"] or {}
    compared = [(f"teacher, {who}", scores) for who, scores in teacher.items()]
    compared += [(f"ground truth ({metrics['label_set']}), {who}", scores) for who, scores in truth.items()]
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


def _tables(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Scores by class, by their heading: against the teacher, and against the truth where it has the same classes."""
    teacher, truth = metrics["agreement"]["teacher"] or {}, metrics["truth"] or {}
    tables = {f"IoU with the teacher {who}": scores for who, scores in teacher.items()}
    if metrics["label_set"] == LABELS:
        tables |= {f"IoU with the ground truth {who}": scores for who, scores in truth.items()}
    return tables


def _heads(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(_tables(metrics))


def _class_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    labels, tables = label_map(LABELS), list(_tables(metrics).values())
    return [
        (swatch(labels, name), *(number(t["all"]["iou"][name]) for t in tables))
        for name in labels.names
        if any(t["all"]["iou"][name] is not None for t in tables)
    ]


def _pictures(folder: Path, predictions: Predictions, named_for: str, network: NetworkReader | None) -> Iterator[str]:
    count = len(predictions.source.sweeps)
    for index in sorted({k * (count - 1) // (_SHOWN_SWEEPS - 1) for k in range(_SHOWN_SWEEPS)}):
        labels = {who: ids[index] for who, ids in predictions.labels.items()}
        cloud = predictions.source.sweeps[index].cloud
        file = f"change_{index}.png"
        view = SweepView(cloud, labels["after"], label_map(LABELS), credit=named_for)
        draw_change(view, labels["before"], labels.get("teacher"), folder / file)
        title = f"Sweep {index + 1} of {count}"
        yield figure_section(title, file, "Bird's-eye view. Points whose label changed are red.")
        if predictions.source.visible_points(index).any():
            file, caption = f"images_{index}.jpg", _over_images(folder, predictions, index, network)
            yield figure_section(f"{title}, over an image", file, caption)


def _over_images(folder: Path, predictions: Predictions, index: int, network: NetworkReader | None) -> str:
    """Draw the labels of a sweep over the image that shows most of its points; returns the caption."""
    source, palette = predictions.source, label_map(LABELS).palette
    images = source.images(index)
    assert images
    shown = images.views.camera[images.views.camera != NO_CAMERA]
    camera = int(np.bincount(shown).argmax())
    pixels = images.pixels[camera]
    assert pixels is not None
    points, slots = np.nonzero(images.views.camera == camera)
    uv = images.views.uv[points, slots]
    tiles = {who: points_over_image(pixels, uv, palette[ids[index][points]]) for who, ids in predictions.labels.items()}
    if network is not None:
        answer = network.classes_of(source.encoded_images[index].jpegs[camera])
        tiles["image network"] = classes_over_image(network.classes, pixels, answer)
    pictures = list(tiles.values())
    if len(pictures) % 2:
        pictures.append(np.zeros_like(pictures[0]))
    rows = [np.hstack(pictures[k : k + 2]) for k in range(0, len(pictures), 2)]
    Image.fromarray(np.vstack(rows)).save(folder / f"images_{index}.jpg", quality=88)
    return f"By rows: {', '.join(tiles)}."


def summary(metrics: Mapping[str, Any]) -> str:
    """The results in a few lines of text."""
    lines = []
    teacher, images = metrics["agreement"]["teacher"], metrics["agreement"]["images"]
    if teacher:
        before, after = teacher["before"], teacher["after"]
        lines.append(
            f"agreement with the teacher {number(before['all']['equal'])} before, {number(after['all']['equal'])} "
            f"after (points in a camera's view: {number(before['seen']['equal'])}, {number(after['seen']['equal'])})"
        )
    if images:
        lines.append(f"agreement with the images {number(images['before'])} before, {number(images['after'])} after")
    if metrics["over_time"]:
        over_time = metrics["over_time"]
        lines.append(f"consistency over time {number(over_time['before'])} before, {number(over_time['after'])} after")
    if metrics["truth"]:
        said = ", ".join(f"{number(scores['all']['miou'])} {who}" for who, scores in metrics["truth"].items())
        lines.append(f"mIoU ({metrics['label_set']}) {said}")
    for old in metrics["old"]:
        before, after = (old[who]["all"]["miou"] for who in ("before", "after"))
        lines.append(f"{old['data']}: mIoU {number(before)} before, {number(after)} after")
    lines.append(f"verdict: {metrics['verdict']}")
    return "\n".join(lines)
