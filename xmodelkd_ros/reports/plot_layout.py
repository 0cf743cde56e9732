"""Layout of plots in inches: images without distortion, and below them a legend and the credits.

matplotlib places axes in fractions of the figure; here a figure is a content area with a footer of the height that the
legend and the credits need, so that nothing is cut whatever the figure's width.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from xmodelkd_ros.reports.charts import DPI, MUTED, TEXT

BACKGROUND = "#14171c"
"""Background of point plots, with contrast to both light (road marking) and dark (truck) classes."""
GAP = 0.06
"""Space between images, inches."""

_LEGEND_ROW, _CREDIT_ROW, _MARGIN = 0.26, 0.14, 0.08
_CREDIT_FONT, _CREDIT_CHARACTER = 7, 0.058
_FONT = 10.0
_PATCH, _CHARACTER = 0.45, 0.083
"""Width of a legend's patch with its spaces, and of a letter at that font size."""


@dataclass(frozen=True)
class Box:
    """A rectangle in inches: left, top (from the upper edge, downwards), width and height."""

    left: float
    top: float
    width: float
    height: float


class Canvas:
    """A figure of a content area above a legend and credits; sizes in inches.

    Args:
        width: width of the figure.
        height: height of the content.
        legend: names and colours (sRGB, 0 to 255) of the classes.
        credit: text in small print; may be empty.
    """

    def __init__(
        self, width: float, height: float, legend: Sequence[tuple[str, tuple[int, int, int]]], credit: str
    ) -> None:
        columns = _columns([name for name, _ in legend], width)
        rows = -(-len(legend) // columns)
        lines = textwrap.wrap(credit, max(20, int(width / _CREDIT_CHARACTER)))
        legend_height, credit_height = rows * _LEGEND_ROW + _MARGIN, len(lines) * _CREDIT_ROW + _MARGIN
        self.width, self.height = width, height + legend_height + credit_height
        self.figure = Figure(figsize=(self.width, self.height), dpi=DPI, facecolor="white")
        if legend:
            self._draw_legend(legend, columns, 1 - (height + legend_height / 2) / self.height)
        for number, line in enumerate(reversed(lines)):
            bottom = (_MARGIN / 2 + number * _CREDIT_ROW) / self.height
            self.figure.text(
                1 - 0.08 / width, bottom, line, ha="right", va="bottom", fontsize=_CREDIT_FONT, color=MUTED
            )

    def axes(self, box: Box) -> Axes:
        """Axes in a rectangle."""
        return self.figure.add_axes(self._fractions(box))

    def fill(self, box: Box) -> None:
        """Fill a rectangle with the background of plots."""
        left, bottom, width, height = self._fractions(box)
        patch = Rectangle(
            (left, bottom), width, height, transform=self.figure.transFigure, color=BACKGROUND, lw=0, zorder=-1
        )
        self.figure.add_artist(patch)

    def _fractions(self, box: Box) -> tuple[float, float, float, float]:
        bottom = 1 - (box.top + box.height) / self.height
        return box.left / self.width, bottom, box.width / self.width, box.height / self.height

    def _draw_legend(self, legend: Sequence[tuple[str, tuple[int, int, int]]], columns: int, middle: float) -> None:
        patches = [
            Patch(facecolor=np.array(color) / 255, edgecolor="#9aa1ab", linewidth=0.6, label=name.replace("_", " "))
            for name, color in legend
        ]
        self.figure.legend(
            handles=patches, loc="center", bbox_to_anchor=(0.5, middle), ncol=columns, frameon=False, fontsize=_FONT,
            labelcolor=TEXT, handlelength=1.1, handleheight=1.1, columnspacing=1.2, handletextpad=0.5, borderpad=0,
            labelspacing=0.4,
        )  # fmt: skip


def _columns(names: Sequence[str], width: float) -> int:
    """The largest number of columns of a legend that fit into a width, in inches."""
    for columns in range(len(names), 1, -1):
        rows = -(-len(names) // columns)
        used = -(-len(names) // rows)
        parts = [names[k * rows : (k + 1) * rows] for k in range(used)]
        if sum(_PATCH + _CHARACTER * max(map(len, part)) for part in parts) <= width:
            return used
    return 1


def fitting_font(text: str, width: float) -> float:
    """Font size, 10 points or less, at which a text fits into a width in inches."""
    return min(_FONT, _FONT * width / (_CHARACTER * len(text)))


def row(aspects: Sequence[float], box: Box) -> list[Box]:
    """Images side by side with a common height, as large as fits into a rectangle and in its middle.

    Args:
        aspects: width divided by height of each image.
        box: the rectangle.
    """
    space = box.width - GAP * (len(aspects) - 1)
    height = min(box.height, space / sum(aspects))
    left = box.left + (space - height * sum(aspects)) / 2
    boxes = []
    for aspect in aspects:
        boxes.append(Box(left, box.top + (box.height - height) / 2, height * aspect, height))
        left += height * aspect + GAP
    return boxes


def stack(aspects: Sequence[float], box: Box) -> list[Box]:
    """Images below each other with a common width; otherwise like :func:`row`."""
    turned = row([1 / aspect for aspect in aspects], Box(box.top, box.left, box.height, box.width))
    return [Box(one.top, one.left, one.height, one.width) for one in turned]


def row_height(aspects: Sequence[float], width: float) -> float:
    """Height at which images side by side fill a width."""
    return (width - GAP * (len(aspects) - 1)) / sum(aspects)
