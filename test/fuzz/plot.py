"""Plot of a campaign: outcomes per target, slowest input and peak memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from test.fuzz.statistics import TargetStatistics
from xmodelkd_ros.reports.charts import DPI, LINE, MARK, MUTED, TEXT, new_figure, style_axes

_PARTS = {"accepted": LINE, "rejected": "#c3cad6", "failed": MARK}
_AXIS_START = 1.0
"""Start of the logarithmic axes: smaller values are drawn as zero."""


def draw(all_stats: Mapping[str, TargetStatistics], path: Path) -> None:
    """Draw the shares of outcomes, the slowest input and the peak memory of each target.

    Args:
        all_stats: statistics of each target by name.
        path: of the image.
    """
    chart = new_figure(11, 1.3 + 0.3 * len(all_stats))
    shares, slowest, memory = chart.subplots(1, 3, sharey=True, width_ratios=(3, 1, 1))
    _draw_shares(shares, list(all_stats.values()))
    _draw_maxima(slowest, "slowest input,\nms of CPU time", [stats.slowest_ms for stats in all_stats.values()])
    _draw_maxima(memory, "peak memory of\nan input, MB", [stats.peak / 1e6 for stats in all_stats.values()])
    names = [f"{name} ({stats.inputs:,})" for name, stats in all_stats.items()]
    shares.set_yticks(range(len(names)), names)
    shares.set_ylim(len(names) - 0.4, -0.6)  # first target on top, as in the table
    chart.legend(*shares.get_legend_handles_labels(), loc="outside upper center", ncols=len(_PARTS), frameon=False)
    chart.savefig(path, dpi=DPI)


def _draw_shares(axes: Axes, all_stats: Sequence[TargetStatistics]) -> None:
    _style_bar_axes(axes)
    counts = {
        "accepted": [stats.accepted for stats in all_stats],
        "rejected": [stats.rejected.total() for stats in all_stats],
        "failed": [stats.failed.total() for stats in all_stats],
    }
    inputs = np.maximum([stats.inputs for stats in all_stats], 1)
    left = np.zeros(len(all_stats))
    for part, color in _PARTS.items():
        share = 100 * np.asarray(counts[part], np.float64) / inputs
        axes.barh(range(len(all_stats)), share, left=left, color=color, label=part, height=0.7)
        left += share
    for row, number in enumerate(counts["failed"]):
        if number:  # a few among thousands would be invisible as a bar
            axes.text(99, row, f"{number} failed", color=_PARTS["failed"], fontsize=8, ha="right", va="center")
    axes.set_xlim(0, 100)
    axes.set_xlabel("inputs, %", color=TEXT)


def _draw_maxima(axes: Axes, what: str, values: Sequence[float]) -> None:
    """Labelled bars on a logarithmic axis."""
    _style_bar_axes(axes)
    shown = np.maximum(values, _AXIS_START)
    axes.barh(range(len(values)), shown - _AXIS_START, left=_AXIS_START, color=MUTED, alpha=0.5, height=0.7)
    for row, value in enumerate(values):
        axes.text(
            1.15 * shown[row],
            row,
            f"{value:.1f}" if value < 10 else f"{value:.0f}",
            fontsize=8,
            va="center",
            color=TEXT,
        )
    axes.set_xscale("log")
    axes.set_xlim(_AXIS_START, 5 * max(*shown, 10))
    axes.set_xlabel(what, color=TEXT, fontsize=9)


def _style_bar_axes(axes: Axes) -> None:
    """Remove the vertical axis of horizontal bar charts."""
    style_axes(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
