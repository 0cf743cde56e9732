"""``life.md``, ``life.png`` and ``metrics.json`` of what pytest reports."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from xmodelkd_ros.core.whole_file import whole_files
from xmodelkd_ros.tools.pictures import MUTED, TEXT

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
_COLORS = {PASSED: "#2f6fde", FAILED: "#d9480f", SKIPPED: "#adb5bd"}
_DPI = 130


@dataclass
class Row:
    """What became of a test.

    Attributes:
        where: its file.
        what: the first line of what it says of itself, or its name as words.
        outcome: :data:`PASSED`, :data:`FAILED` or :data:`SKIPPED`.
        seconds: with what it needed before and after.
        why: the reason where it was skipped or has failed.
    """

    where: str
    what: str
    outcome: str = PASSED
    seconds: float = 0.0
    why: str = ""


@dataclass(eq=False)  # pytest keeps its plugins in sets
class Seen:
    """A plugin of pytest that notes what becomes of each test."""

    _rows: dict[str, Row] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """In the order in which they were run."""
        return list(self._rows.values())

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note what a test says of itself."""
        self._rows[item.nodeid] = Row(item.path.name, _what(item))

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Forget what is not run."""
        for item in items:
            self._rows.pop(item.nodeid, None)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note files that are skipped, or broken, as a whole."""
        if report.outcome != PASSED:
            name = Path(report.nodeid).name
            self._rows[report.nodeid] = Row(name, "all of it", report.outcome, 0.0, _reason(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add setup, call and end of a test."""
        row = self._rows[report.nodeid]
        row.seconds += report.duration
        if report.outcome != PASSED and row.outcome != FAILED:
            row.outcome, row.why = report.outcome, _reason(report)


def _what(item: pytest.Item) -> str:
    said = (getattr(getattr(item, "obj", None), "__doc__", None) or "").strip().splitlines()
    name, _, case = item.name.partition("[")
    words = said[0] if said else name.removeprefix("test_").replace("_", " ")
    return f"{words} [{case}" if case else words


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash else report.longrepr).splitlines() or [""]
    return lines[0] if crash else lines[-1]  # of a file that cannot be imported the error comes last


def counts(rows: Sequence[Row]) -> Counter[str]:
    """How many passed, failed and were skipped."""
    return Counter(row.outcome for row in rows)


def summary(rows: Sequence[Row]) -> str:
    """The counts in a line."""
    found = counts(rows)
    return f"{found[PASSED]} passed, {found[FAILED]} failed, {found[SKIPPED]} skipped"


def table(rows: Sequence[Row]) -> str:
    """The table of ``life.md``."""
    lines = ["| what was done | in | outcome | seconds | why |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row.what, row.where, row.outcome, f"{row.seconds:.1f}", row.why)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def write(out: Path, command: str, seconds: float, rows: Sequence[Row]) -> None:
    """Write ``life.md``, ``life.png`` and ``metrics.json`` into a folder: all of them, or none."""
    metrics = {"command": command, "seconds": round(seconds, 1), **{name: counts(rows)[name] for name in _COLORS}}
    head = f"# Kills, full disks, odd machines, security\n\n{summary(rows)} in {seconds:.0f} s: `{command}`\n"
    with whole_files(out, "life.md") as folder:
        (folder / "life.md").write_text(
            f"{head}\n{table(rows)}\n\n![seconds of each test](life.png)\n", encoding="utf-8"
        )
        tests = [{**asdict(row), "seconds": round(row.seconds, 2)} for row in rows]
        (folder / "metrics.json").write_text(json.dumps({**metrics, "tests": tests}, indent=2) + "\n", encoding="utf-8")
        draw(folder / "life.png", rows)


def draw(path: Path, rows: Sequence[Row], longest: int = 40) -> None:
    """Seconds of the tests that took longest, and of all that failed, coloured by outcome."""
    by_time = sorted(rows, key=lambda row: row.seconds, reverse=True)
    shown = [row for i, row in enumerate(by_time) if i < longest or row.outcome == FAILED]
    figure = Figure(figsize=(11, 1.2 + 0.24 * len(shown)), dpi=_DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for outcome, color in _COLORS.items():
        places = [i for i, row in enumerate(shown) if row.outcome == outcome]
        label = f"{counts(rows)[outcome]} {outcome}"
        axes.barh(places, [shown[i].seconds for i in places], color=color, height=0.7, label=label)
    axes.set_yticks(range(len(shown)), [row.what[:80] for row in shown], fontsize=7)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT)
    axes.set_xlabel("seconds", color=MUTED)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=_DPI)
