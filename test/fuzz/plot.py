"""The plot of an attack: what became of the inputs of each target, and what its most expensive one took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from test.fuzz.tally import Tally
from xmodelkd_ros.reports.charts import DPI, LINE, MARK, MUTED, TEXT, new_figure, style_axes

_PARTS = {"accepted": LINE, "refused": "#c3cad6", "broken promise": MARK}
_LEAST = 1.0
"""Where the logarithmic axes begin: milliseconds and megabytes below are shown as none."""


def draw(tallies: Mapping[str, Tally], path: Path) -> None:
    """Draw targets one below the other: shares of their inputs, the slowest input, and the most memory of one.

    Args:
        tallies: of each target, by its name.
        path: the picture.
    """
    chart = new_figure(11, 1.3 + 0.3 * len(tallies))
    shares, slowest, memory = chart.subplots(1, 3, sharey=True, width_ratios=(3, 1, 1))
    _draw_shares(shares, list(tallies.values()))
    _draw_most(slowest, "slowest input,\nms of the processor", [tally.slowest_ms for tally in tallies.values()])
    _draw_most(memory, "most memory of\nan input, MB", [tally.peak / 1e6 for tally in tallies.values()])
    names = [f"{name} ({tally.inputs:,})" for name, tally in tallies.items()]
    shares.set_yticks(range(len(names)), names)
    shares.set_ylim(len(names) - 0.4, -0.6)  # the first on top, as in the table
    chart.legend(*shares.get_legend_handles_labels(), loc="outside upper center", ncols=len(_PARTS), frameon=False)
    chart.savefig(path, dpi=DPI)


def _draw_shares(axes: Axes, tallies: Sequence[Tally]) -> None:
    _of_bars(axes)
    counts = {
        "accepted": [tally.accepted for tally in tallies],
        "refused": [tally.refused.total() for tally in tallies],
        "broken promise": [tally.broken.total() for tally in tallies],
    }
    inputs = np.maximum([tally.inputs for tally in tallies], 1)
    left = np.zeros(len(tallies))
    for part, color in _PARTS.items():
        share = 100 * np.asarray(counts[part], np.float64) / inputs
        axes.barh(range(len(tallies)), share, left=left, color=color, label=part, height=0.7)
        left += share
    for row, number in enumerate(counts["broken promise"]):
        if number:  # of which a few among thousands would not be seen
            axes.text(99, row, f"{number} broken", color=_PARTS["broken promise"], fontsize=8, ha="right", va="center")
    axes.set_xlim(0, 100)
    axes.set_xlabel("inputs, %", color=TEXT)


def _draw_most(axes: Axes, what: str, values: Sequence[float]) -> None:
    """Bars on a logarithmic axis, each with its number."""
    _of_bars(axes)
    shown = np.maximum(values, _LEAST)
    axes.barh(range(len(values)), shown - _LEAST, left=_LEAST, color=MUTED, alpha=0.5, height=0.7)
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
    axes.set_xlim(_LEAST, 5 * max(*shown, 10))
    axes.set_xlabel(what, color=TEXT, fontsize=9)


def _of_bars(axes: Axes) -> None:
    """Bars that lie one below the other need no axis at their beginnings."""
    style_axes(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
