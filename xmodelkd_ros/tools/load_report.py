"""``load.md``, ``load.png`` and the numbers of ``xmodelkd load``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from xmodelkd_ros.core.atomic_write import atomic_files
from xmodelkd_ros.harness.load_scenarios import Scenario
from xmodelkd_ros.messages.topics import SEGMENTER
from xmodelkd_ros.reports.charts import DPI, LINE, MARK, MUTED, new_figure, style_axes
from xmodelkd_ros.reports.markdown import markdown_row, markdown_table
from xmodelkd_ros.reports.scores import write_metrics
from xmodelkd_ros.tools.load_outcome import Outcome

_COLUMNS = (
    "scenario", "node", "sweeps", "labelled", "at least", "not labelled, as the node says", "p50, ms", "worst, ms",
    "allowed, ms", "memory, MB", "as promised",
)  # fmt: skip
HEAD = markdown_table(_COLUMNS, [])

_LEGEND = """
At least: as many as one worker labels that takes as long for each sweep as the node's slowest hundredth took, and to
which the newest that waits is the next; less one in a hundred. Allowed: twice that time, and 100 ms; so a slow node
keeps its promises too. Memory: the most of the node's process, and the median over the last third of the time less that
over the middle one, of which 8 MB are allowed. Beside a bad subscriber the median may be twice that of `rate_10`.
"""


def row(outcome: Outcome) -> str:
    """A line of the table."""
    said = ", ".join(f"{count} {reason}" for reason, count in outcome.said.items()) or "0"
    times = ("-" if value is None else f"{value:.0f}" for value in (outcome.p50_ms, outcome.worst_ms))
    cells = (
        *(outcome.scenario, outcome.node, outcome.sweeps, outcome.labelled, outcome.promised, said, *times),
        f"{outcome.bound_ms:.0f}",
        f"{outcome.memory_mb:.0f} (+{max(outcome.memory_growth_mb, 0):.1f})",
        f"NO: {', '.join(outcome.broken)}" if outcome.broken else "yes",
    )
    return markdown_row(cells)


def write_report(out: Path, outcomes: Sequence[Outcome], every: Sequence[Scenario], command: str) -> None:
    """Write what came of all scenarios.

    Args:
        out: the folder.
        outcomes: one for each scenario and node.
        every: all scenarios that there are.
        command: the command line.
    """
    what = "".join(f"* `{scenario.name}`: {scenario.what}\n" for scenario in every)
    table = "\n".join([HEAD, *map(row, outcomes)])
    derived = ("p50_ms", "worst_ms", "thirds_ms", "unaccounted", "broken")
    rows = [{**asdict(o), **{name: getattr(o, name) for name in derived}} for o in outcomes]
    with atomic_files(out, "load.md") as folder:
        (folder / "load.md").write_text(
            f"![What became of the sweeps](load.png)\n\n{table}\n{_LEGEND}\n{what}", encoding="utf-8"
        )
        draw_load(folder / "load.png", outcomes)
        write_metrics(folder, {"load": rows, "command": command})
    print(f"\nwritten: {out / 'load.md'}")


def draw_load(path: Path, outcomes: Sequence[Outcome]) -> None:
    """What became of the sweeps of each scenario, how long labels took, and the memory of the node.

    Args:
        path: the picture.
        outcomes: one for each scenario and node.
    """
    names = [o.scenario if o.node == SEGMENTER else f"{o.scenario}, {o.node}" for o in outcomes]
    rows = np.arange(len(outcomes))
    chart = new_figure(11, 1.4 + 0.3 * len(outcomes))
    shares, times, memory = chart.subplots(1, 3, sharey=True, width_ratios=(1, 2, 1))
    for axes in (shares, times, memory):
        style_axes(axes, "both")
    labelled = np.array([o.labelled / o.sweeps for o in outcomes])
    said = np.array([sum(o.said.values()) / o.sweeps for o in outcomes])
    shares.barh(rows, labelled, color=LINE, label="labelled")
    shares.barh(rows, said, left=labelled, color=MUTED, alpha=0.4, label="counted as dropped")
    shares.barh(rows, 1 - labelled - said, left=labelled + said, color=MARK, label="unaccounted for")
    shares.set_xlabel("share of the sweeps")
    for place, outcome in zip(rows, outcomes, strict=True):
        found = outcome.latencies_ms
        times.scatter(found, np.full(len(found), place), s=5, color=LINE, alpha=0.35, linewidths=0)
        times.plot([outcome.bound_ms] * 2, [place - 0.35, place + 0.35], color=MARK, linewidth=1.4)
    times.set_xlabel("from publication to labels, ms (line: allowed)")
    times.set_xlim(left=0)
    memory.barh(rows, [o.memory_mb for o in outcomes], color=LINE)
    memory.set_xlabel("memory of the node, MB")
    shares.set_yticks(rows, names)
    shares.invert_yaxis()
    chart.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    chart.savefig(path, dpi=DPI)
