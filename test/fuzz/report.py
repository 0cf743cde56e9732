"""Report of a campaign: ``fuzz.md``, ``fuzz.png``, ``metrics.json`` and reproducers of failures."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from test.fuzz.oracle import Outcome
from test.fuzz.plot import draw
from test.fuzz.statistics import TargetStatistics
from xmodelkd_ros.core.atomic_write import atomic_files
from xmodelkd_ros.reports.markdown import markdown_table

REPRODUCER_FOLDER = "broken"
UNFINISHED_FOLDER = "broken.unfinished"
"""Reproducers of a running campaign; an interrupted campaign leaves the previous report intact."""
_OLDER_FOLDER = "broken.older"
"""Reproducers of the previous campaign while they are replaced."""


def table(all_stats: Mapping[str, TargetStatistics]) -> str:
    """The table of ``fuzz.md``."""
    head = (
        *("target", "inputs", "accepted", "rejected"),
        *("slowest, ms", "memory, MB", "times the input", "failed"),
    )
    rows = []
    for name, stats in all_stats.items():
        multiple = f"{stats.multiple:.1f}" if stats.multiple > 0 else ""
        rows.append(
            (
                *(name, f"{stats.inputs:,}", f"{stats.accepted:,}", _counts(stats.rejected)),
                *(f"{stats.slowest_ms:.0f}", f"{stats.peak / 1e6:.1f}", multiple, _counts(stats.failed)),
            )
        )
    return markdown_table(head, rows)


def _counts(counter: Counter[str]) -> str:
    found = [f"{count:,} {why}" for why, count in counter.most_common() if count]
    return ", ".join(found) or "0"


_LEGEND = """
Accepted: processed, with valid output. Rejected: by an error of this package, by class. Slowest: CPU time of all
threads. Memory: peak of one input above the initial memory, and as a multiple of the input's size beyond the few MB
that any input of the target may take (empty: within those).
"""


def write(out: Path, command: str, seconds: float, all_stats: Mapping[str, TargetStatistics]) -> None:
    """Write ``fuzz.md``, its plot, ``metrics.json`` and the reproducers into a folder.

    If the disk is full, the folder is unchanged. Two renames replace the reproducers: if the process is killed between
    them, those of the previous campaign are in ``broken.older`` and the new ones in ``broken.unfinished``.
    """
    total, broken = sum(t.inputs for t in all_stats.values()), sum(t.failed.total() for t in all_stats.values())
    head = f"# Fuzzing of the runtime\n\n{total:,} inputs in {seconds:.0f} s, {broken:,} failures: `{command}`\n"
    plot = "![Outcomes of the inputs, slowest input and peak memory](fuzz.png)"
    metrics = {
        "command": command,
        "seconds": round(seconds, 1),
        "inputs": total,
        "broken": broken,
        "targets": {name: stats.to_dict() for name, stats in all_stats.items()},
    }
    with atomic_files(out, "fuzz.md") as folder:
        (folder / "fuzz.md").write_text(f"{head}\n{plot}\n\n{table(all_stats)}\n{_LEGEND}", encoding="utf-8")
        draw(all_stats, folder / "fuzz.png")
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    _replace_reproducers(out)


def _replace_reproducers(out: Path) -> None:
    broken, older = out / REPRODUCER_FOLDER, out / _OLDER_FOLDER
    if broken.exists():
        shutil.rmtree(older, ignore_errors=True)  # left by a killed process
        broken.rename(older)
    with suppress(FileNotFoundError):  # no failures
        (out / UNFINISHED_FOLDER).rename(broken)
    shutil.rmtree(older, ignore_errors=True)


def save_reproducer(out: Path, target: str, seed: int, outcome: Outcome) -> None:
    """Write the command that reproduces a failure, with its details."""
    folder = out / UNFINISHED_FOLDER
    folder.mkdir(exist_ok=True)
    again = f"python -m test.fuzz --targets {target} --seed {seed} --numbers {outcome.number} --out DIR"
    text = f"{target}, input {outcome.number}: {outcome.why}\nreproduce with: {again}\n\n{outcome.detail}\n"
    (folder / f"{target}-{seed}-{outcome.number}.txt").write_text(text, encoding="utf-8")
