"""``fuzz.md``, ``fuzz.png``, ``metrics.json`` and a file for each kind of broken promise."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from test.fuzz.plot import draw
from test.fuzz.promises import Outcome
from test.fuzz.tally import Tally
from xmodelkd_ros.core.atomic_write import atomic_files
from xmodelkd_ros.reports.markdown import markdown_table

BROKEN_FOLDER = "broken"
UNFINISHED_FOLDER = "broken.unfinished"
"""Where what breaks stands until the attack is over: an attack that is interrupted leaves the last report whole."""
_OLDER_FOLDER = "broken.older"
"""Where the last attack's stands while the new one takes its place."""


def table(tallies: Mapping[str, Tally]) -> str:
    """The table of ``fuzz.md``."""
    head = (
        *("target", "inputs", "accepted", "refused"),
        *("slowest, ms", "memory, MB", "times the input", "broken promises"),
    )
    rows = []
    for name, tally in tallies.items():
        multiple = f"{tally.multiple:.1f}" if tally.multiple > 0 else ""
        rows.append(
            (
                *(name, f"{tally.inputs:,}", f"{tally.accepted:,}", _counts(tally.refused)),
                *(f"{tally.slowest_ms:.0f}", f"{tally.peak / 1e6:.1f}", multiple, _counts(tally.broken)),
            )
        )
    return markdown_table(head, rows)


def _counts(counter: Counter[str]) -> str:
    found = [f"{count:,} {why}" for why, count in counter.most_common() if count]
    return ", ".join(found) or "0"


_LEGEND = """
Accepted: it was used, and what came out was checked. Refused: by an error of this package, by class. Slowest: time of
the processor, all threads. Memory: the most that one input took beyond what was there before; and how many times its
own size that is, beyond the few MB that any input of the target may take (empty: no more than those).
"""


def write(out: Path, command: str, seconds: float, tallies: Mapping[str, Tally]) -> None:
    """Write ``fuzz.md``, its plot and ``metrics.json`` into a folder, and put what broke beside them.

    Where the disk is full everything is left as it was. Two renames put what broke in its place: killed between them,
    the folder has what the last attack broke as ``broken.older``, and what this one did as ``broken.unfinished``.
    """
    total, broken = sum(t.inputs for t in tallies.values()), sum(t.broken.total() for t in tallies.values())
    head = f"# Attack on the runtime\n\n{total:,} inputs in {seconds:.0f} s, {broken:,} broken promises: `{command}`\n"
    plot = "![What became of the inputs, and what the most expensive one took](fuzz.png)"
    metrics = {
        "command": command,
        "seconds": round(seconds, 1),
        "inputs": total,
        "broken": broken,
        "targets": {name: tally.to_dict() for name, tally in tallies.items()},
    }
    with atomic_files(out, "fuzz.md") as folder:
        (folder / "fuzz.md").write_text(f"{head}\n{plot}\n\n{table(tallies)}\n{_LEGEND}", encoding="utf-8")
        draw(tallies, folder / "fuzz.png")
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    _replace_broken(out)


def _replace_broken(out: Path) -> None:
    broken, older = out / BROKEN_FOLDER, out / _OLDER_FOLDER
    if broken.exists():
        shutil.rmtree(older, ignore_errors=True)  # of a process that was killed before it could
        broken.rename(older)
    with suppress(FileNotFoundError):  # nothing broke
        (out / UNFINISHED_FOLDER).rename(broken)
    shutil.rmtree(older, ignore_errors=True)


def keep(out: Path, target: str, seed: int, outcome: Outcome) -> None:
    """Keep what is needed to see a broken promise again."""
    folder = out / UNFINISHED_FOLDER
    folder.mkdir(exist_ok=True)
    again = f"python -m test.fuzz --targets {target} --seed {seed} --numbers {outcome.number} --out DIR"
    text = f"{target}, input {outcome.number}: {outcome.why}\nagain with: {again}\n\n{outcome.detail}\n"
    (folder / f"{target}-{seed}-{outcome.number}.txt").write_text(text, encoding="utf-8")
