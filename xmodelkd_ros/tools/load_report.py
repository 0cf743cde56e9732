"""Report of ``xmodelkd load``: ``load.md``, ``load.png`` and ``metrics.json``."""

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
    "scenario", "node", "sweeps", "labelled", "required", "reported as not labelled", "p50, ms", "max, ms",
    "allowed, ms", "memory, MB", "passed",
)  # fmt: skip
TABLE_HEAD = markdown_table(_COLUMNS, [])

_LEGEND = """
Required: the number of sweeps that a worker labels if each takes the node's p99 service time and only the newest one
waits, less 1 %. Allowed: twice the p99 service time plus 100 ms, so the limits scale with the speed of the node.
Memory: peak of the node's process, and the median of the last third of the time less that of the second third, which
may be 8 MB. With a slow or suspended subscriber the median latency may be twice that of `rate_10`.
"""
_METRICS_KEYS = {"min_labelled": "promised", "unlabelled": "said", "baseline_ms": "alone_ms"}
"""Keys of ``metrics.json`` that differ from the attributes of an outcome."""


def table_row(outcome: Outcome) -> str:
    """A row of the table."""
    unlabelled = ", ".join(f"{count} {reason}" for reason, count in outcome.unlabelled.items()) or "0"
    times = ("-" if value is None else f"{value:.0f}" for value in (outcome.p50_ms, outcome.worst_ms))
    cells = (
        *(outcome.scenario, outcome.node, outcome.sweeps, outcome.labelled, outcome.min_labelled, unlabelled, *times),
        f"{outcome.bound_ms:.0f}",
        f"{outcome.memory_mb:.0f} (+{max(outcome.memory_growth_mb, 0):.1f})",
        f"NO: {', '.join(outcome.failures)}" if outcome.failures else "yes",
    )
    return markdown_row(cells)


def write_report(out: Path, outcomes: Sequence[Outcome], every: Sequence[Scenario], command: str) -> None:
    """Write the report of all scenarios."""
    legend = "".join(f"* `{scenario.name}`: {scenario.description}\n" for scenario in every)
    table = "\n".join([TABLE_HEAD, *map(table_row, outcomes)])
    with atomic_files(out, "load.md") as folder:
        (folder / "load.md").write_text(
            f"![Sweeps, latency and memory by scenario](load.png)\n\n{table}\n{_LEGEND}\n{legend}", encoding="utf-8"
        )
        draw_load(folder / "load.png", outcomes)
        write_metrics(folder, {"load": list(map(_metrics, outcomes)), "command": command})
    print(f"\nwritten: {out / 'load.md'}")


def _metrics(outcome: Outcome) -> dict[str, object]:
    derived = {name: getattr(outcome, name) for name in ("p50_ms", "worst_ms", "thirds_ms", "unaccounted")}
    measured = {_METRICS_KEYS.get(name, name): value for name, value in asdict(outcome).items()}
    return {**measured, **derived, "broken": outcome.failures}


def draw_load(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Draw the fate of the sweeps, the latencies and the node's memory for each scenario."""
    names = [o.scenario if o.node == SEGMENTER else f"{o.scenario}, {o.node}" for o in outcomes]
    rows = np.arange(len(outcomes))
    chart = new_figure(11, 1.4 + 0.3 * len(outcomes))
    shares, times, memory = chart.subplots(1, 3, sharey=True, width_ratios=(1, 2, 1))
    for axes in (shares, times, memory):
        style_axes(axes, "both")
    labelled = np.array([o.labelled / o.sweeps for o in outcomes])
    dropped = np.array([sum(o.unlabelled.values()) / o.sweeps for o in outcomes])
    shares.barh(rows, labelled, color=LINE, label="labelled")
    shares.barh(rows, dropped, left=labelled, color=MUTED, alpha=0.4, label="counted as dropped")
    shares.barh(rows, 1 - labelled - dropped, left=labelled + dropped, color=MARK, label="unaccounted for")
    shares.set_xlabel("fraction of the sweeps")
    for y, outcome in zip(rows, outcomes, strict=True):
        latencies = outcome.latencies_ms
        times.scatter(latencies, np.full(len(latencies), y), s=5, color=LINE, alpha=0.35, linewidths=0)
        times.plot([outcome.bound_ms] * 2, [y - 0.35, y + 0.35], color=MARK, linewidth=1.4)
    times.set_xlabel("latency from publication to labels, ms (line: allowed)")
    times.set_xlim(left=0)
    memory.barh(rows, [o.memory_mb for o in outcomes], color=LINE)
    memory.set_xlabel("memory of the node, MB")
    shares.set_yticks(rows, names)
    shares.invert_yaxis()
    chart.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    chart.savefig(path, dpi=DPI)
