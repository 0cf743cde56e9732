"""Robustness report: tables and plots of accuracy and calibration under corruptions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.experiments.robustness_metrics import TEMPERATURES
from xmodelkd_ros.core.atomic_write import atomic_files
from xmodelkd_ros.reports.markdown import markdown_table

Result = Mapping[str, Any]
"""Result of :func:`training.experiments.robustness_metrics.measure` for one model and source."""

_DPI = 120
_NO_INTENSITY = "weak_intensity"
"""The corruption whose highest severity leaves no intensity."""
_PAGE = "robustness.md"
_EXPLAINED = """
In percent: mIoU, and in brackets its ratio to the mIoU of clean sweeps, both over the classes that occur in the ground
truth of both. RR is the mean ratio over the three severities, RR = 1/3 · Σ mIoU(severity) / mIoU(clean), and mRR the
mean RR over the corruptions (Kong et al. 2023). ECE is the expected calibration error in 10 bins of equal width for the
model's own classes, pooled over all points and as the mean over sweeps, at T = 1 and at the model's temperature. For
corrupted sweeps it is the mean over all corruptions and severities; reliability diagrams pool their points.
"""


def relative(result: Result, clean: Result) -> float:
    """Ratio of the mean IoU to that of clean sweeps, over the classes that occur in the ground truth of both."""
    shared = [name for name, value in result["iou"].items() if value is not None]
    before = sum(clean["iou"][name] for name in shared)
    return sum(result["iou"][name] for name in shared) / before if before else 0.0


def resilience(result: Result) -> dict[str, float]:
    """RR of each corruption: the mean of :func:`relative` over the severities."""
    return {
        kind: float(np.mean([relative(one, result["clean"]) for one in severities]))
        for kind, severities in result["corrupted"].items()
    }


def mean_resilience(result: Result) -> float:
    """mRR: the mean of :func:`resilience` over the corruptions."""
    return float(np.mean(list(resilience(result).values())))


def _all_corrupted(result: Result) -> list[Result]:
    """The scores of all corruptions and severities."""
    return [one for severities in result["corrupted"].values() for one in severities]


def mean_corrupted(result: Result) -> float:
    """Mean of the mIoU over all corruptions and severities."""
    return float(np.mean([one["miou"] or 0.0 for one in _all_corrupted(result)]))


def corrupted_ece(result: Result, temperature: str, aggregation: str) -> float | None:
    """Mean calibration error over all corruptions and severities, ``pooled`` or ``mean_over_sweeps``."""
    values = [one["ece"][temperature][aggregation] for one in _all_corrupted(result)]
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None


def overview(metrics: Result) -> str:
    """One line of results for each model and source."""
    return "\n".join(
        f"{name}, {model}: mIoU {_percent(result['clean']['miou'])} clean, "
        f"{_percent(mean_corrupted(result))} corrupted; "
        f"mRR {_percent(mean_resilience(result))} %{_without_intensity(result)}"
        for name, source in metrics["sources"].items()
        for model, result in source["models"].items()
    )


def _without_intensity(result: Result) -> str:
    """The share of the mIoU that is kept without intensity, if it was measured."""
    if _NO_INTENSITY not in result["corrupted"]:
        return ""
    kept = relative(result["corrupted"][_NO_INTENSITY][-1], result["clean"])
    return f"; without intensity {_percent(kept)} % of the clean mIoU"


def write_robustness(out: Path, metrics: Result, command: str) -> None:
    """Write ``robustness.md`` and its plots atomically."""
    with atomic_files(out, _PAGE) as unfinished:
        parts = ["# Robustness", f"```\n{command}\n```", _EXPLAINED.strip()]
        for name, source in metrics["sources"].items():
            if source["models"]:  # empty after an interrupted command
                parts += _write_source(unfinished, name, source, metrics)
        (unfinished / _PAGE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _write_source(folder: Path, name: str, source: Result, metrics: Result) -> list[str]:
    """Draw the plots of a source and return its paragraphs of ``robustness.md``."""
    models = source["models"]
    _draw_relative(models, metrics, folder / f"relative_{name}.png")
    _draw_reliability(models, folder / f"reliability_{name}.png")
    return [
        f"## {name}",
        f"{next(iter(models.values()))['sweeps']} sweeps, {source['sweeps']['label_set']}",
        _miou_table(models, metrics),
        f"![relative mIoU by severity](relative_{name}.png)",
        _ece_table(models),
        f"![reliability diagrams](reliability_{name}.png)",
    ]


def _miou_table(models: Mapping[str, Result], metrics: Result) -> str:
    severities = metrics["severities"]
    blank = [""] * (len(severities) - 1)
    head, clean, mean = ["mIoU"], ["clean"], ["mean, and mRR"]
    for model, result in models.items():
        head += [*(f"{model}, {severity}" for severity in severities), "RR"]
        clean += [_percent(result["clean"]["miou"]), *blank, ""]
        mean += [_percent(mean_corrupted(result)), *blank, _percent(mean_resilience(result))]
    rows = []
    for kind, corruption in metrics["corruptions"].items():
        row = [f"{kind} ({', '.join(str(strength) for strength in corruption['strengths'])})"]
        for result in models.values():
            cells = result["corrupted"][kind]
            row += [f"{_percent(one['miou'])} ({100 * relative(one, result['clean']):.0f})" for one in cells]
            row.append(_percent(resilience(result)[kind]))
        rows.append(row)
    return markdown_table(head, [clean, *rows, mean], numeric=True)


def _ece_table(models: Mapping[str, Result]) -> str:
    hows = {"pooled": "all points", "mean_over_sweeps": "mean over sweeps"}
    states = [(state, t, how) for state in ("clean", "corrupted") for t in TEMPERATURES for how in hows]
    names = {"plain": "T = 1", "tempered": "T"}
    head = ["ECE", "T", *(f"{state}, {names[temperature]}, {hows[how]}" for state, temperature, how in states)]
    rows = []
    for model, result in models.items():
        values = [
            result["clean"]["ece"][temperature][how] if state == "clean" else corrupted_ece(result, temperature, how)
            for state, temperature, how in states
        ]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        rows.append([model, f"{result['network']['temperature']:.3f}", *cells])
    return markdown_table(head, rows, numeric=True)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _draw_relative(models: Mapping[str, Result], metrics: Result, path: Path) -> None:
    """Plot relative mIoU by severity: one panel per corruption, one line per model."""
    kinds = list(metrics["corruptions"])
    columns = min(4, len(kinds))
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(3.2 * columns + 0.6, 2.6 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    ticks = ["clean", *metrics["severities"]]
    for kind, axes in zip(kinds, panels, strict=False):
        for model, result in models.items():
            shares = [1.0, *(relative(one, result["clean"]) for one in result["corrupted"][kind])]
            axes.plot(range(len(ticks)), 100 * np.array(shares), marker="o", markersize=3, label=model)
        axes.set_title(kind.replace("_", " "), fontsize=10)
        axes.set_xticks(range(len(ticks)), ticks, fontsize=8)
        axes.grid(alpha=0.3)
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[0].legend(fontsize=8)
    figure.supylabel("mIoU, % of clean", fontsize=10)
    figure.savefig(path, dpi=_DPI)


def _draw_reliability(models: Mapping[str, Result], path: Path) -> None:
    """Plot reliability diagrams of clean and corrupted sweeps: one panel per model."""
    figure = Figure(figsize=(3.6 * len(models) + 0.6, 3.8), layout="constrained")
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False).ravel()
    for (model, result), axes in zip(models.items(), panels, strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for color, state, counted in (("C0", "clean", [result["clean"]]), ("C1", "corrupted", _all_corrupted(result))):
            for style, temperature, name in zip(("--", "-"), TEMPERATURES, ("T = 1", "T"), strict=True):
                bins = np.sum([one["ece"][temperature]["bins"] for one in counted], axis=0)
                _reliability_line(axes, bins, color=color, linestyle=style, label=f"{state}, {name}")
        axes.set(title=model, xlabel="probability", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=_DPI)


def _reliability_line(axes: Axes, bins: NDArray[np.float64], **style: Any) -> None:
    count, confidence, correct = bins[:, bins[0] > 0]
    axes.plot(confidence / count, correct / count, marker="o", markersize=3, **style)
