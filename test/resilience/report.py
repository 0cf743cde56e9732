"""Report of test outcomes: ``resilience.md``, ``resilience.png`` and ``metrics.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from xmodelkd_ros.core.atomic_write import atomic_files
from xmodelkd_ros.reports.charts import DPI, LINE, MARK, MUTED, new_figure, style_axes
from xmodelkd_ros.reports.markdown import markdown_table

PASSED, FAILED, SKIPPED, NOT_RUN = "passed", "failed", "skipped", "not run"
_COLORS = {PASSED: LINE, FAILED: MARK, SKIPPED: "#adb5bd", NOT_RUN: "#5f3dc4"}
_WORST_FIRST = (FAILED, NOT_RUN, SKIPPED, PASSED)


@dataclass
class Row:
    """Outcome of one case of a test.

    Attributes:
        where: file name.
        what: test name as words.
        case: parameters; empty without parameters.
        outcome: :data:`PASSED`, :data:`FAILED`, :data:`SKIPPED` or, until pytest reports, :data:`NOT_RUN`.
        seconds: duration including setup and teardown.
        why: reason of a skip or failure.
    """

    where: str
    what: str
    case: str = ""
    outcome: str = NOT_RUN
    seconds: float = 0.0
    why: str = ""


@dataclass(eq=False)  # pytest keeps its plugins in sets
class OutcomeRecorder:
    """A pytest plugin that records the outcome of each test."""

    _rows: dict[str, Row] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """Outcomes in order of collection."""
        return list(self._rows.values())

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Register a collected test."""
        self._rows[item.nodeid] = _row(item)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Remove deselected tests."""
        for item in items:
            self._rows.pop(item.nodeid, None)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record files that are skipped or cannot be imported."""
        if report.outcome != PASSED:
            name = Path(report.nodeid).name
            self._rows[report.nodeid] = Row(name, "all of it", "", report.outcome, 0.0, _reason(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record setup, call and teardown of a test."""
        row = self._rows[report.nodeid]
        row.seconds += report.duration
        if report.outcome != PASSED and row.outcome != FAILED:
            row.outcome, row.why = report.outcome, _reason(report)
        elif report.when == "call" and row.outcome == NOT_RUN:  # setup alone is not a pass
            row.outcome = PASSED


def _row(item: pytest.Item) -> Row:
    name, _, case = item.name.partition("[")
    return Row(item.path.name, name.removeprefix("test_").replace("_", " "), case.removesuffix("]"))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash else report.longrepr).splitlines() or [""]
    return lines[0] if crash else lines[-1]  # for import errors, the error comes last


def counts(rows: Sequence[Row]) -> Counter[str]:
    """Number of cases with each outcome."""
    return Counter(row.outcome for row in rows)


def summary(rows: Sequence[Row]) -> str:
    """Summary line of the counts."""
    found = counts(rows)
    shown = (PASSED, FAILED, SKIPPED, *([NOT_RUN] if found[NOT_RUN] else []))
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in shown)


@dataclass(frozen=True)
class Test:
    """All cases of a test.

    Attributes:
        what: name as words.
        where: file name.
        cases: outcome of each case.
    """

    __test__ = False

    what: str
    where: str
    cases: tuple[Row, ...]

    @property
    def outcome(self) -> str:
        """Worst outcome of its cases."""
        return next(outcome for outcome in _WORST_FIRST if counts(self.cases)[outcome])

    @property
    def seconds(self) -> float:
        """Total duration of all cases."""
        return sum(row.seconds for row in self.cases)

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of the table row."""
        found = counts(self.cases)
        outcome = ", ".join(f"{found[name]} {name}" for name in _WORST_FIRST if found[name])
        why = {f"{row.case}: {row.why}" if row.case else row.why: None for row in self.cases if row.why}
        return self.what, self.where, outcome, f"{self.seconds:.1f}", "; ".join(why)


def tests(rows: Sequence[Row]) -> list[Test]:
    """Cases grouped by test, in order of execution."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.what, row.where), []).append(row)
    return [Test(*key, tuple(cases)) for key, cases in found.items()]


def table(rows: Sequence[Row]) -> str:
    """The table of ``resilience.md``."""
    head = ("test", "file", "outcome", "seconds", "why")
    return markdown_table(head, [test.cells for test in tests(rows)])


def write(out: Path, command: str, seconds: float, rows: Sequence[Row]) -> None:
    """Write ``resilience.md``, ``resilience.png`` and ``metrics.json`` into a folder, all or none."""
    found = {name.replace(" ", "_"): counts(rows)[name] for name in _COLORS}
    metrics = {"command": command, "seconds": round(seconds, 1), **found}
    title = "# Resilience: kills, full disks, restricted machines, security"
    head = f"{title}\n\n{summary(rows)} in {seconds:.0f} s: `{command}`\n"
    with atomic_files(out, "resilience.md") as folder:
        (folder / "resilience.md").write_text(
            f"{head}\n{table(rows)}\n\n![seconds of each test](resilience.png)\n", encoding="utf-8"
        )
        each = [{**asdict(row), "seconds": round(row.seconds, 2)} for row in rows]
        (folder / "metrics.json").write_text(json.dumps({**metrics, "tests": each}, indent=2) + "\n", encoding="utf-8")
        draw(folder / "resilience.png", rows)


def draw(path: Path, rows: Sequence[Row], shortest: float = 0.1) -> None:
    """Plot the durations of tests that took at least ``shortest`` seconds or did not pass, coloured by outcome."""
    shown = [test for test in tests(rows) if test.seconds >= shortest or test.outcome != PASSED]
    shown.sort(key=lambda test: test.seconds, reverse=True)
    chart = new_figure(11, 1.2 + 0.24 * len(shown))
    axes = chart.add_subplot()
    style_axes(axes, "x")
    for outcome, color in _COLORS.items():
        places = [i for i, test in enumerate(shown) if test.outcome == outcome]
        if places:
            axes.barh(places, [shown[i].seconds for i in places], color=color, height=0.7, label=outcome)
    axes.set_yticks(range(len(shown)), [test.what for test in shown], fontsize=7)
    axes.set_ylim(max(len(shown), 1) - 0.4, -0.6)
    axes.set_xlabel("seconds", color=MUTED)
    if shown:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    chart.savefig(path, dpi=DPI)
