"""Charts of reports (confusion, latency, time series) and their common style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xmodelkd_ros.core.metrics import ConfusionMatrix

DPI = 130
"""Resolution of every figure, on creation and when saved."""
TEXT = "#22262e"
MUTED = "#6b7280"
LINE = "#2f6fde"
"""Colour of measured values and successes."""
MARK = "#d9480f"
"""Colour of limits, gaps and failures."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in the common style; sizes in inches."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")


def style_axes(axes: Axes, grid: Literal["x", "y", "both"] = "y") -> None:
    """Remove the frame of axes and show a grid along one axis or both."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis=grid, color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT, labelsize=9)


def draw_confusion(confusion: ConfusionMatrix, path: Path) -> None:
    """Confusion matrix normalised by true class (row), for the classes that occur."""
    present = np.flatnonzero(confusion.counts.sum(axis=1))
    used = np.flatnonzero(confusion.counts.sum(axis=0))
    names = [name.replace("_", " ") for name in (*confusion.label_map.names, "no label")]
    columns = sorted({*present.tolist(), *used.tolist()})
    counts = confusion.counts[np.ix_(present, columns)]
    share = 100 * counts / counts.sum(axis=1, keepdims=True)
    # The constants leave room for the class names.
    chart = new_figure(2.6 + 0.62 * len(columns), 2.0 + 0.5 * len(present))
    axes = chart.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(columns)), [names[i] for i in columns], rotation=38, ha="right")
    axes.set_yticks(range(len(present)), [names[i] for i in present])
    axes.set_xlabel("predicted", color=MUTED)
    axes.set_ylabel("true", color=MUTED)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.5:
            color = "white" if value > 55 else TEXT
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=9)
    chart.savefig(path, dpi=DPI)


def draw_latency(latency_ms: Sequence[float | None], miou: Sequence[float | None], path: Path) -> None:
    """Latency of each sweep and its histogram; below it the mIoU of each sweep, if there is ground truth.

    Args:
        latency_ms: per sweep; None without labels.
        miou: per sweep; None without ground truth.
        path: the PNG file.
    """
    series = np.array([np.nan if v is None else v for v in latency_ms], np.float64)
    scores = np.array([np.nan if v is None else v for v in miou], np.float64)
    has_scores = bool(np.isfinite(scores).any())
    chart = new_figure(11, 4.6 if has_scores else 2.8)
    grid = chart.add_gridspec(1 + has_scores, 2, width_ratios=(3.2, 1))
    over_time = chart.add_subplot(grid[0, 0])
    _latency_series(over_time, series)
    _latency_histogram(chart.add_subplot(grid[0, 1], sharey=over_time), series)
    if has_scores:
        _miou_series(chart.add_subplot(grid[1, 0], sharex=over_time), scores)
    else:
        over_time.set_xlabel("sweep")
    chart.savefig(path, dpi=DPI)


def draw_series(path: Path, series: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> None:
    """Numbers of sweeps and values of each quantity, by name, in stacked panels with a common horizontal axis."""
    chart = new_figure(11, 1.0 + 1.5 * len(series))
    rows = chart.subplots(len(series), sharex=True, squeeze=False)[:, 0]
    for axes, (name, (positions, values)) in zip(rows, series.items(), strict=True):
        style_axes(axes)
        axes.plot(positions, values, color=LINE, linewidth=0.9)
        axes.set_ylim(0, 1.15 * max(values, default=1))
        axes.set_ylabel(name)
    rows[-1].set_xlabel("sweeps")
    chart.savefig(path, dpi=DPI)


def _latency_series(axes: Axes, series: np.ndarray) -> None:
    style_axes(axes)
    axes.plot(series, color=LINE, linewidth=1.2, marker="o", markersize=3)
    known = series[np.isfinite(series)]
    for position in np.flatnonzero(~np.isfinite(series)):
        axes.axvspan(position - 0.5, position + 0.5, color=MARK, alpha=0.25, linewidth=0)
    if known.size:
        for share, style in ((50, "-"), (99, "--")):
            value = np.percentile(known, share)
            axes.axhline(value, color=MUTED, linewidth=0.8, linestyle=style)
            axes.text(
                0.995, value, f"p{share} {value:.1f}", color=MUTED, fontsize=8, va="bottom", ha="right",
                transform=axes.get_yaxis_transform(),
            )  # fmt: skip
        axes.set_ylim(0, 1.25 * known.max())
    axes.set_xlim(-0.5, len(series) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("latency, ms")


def _latency_histogram(axes: Axes, series: np.ndarray) -> None:
    style_axes(axes)
    known = series[np.isfinite(series)]
    if known.size:
        axes.hist(known, bins=min(30, max(5, known.size // 2)), orientation="horizontal", color=LINE, alpha=0.8)
    axes.tick_params(labelleft=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    axes.set_xlabel("sweeps")


def _miou_series(axes: Axes, scores: np.ndarray) -> None:
    style_axes(axes)
    axes.plot(scores, color=LINE, linewidth=1.2, marker="o", markersize=3)
    axes.set_ylim(0, 1)
    axes.set_ylabel("mIoU of the sweep")
    axes.set_xlabel("sweep")
