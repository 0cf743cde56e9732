"""``report.html``: one page to look at after a run, with its pictures beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.tools.charts import draw_confusion, draw_latency
from xmodelkd_ros.tools.pictures import (
    SweepView,
    draw_birds_eye,
    draw_cameras,
    draw_range_image,
    draw_sweep,
)
from xmodelkd_ros.tools.score import Scores, write_metrics

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262e; background: #fff; max-width: 1180px;
       margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p, figcaption { color: #6b7280; margin: .3rem 0; }
figure { margin: 0; }
img { max-width: 100%; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.4rem 0; }
.card { border: 1px solid #e5e7eb; border-radius: 8px; padding: .6rem 1rem; min-width: 9rem; }
.card b { display: block; font-size: 1.45rem; font-weight: 600; }
.card span { color: #6b7280; font-size: .85rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .25rem .9rem .25rem 0; text-align: right; }
td:first-child, th:first-child { text-align: left; }
th { color: #6b7280; font-weight: 500; border-bottom: 1px solid #e5e7eb; }
.swatch { display: inline-block; width: .85em; height: .85em; border: 1px solid #9aa1ab; border-radius: 3px;
          margin-right: .5em; vertical-align: -.08em; }
.columns { display: flex; flex-wrap: wrap; gap: 0 3.5rem; }
.columns img { max-width: 41rem; width: 100%; }
.bar { width: 11rem; padding-right: 0; }
.bar div { height: .6rem; background: #2f6fde; border-radius: 2px; }
footer { color: #6b7280; font-size: .85rem; border-top: 1px solid #e5e7eb; margin-top: 3rem; padding-top: .8rem; }
"""


@dataclass(frozen=True)
class Run:
    """What a report says of where it comes from.

    Attributes:
        title: such as ``drive.mcap, replayed at rate 1.0``.
        command: the command that makes it again.
        latency: what the latency is the time of.
        facts: what else is worth a line: name and value.
    """

    title: str
    command: str
    latency: str
    facts: tuple[tuple[str, str], ...] = ()


def write_report(
    out: Path, run: Run, metrics: Mapping[str, Any], scores: Scores, spec: ModelSpec, view: SweepView | None = None
) -> Path:
    """Write ``metrics.json``, ``report.html`` and its pictures.

    Args:
        out: the folder; made if it is not there.
        run: where the numbers come from.
        metrics: as ``scores.metrics`` gives them.
        scores: what was counted.
        spec: the model that was scored.
        view: one sweep to draw; no pictures of a sweep without.

    Returns:
        Path of the page.
    """
    write_metrics(out, metrics)
    sections = [_head(run, metrics, spec)]
    if view is not None:
        sections += _sweep_sections(out, view, spec)
    if scores.has_truth:
        sections.append(_class_sections(out, metrics, scores))
    if "agreement" in metrics:
        sections.append(_agreement(metrics["agreement"], scores.label_map))
    sections += _timing_sections(out, run, metrics, scores)
    page = "\n".join((*sections, _footer(run, spec)))
    path = out / "report.html"
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(run.title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{page}\n</body></html>\n",
        encoding="utf-8",
    )
    return path


def attribution(spec: ModelSpec) -> str:
    """What the licences of the model's training data ask to be said."""
    return "; ".join(source.attribution for source in spec.training_data if source.attribution)


def table(metrics: Mapping[str, Any]) -> str:
    """The scores as text for a terminal."""
    lines = []
    if metrics["miou"] is not None:
        lines += [f"{'class':<16}{'IoU':>8}{'points':>13}"]
        lines += [
            f"{name:<16}{_number(iou):>8}{metrics['points'][name]:>13,}"
            for name, iou in metrics["iou"].items()
            if metrics["points"][name]
        ]
    if "agreement" in metrics:
        lines.append(f"agreement {_number(metrics['agreement']['equal'])} of the points")
    lines.append(summary(metrics))
    return "\n".join(lines)


def summary(metrics: Mapping[str, Any]) -> str:
    """One line: mIoU with its label set, sweeps in and out, latency."""
    miou = "no truth" if metrics["miou"] is None else f"mIoU {metrics['miou']:.3f} ({metrics['label_set']})"
    sweeps, latency = metrics["sweeps"], metrics["latency_ms"]
    times = f"p50 {_number(latency['p50'], 1)} ms, p99 {_number(latency['p99'], 1)} ms"
    return f"{miou} | sweeps in {sweeps['input']}, out {sweeps['output']} | latency {times}"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _head(run: Run, metrics: Mapping[str, Any], spec: ModelSpec) -> str:
    sweeps, latency = metrics["sweeps"], metrics["latency_ms"]
    cards = [
        (f"{sweeps['output']} / {sweeps['input']}", "labelled sweeps out / in"),
        (f"{_number(latency['p50'], 1)} ms", "latency, median"),
        (f"{_number(latency['p99'], 1)} ms", "latency, p99"),
    ]
    if metrics["miou"] is not None:
        cards.insert(0, (_number(metrics["miou"]), f"mIoU, {metrics['label_set']}"))
        cards.append((_number(metrics["ece"]), "calibration error (ECE)"))
    boxes = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for value, what in cards
    )
    facts = _table((), [(escape(name), escape(value)) for name, value in run.facts]) if run.facts else ""
    model = f"{spec.name} ({metrics['model']['sha256'][:12]}), {metrics['backend']}, {metrics['precision']}"
    return (
        f"<h1>{escape(run.title)}</h1>\n<p>Model {escape(model)}. Latency is {escape(run.latency)}.</p>\n"
        f'<div class="cards">{boxes}</div>{facts}'
    )


def _sweep_sections(out: Path, view: SweepView, spec: ModelSpec) -> Iterator[str]:
    draw_sweep(view, out / "sweep.png", attribution(spec))
    yield _picture(
        "One sweep",
        "sweep.png",
        "The sweep in the middle of the run, every point in the colour of its predicted class.",
    )
    draw_birds_eye(view, out / "birds_eye.png")
    caption = "Seen from above, forward is up. "
    if view.truth is not None:
        caption += "Red points are wrong; dark ones have no truth."
    yield _picture("From above", "birds_eye.png", caption)
    if view.cameras:
        draw_cameras(view, out / "cameras.png")
        caption = "Predicted classes over the images nearest in time. The segmenter did not see the images."
        yield _picture("In the cameras", "cameras.png", caption)
    draw_range_image(view, spec.projection, out / "range_image.png")
    caption = "What the network sees: one row per beam of its table, one column per azimuth, forward in the middle."
    yield _picture("Range image", "range_image.png", caption)


def _picture(title: str, file: str, caption: str) -> str:
    return (
        f'<h2>{escape(title)}</h2>\n<figure><img src="{file}" alt="{escape(title)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _class_sections(out: Path, metrics: Mapping[str, Any], scores: Scores) -> str:
    """IoU of each class, and beside it what classes are taken for."""
    rows = [
        (_swatch(scores.label_map, name), _number(iou), f"{metrics['points'][name]:,}", _bar(iou))
        for name, iou in metrics["iou"].items()
        if iou is not None
    ]
    classes = "<h2>Classes</h2>\n" + _table(("class", "IoU", "points", ""), rows)
    draw_confusion(scores.confusion, out / "confusion.png")
    caption = "Of the points of each true class (row), the share in % that was given each label (column)."
    confusion = _picture("Confusion", "confusion.png", caption)
    return f'<div class="columns"><div>{classes}</div><div>{confusion}</div></div>'


def _agreement(agreement: Mapping[str, Any], label_map: LabelMap) -> str:
    rows = [(_swatch(label_map, n), _number(v), _bar(v)) for n, v in agreement["classes"].items() if v is not None]
    text = f"The other model gives the same label to {100 * (agreement['equal'] or 0):.2f} % of the points."
    return f"<h2>Agreement with the other model</h2>\n<p>{text}</p>\n" + _table(("class", "IoU of the two", ""), rows)


def _timing_sections(out: Path, run: Run, metrics: Mapping[str, Any], scores: Scores) -> Iterator[str]:
    if not scores.latencies_ms:
        return
    draw_latency([s.latency_ms for s in scores.sweeps], [s.miou for s in scores.sweeps], out / "latency.png")
    caption = f"Latency is {run.latency}. An orange band marks a sweep without labels."
    yield _picture("Sweep by sweep", "latency.png", caption)
    rows = [(escape(stage), _number(t["p50"], 2), _number(t["p99"], 2)) for stage, t in metrics["stages_ms"].items()]
    if rows:
        yield "<h2>Stages</h2>\n" + _table(("stage", "p50, ms", "p99, ms"), rows)


def _footer(run: Run, spec: ModelSpec) -> str:
    sources = ". ".join(
        escape(s.attribution if s.license in s.attribution else f"{s.attribution or s.name} ({s.license})")
        for s in spec.training_data
    )
    return f"<footer><p>Made with <code>{escape(run.command)}</code></p><p>Trained on: {sources}</p></footer>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; cells are HTML already, and one that is empty or holds a bar is a bar's."""
    header = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(_cell(c) for c in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{header}</tr>\n{body}</table>"


def _cell(content: str) -> str:
    return f'<td class="bar">{content}</td>' if content.startswith("<div") else f"<td>{content}</td>"


def _bar(share: float | None) -> str:
    return f'<div style="width:{100 * (share or 0):.1f}%"></div>'


def _swatch(label_map: LabelMap, name: str) -> str:
    red, green, blue = label_map.palette[label_map.id_of(name)]
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>{escape(name.replace("_", " "))}'
