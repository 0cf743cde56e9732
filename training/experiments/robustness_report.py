"""What corruptions cost, as tables and plots."""

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

Found = Mapping[str, Any]
"""What :func:`training.experiments.robustness_metrics.measure` gives of one model on one source."""

_DPI = 120
_PAGE = "robustness.md"
_EXPLAINED = """
In percent: mIoU, and in brackets its share of the clean one, both over the classes that are still there. RR is the mean
of these shares over the three severities, RR = 1/3 · Σ mIoU(severity) / mIoU(clean), and mRR the mean of RR over the
corruptions (Kong et al. 2023). ECE is the expected calibration error in 10 bins of equal width, of the model's own
classes: over the points of all sweeps, and as the mean over sweeps; at T = 1, and at the model's temperature. That of
corrupted sweeps is the mean over all corruptions and severities; reliability diagrams add up their points.
"""


def relative(found: Found, clean: Found) -> float:
    """The mean IoU as a share of the clean one, both over the classes that occur in the truth of both."""
    shared = [name for name, value in found["iou"].items() if value is not None]
    before = sum(clean["iou"][name] for name in shared)
    return sum(found["iou"][name] for name in shared) / before if before else 0.0


def resilience(found: Found) -> dict[str, float]:
    """RR of each corruption: the mean of :func:`relative` over the severities."""
    return {
        kind: float(np.mean([relative(one, found["clean"]) for one in severities]))
        for kind, severities in found["corrupted"].items()
    }


def mean_resilience(found: Found) -> float:
    """mRR: the mean of :func:`resilience` over the corruptions."""
    return float(np.mean(list(resilience(found).values())))


def _every(found: Found) -> list[Found]:
    """What was counted in each corruption and severity."""
    return [one for severities in found["corrupted"].values() for one in severities]


def mean_corrupted(found: Found) -> float:
    """The mean of the mIoU over all corruptions and severities."""
    return float(np.mean([one["miou"] or 0.0 for one in _every(found)]))


def corrupted_ece(found: Found, temperature: str, how: str) -> float | None:
    """The mean of the calibration errors of all corruptions and severities, ``pooled`` or ``mean_over_sweeps``."""
    values = [one["ece"][temperature][how] for one in _every(found)]
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None


def overview(metrics: Found) -> str:
    """A line for each model and source."""
    return "\n".join(
        f"{name}, {model}: mIoU {_percent(found['clean']['miou'])} clean, {_percent(mean_corrupted(found))} corrupted; "
        f"mRR {_percent(mean_resilience(found))} %"
        for name, source in metrics["sources"].items()
        for model, found in source["models"].items()
    )


def write_robustness(out: Path, metrics: Found, command: str) -> None:
    """Write ``robustness.md`` and its plots: all of them, or none.

    Args:
        out: the folder.
        metrics: the content of ``metrics.json``.
        command: that made them.
    """
    with atomic_files(out, _PAGE) as unfinished:
        parts = ["# Robustness", f"```\n{command}\n```", _EXPLAINED.strip()]
        for name, source in metrics["sources"].items():
            if source["models"]:  # none: an interrupted command wanted it
                parts += _write_source(unfinished, name, source, metrics)
        (unfinished / _PAGE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _write_source(folder: Path, name: str, source: Found, metrics: Found) -> list[str]:
    """Draw the plots of a source; its part of ``robustness.md``."""
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


def _miou_table(models: Mapping[str, Found], metrics: Found) -> str:
    severities = metrics["severities"]
    blank = [""] * (len(severities) - 1)
    head, clean, mean = ["mIoU"], ["clean"], ["mean, and mRR"]
    for model, found in models.items():
        head += [*(f"{model}, {severity}" for severity in severities), "RR"]
        clean += [_percent(found["clean"]["miou"]), *blank, ""]
        mean += [_percent(mean_corrupted(found)), *blank, _percent(mean_resilience(found))]
    rows = []
    for kind, corruption in metrics["corruptions"].items():
        row = [f"{kind} ({', '.join(str(strength) for strength in corruption['strengths'])})"]
        for found in models.values():
            cells = found["corrupted"][kind]
            row += [f"{_percent(one['miou'])} ({100 * relative(one, found['clean']):.0f})" for one in cells]
            row.append(_percent(resilience(found)[kind]))
        rows.append(row)
    return markdown_table(head, [clean, *rows, mean], numeric=True)


def _ece_table(models: Mapping[str, Found]) -> str:
    hows = {"pooled": "all points", "mean_over_sweeps": "mean over sweeps"}
    states = [(state, t, how) for state in ("clean", "corrupted") for t in TEMPERATURES for how in hows]
    names = {"plain": "T = 1", "tempered": "T"}
    head = ["ECE", "T", *(f"{state}, {names[temperature]}, {hows[how]}" for state, temperature, how in states)]
    rows = []
    for model, found in models.items():
        values = [
            found["clean"]["ece"][temperature][how] if state == "clean" else corrupted_ece(found, temperature, how)
            for state, temperature, how in states
        ]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        rows.append([model, f"{found['network']['temperature']:.3f}", *cells])
    return markdown_table(head, rows, numeric=True)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _draw_relative(models: Mapping[str, Found], metrics: Found, path: Path) -> None:
    """A panel for each corruption, a line for each model: relative mIoU by severity."""
    kinds = list(metrics["corruptions"])
    columns = min(4, len(kinds))
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(3.2 * columns + 0.6, 2.6 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    ticks = ["clean", *metrics["severities"]]
    for kind, axes in zip(kinds, panels, strict=False):
        for model, found in models.items():
            shares = [1.0, *(relative(one, found["clean"]) for one in found["corrupted"][kind])]
            axes.plot(range(len(ticks)), 100 * np.array(shares), marker="o", markersize=3, label=model)
        axes.set_title(kind.replace("_", " "), fontsize=10)
        axes.set_xticks(range(len(ticks)), ticks, fontsize=8)
        axes.grid(alpha=0.3)
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[0].legend(fontsize=8)
    figure.supylabel("mIoU, % of the clean one", fontsize=10)
    figure.savefig(path, dpi=_DPI)


def _draw_reliability(models: Mapping[str, Found], path: Path) -> None:
    """A panel for each model: how many labels are right, by how sure it is of them; clean and corrupted."""
    figure = Figure(figsize=(3.6 * len(models) + 0.6, 3.8), layout="constrained")
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False).ravel()
    for (model, found), axes in zip(models.items(), panels, strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for color, state, counted in (("C0", "clean", [found["clean"]]), ("C1", "corrupted", _every(found))):
            for style, temperature, name in zip(("--", "-"), TEMPERATURES, ("T = 1", "T"), strict=True):
                bins = np.sum([one["ece"][temperature]["bins"] for one in counted], axis=0)
                _reliability_line(axes, bins, color=color, linestyle=style, label=f"{state}, {name}")
        axes.set(title=model, xlabel="probability", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("share that is right")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=_DPI)


def _reliability_line(axes: Axes, bins: NDArray[np.float64], **style: Any) -> None:
    count, confidence, correct = bins[:, bins[0] > 0]
    axes.plot(confidence / count, correct / count, marker="o", markersize=3, **style)
