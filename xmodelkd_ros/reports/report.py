"""``report.html``: the page that summarises a run, with its plots next to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from xmodelkd_ros.core.atomic_write import atomic_files, disk_errors
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import DataSource, ModelSpec
from xmodelkd_ros.reports.attribution import credit, named
from xmodelkd_ros.reports.charts import draw_confusion, draw_latency
from xmodelkd_ros.reports.html import bar, figure_section, html_table, number, swatch, warning_lines, write_page
from xmodelkd_ros.reports.object_scores import MIN_IOU
from xmodelkd_ros.reports.scores import Scores, write_metrics
from xmodelkd_ros.reports.sweep_plots import SweepView, draw_birds_eye, draw_cameras, draw_range_image, draw_sweep

_PAGE = "report.html"


@dataclass(frozen=True)
class Run:
    """Origin of a report.

    Attributes:
        title: such as ``drive.mcap, replayed at rate 1.0``.
        command: command line that reproduces it.
        latency: definition of the latency.
        facts: names and values of further lines.
        data: name of the data, such as a bag's file name.
        source: its dataset, if known.
    """

    title: str
    command: str
    latency: str
    facts: tuple[tuple[str, str], ...] = ()
    data: str = ""
    source: DataSource | None = None


def write_report(
    out: Path, run: Run, metrics: Mapping[str, Any], scores: Scores, spec: ModelSpec, view: SweepView | None = None
) -> Path:
    """Write ``metrics.json``, ``report.html`` and its plots, all or none; returns the path of the page.

    The page links recordings of ``xmodelkd view --save`` that lie in the folder.

    Args:
        out: the folder; created if missing.
        run: origin of the numbers.
        metrics: result of ``scores.metrics``.
        scores: scores of the run.
        spec: the scored model.
        view: the sweep to plot; None for no plots of a sweep.

    Raises:
        DiskError: the disk is full or fails; an older report stays unchanged.
    """
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with atomic_files(out, _PAGE) as unfinished:
        _write_all(unfinished, run, metrics, scores, spec, view, sorted(path.name for path in out.glob("*.rrd")))
    return out / _PAGE


def _write_all(
    out: Path,
    run: Run,
    metrics: Mapping[str, Any],
    scores: Scores,
    spec: ModelSpec,
    view: SweepView | None,
    recordings: Sequence[str],
) -> None:
    write_metrics(out, metrics)
    sections = [_head(run, metrics, spec)]
    sections += [
        f'<p>In three dimensions: <a href="{escape(name)}">{escape(name)}</a> (<code>rerun {escape(name)}</code>)</p>'
        for name in recordings
    ]
    if view is not None:
        named_for = credit(run.data, run.source, spec.name, spec.training_data)
        sections += _sweep_sections(out, replace(view, credit=named_for), spec)
    if scores.has_truth:
        sections.append(_class_sections(out, metrics, scores))
    if "boxes" in metrics:
        sections.append(_boxes(metrics["boxes"]))
    if "filter" in metrics:
        sections.append(_filter(metrics["filter"]))
    if "agreement" in metrics:
        sections.append(_agreement(metrics["agreement"], scores.label_map))
    sections += _timing_sections(out, run, metrics, scores)
    write_page(out / _PAGE, run.title, (*sections, _footer(run, spec)))


def score_table(metrics: Mapping[str, Any]) -> str:
    """Scores as text for a terminal."""
    lines = []
    if metrics["miou"] is not None:
        lines += [f"{'class':<16}{'IoU':>8}{'points':>13}"]
        lines += [
            f"{name:<16}{number(iou):>8}{metrics['points'][name]:>13,}"
            for name, iou in metrics["iou"].items()
            if metrics["points"][name]
        ]
    for name, one in metrics.get("boxes", {}).items():
        found = f"precision {number(one['precision'])} of {one['predicted']}, recall {number(one['recall'])}"
        lines.append(f"boxes of {name}: {found} of {one['true']}")
    if "filter" in metrics:
        lines += _filter_lines(metrics["filter"])
    if "agreement" in metrics:
        lines.append(f"agreement {number(metrics['agreement']['equal'])} of the points")
    lines.append(summary(metrics))
    return "\n".join(lines)


def _filter_lines(losses: Mapping[str, Any]) -> list[str]:
    """What a filter removes of each class, as text."""
    dropped = ", ".join(losses["drop"])
    lines = [f"points below {losses['max_range_m']:g} m that a filter without {dropped} removes:"]
    lines.append(f"{'min_probability':<16}" + "".join(f"{p:>9.2f}" for p in losses["min_probability"]))
    return lines + [
        f"{name:<16}" + "".join(f"{share:>9.2%}" for share in shares) for name, shares in losses["removed"].items()
    ]


def _filter(losses: Mapping[str, Any]) -> str:
    """What a filter removes of each class, as a section."""
    rows = [(escape(name), *(f"{share:.2%}" for share in shares)) for name, shares in losses["removed"].items()]
    table = html_table(("class", *(f"{p:g}" for p in losses["min_probability"])), rows)
    return (
        f"<h2>Filter</h2>\n<p>Points below {losses['max_range_m']:g} m that a filter which drops "
        f"{escape(', '.join(losses['drop']))} removes, by its min_probability.</p>\n{table}"
    )


def summary(metrics: Mapping[str, Any]) -> str:
    """One line: mIoU with its label set, sweeps in and out, latency."""
    miou = "no truth" if metrics["miou"] is None else f"mIoU {metrics['miou']:.3f} ({metrics['label_set']})"
    sweeps, latency = metrics["sweeps"], metrics["latency_ms"]
    times = f"p50 {number(latency['p50'], 1)} ms, p99 {number(latency['p99'], 1)} ms"
    warnings = len(metrics.get("warnings", ()))
    end = f" | {warnings} warning{'s' if warnings > 1 else ''} about the input" if warnings else ""
    return f"{miou} | sweeps in {sweeps['input']}, out {sweeps['output']} | latency {times}{end}"


def _head(run: Run, metrics: Mapping[str, Any], spec: ModelSpec) -> str:
    sweeps, latency = metrics["sweeps"], metrics["latency_ms"]
    cards = [
        (f"{sweeps['output']} / {sweeps['input']}", "labelled sweeps out / in"),
        (f"{number(latency['p50'], 1)} ms", "latency, median"),
        (f"{number(latency['p99'], 1)} ms", "latency, p99"),
    ]
    if metrics["miou"] is not None:
        cards.insert(0, (number(metrics["miou"]), f"mIoU, {metrics['label_set']}"))
        cards.append((number(metrics["ece"]), "calibration error (ECE)"))
    boxes = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for value, what in cards
    )
    facts = html_table((), [(escape(name), escape(value)) for name, value in run.facts]) if run.facts else ""
    model = f"{spec.name} ({metrics['model']['sha256'][:12]}), {metrics['backend']}, {metrics['precision']}"
    return (
        f"<h1>{escape(run.title)}</h1>\n<p>Model {escape(model)}. Latency is {escape(run.latency)}.</p>\n"
        f'{warning_lines(metrics.get("warnings", ()))}<div class="cards">{boxes}</div>{facts}'
    )


def _sweep_sections(out: Path, view: SweepView, spec: ModelSpec) -> Iterator[str]:
    draw_sweep(view, out / "sweep.png")
    yield figure_section(
        "One sweep",
        "sweep.png",
        "The sweep in the middle of the run; every point has the colour of its predicted class.",
    )
    draw_birds_eye(view, out / "birds_eye.png")
    caption = "Forward is up. "
    if view.truth is not None:
        caption += "Red points are errors; dark points have no ground truth."
    yield figure_section("Bird's-eye view", "birds_eye.png", caption)
    if view.cameras:
        draw_cameras(view, out / "cameras.png")
        caption = "Predicted classes over the images nearest in time."
        yield figure_section("Camera overlays", "cameras.png", caption)
    draw_range_image(view, spec.projection, out / "range_image.png")
    caption = "Input of the network: one row per beam, one column per azimuth, forward in the middle."
    yield figure_section("Range image", "range_image.png", caption)


def _class_sections(out: Path, metrics: Mapping[str, Any], scores: Scores) -> str:
    """IoU of each class next to the confusion matrix."""
    rows = [
        (swatch(scores.label_map, name), number(iou), f"{metrics['points'][name]:,}", bar(iou))
        for name, iou in metrics["iou"].items()
        if iou is not None
    ]
    classes = "<h2>Classes</h2>\n" + html_table(("class", "IoU", "points", ""), rows)
    draw_confusion(scores.confusion, out / "confusion.png")
    caption = "Share in % of the points of each true class (row) with each predicted label (column)."
    confusion = figure_section("Confusion", "confusion.png", caption)
    return f'<div class="columns"><div>{classes}</div><div>{confusion}</div></div>'


def _agreement(agreement: Mapping[str, Any], label_map: LabelMap) -> str:
    rows = [(swatch(label_map, n), number(v), bar(v)) for n, v in agreement["classes"].items() if v is not None]
    text = f"The other model gives the same label to {100 * (agreement['equal'] or 0):.2f} % of the points."
    return f"<h2>Agreement with the other model</h2>\n<p>{text}</p>\n" + html_table(
        ("class", "IoU of the two", ""), rows
    )


def _boxes(boxes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (escape(name), number(one["precision"]), str(one["predicted"]), number(one["recall"]), str(one["true"]))
        for name, one in boxes.items()
    ]
    text = f"Boxes around labels match those around the true labels if they overlap by {MIN_IOU} (IoU from above)."
    return f"<h2>Boxes around road users</h2>\n<p>{text}</p>\n" + html_table(
        ("class", "precision", "boxes", "recall", "true boxes"), rows
    )


def _timing_sections(out: Path, run: Run, metrics: Mapping[str, Any], scores: Scores) -> Iterator[str]:
    if not scores.latencies_ms:
        return
    draw_latency([s.latency_ms for s in scores.sweeps], [s.miou for s in scores.sweeps], out / "latency.png")
    caption = f"Latency is {run.latency}. An orange band marks a sweep without labels."
    yield figure_section("Latency and mIoU over time", "latency.png", caption)
    rows = [(escape(stage), number(t["p50"], 2), number(t["p99"], 2)) for stage, t in metrics["stages_ms"].items()]
    if rows:
        yield "<h2>Stages</h2>\n" + html_table(("stage", "p50, ms", "p99, ms"), rows)


def _footer(run: Run, spec: ModelSpec) -> str:
    lines = [f"Made with <code>{escape(run.command)}</code>"]
    if run.data:
        of_data = f": {named(run.source)}" if run.source is not None else ""
        lines.append(f"Data: {escape(run.data + of_data)}")
    trained_on = ". ".join(named(source) for source in spec.training_data)
    lines.append(f"Model {escape(f'{spec.name}, trained on: {trained_on}')}")
    return f"<footer>{''.join(f'<p>{line}</p>' for line in lines)}</footer>"
