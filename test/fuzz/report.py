"""``fuzz.md``, ``metrics.json`` and a file for each kind of broken promise."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from test.fuzz.promises import ACCEPTED, BROKEN, REFUSED, Outcome
from xmodelkd_ros.core.whole_file import whole_files

BROKEN_FOLDER = "broken"
UNFINISHED_FOLDER = "broken.unfinished"
"""Where what breaks stands until the attack is over: an attack that is interrupted leaves the last report whole."""
_KEPT = 3
"""Inputs that are kept of each kind of broken promise; all are counted."""


@dataclass
class Tally:
    """What became of the inputs of one target."""

    inputs: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0
    peak: int = 0
    multiple: float = 0.0

    def add(self, outcome: Outcome) -> bool:
        """Count an outcome; whether it is a broken promise to keep."""
        self.inputs += 1
        self.accepted += outcome.kind == ACCEPTED
        self.refused[outcome.why] += outcome.kind == REFUSED
        self.broken[outcome.why] += outcome.kind == BROKEN
        self.slowest_ms = max(self.slowest_ms, outcome.milliseconds)
        self.peak = max(self.peak, outcome.peak)
        self.multiple = max(self.multiple, outcome.multiple)
        return outcome.kind == BROKEN and self.broken[outcome.why] <= _KEPT

    def to_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        return {
            "inputs": self.inputs,
            "accepted": self.accepted,
            "refused": dict(sorted((+self.refused).items())),
            "broken": dict(sorted((+self.broken).items())),
            "slowest_ms": round(self.slowest_ms, 1),
            "peak_mb": round(self.peak / 1e6, 2),
            "multiple": round(self.multiple, 2),
        }


def table(tallies: Mapping[str, Tally]) -> str:
    """The table of ``fuzz.md``."""
    lines = [
        "| target | inputs | accepted | refused | slowest, ms | memory, MB | times the input | broken promises |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, tally in tallies.items():
        multiple = f"{tally.multiple:.1f}" if tally.multiple > 0 else ""
        cells = (
            *(name, f"{tally.inputs:,}", f"{tally.accepted:,}", _counts(tally.refused)),
            *(f"{tally.slowest_ms:.0f}", f"{tally.peak / 1e6:.1f}", multiple, _counts(tally.broken)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _counts(counter: Counter[str]) -> str:
    found = [f"{count:,} {why}".replace("|", "/") for why, count in counter.most_common() if count]
    return ", ".join(found) or "0"


_LEGEND = """
Accepted: it was used, and what came out was checked. Refused: by an error of this package, by class. Slowest: time of
the processor, all threads. Memory: the most that one input took beyond what was there before; and how many times its
own size that is, beyond the few MB that any input of the target may take (empty: no more than those).
"""


def write(out: Path, command: str, seconds: float, tallies: Mapping[str, Tally]) -> None:
    """Write ``fuzz.md`` and ``metrics.json`` into a folder, and what broke beside them: all of it, or nothing."""
    total, broken = sum(t.inputs for t in tallies.values()), sum(t.broken.total() for t in tallies.values())
    head = f"# Attack on the runtime\n\n{total:,} inputs in {seconds:.0f} s, {broken:,} broken promises: `{command}`\n"
    metrics = {
        "command": command,
        "seconds": round(seconds, 1),
        "inputs": total,
        "broken": broken,
        "targets": {name: tally.to_dict() for name, tally in tallies.items()},
    }
    with whole_files(out, "fuzz.md") as folder:
        (folder / "fuzz.md").write_text(f"{head}\n{table(tallies)}\n{_LEGEND}", encoding="utf-8")
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(out / BROKEN_FOLDER, ignore_errors=True)  # of an attack before
    with suppress(FileNotFoundError):  # nothing broke
        (out / UNFINISHED_FOLDER).replace(out / BROKEN_FOLDER)


def keep(out: Path, target: str, seed: int, outcome: Outcome) -> None:
    """Keep what is needed to see a broken promise again."""
    folder = out / UNFINISHED_FOLDER
    folder.mkdir(exist_ok=True)
    again = f"python -m test.fuzz --targets {target} --seed {seed} --numbers {outcome.number} --out DIR"
    text = f"{target}, input {outcome.number}: {outcome.why}\nagain with: {again}\n\n{outcome.detail}\n"
    (folder / f"{target}-{seed}-{outcome.number}.txt").write_text(text, encoding="utf-8")
