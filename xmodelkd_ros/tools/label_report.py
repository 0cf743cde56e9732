"""Summary of many labelled bags: which bags and sweeps are worth labelling by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.reports.html import bar, html_table, number, write_page

SUMMARY = "summary.html"
_DATA = "summary.json"
_UNUSUAL = 3.0
"""Factor by which the share of a class must differ from its median over the bags to count as unusual."""
_COMMON = 0.01
"""Share below which a class may vary."""
_SHOWN = 30


def write_summary(out: Path, outcomes: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``summary.json`` and ``summary.html`` for bags, the most uncertain ones first; returns the page's path."""
    done = sorted((o for o in outcomes if o["summary"]), key=lambda o: -o["summary"]["entropy"])
    failed = [o for o in outcomes if not o["summary"]]
    unusual = _unusual_shares([o["summary"] for o in done])
    data = {
        "bags": [{**o["summary"], "skipped": o["skipped"], "unusual": u} for o, u in zip(done, unusual, strict=True)],
        "failed": [{"bag": o["bag"], "error": o["error"]} for o in failed],
    }
    with atomic_file(out / _DATA) as path:
        path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    with atomic_file(out / SUMMARY) as path:
        write_page(path, "Labelled bags", _sections(data))
    return out / SUMMARY


def _unusual_shares(summaries: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """For each bag the classes whose share differs much from the median over the bags."""
    names = list(dict.fromkeys(name for summary in summaries for name in summary["shares"]))
    medians = {name: float(np.median([s["shares"].get(name, 0.0) for s in summaries])) for name in names}
    result = []
    for summary in summaries:
        found = []
        for name in names:
            share, usual = summary["shares"].get(name, 0.0), medians[name]
            if max(share, usual) >= _COMMON and not usual / _UNUSUAL <= share <= usual * _UNUSUAL:
                found.append(f"{name} {share:.1%} (usually {usual:.1%})")
        result.append(found)
    return result


def _sections(data: Mapping[str, Any]) -> list[str]:
    bags = data["bags"]
    sweeps = sorted(
        ((entropy, Path(bag["bag"]).name, stamp) for bag in bags for stamp, entropy in bag["most_uncertain"]),
        reverse=True,
    )
    rows = [
        (
            escape(Path(bag["bag"]).name),
            str(bag["sweeps"]),
            number(bag["entropy"]),
            bar(bag["entropy"]),
            f"{bag['unlabelled']:.1%}",
            f"{bag['seconds']['total']:.1f}",
            escape("; ".join([*bag["unusual"], *bag["warnings"]])),
        )
        for bag in bags
    ]
    sections = [
        "<h1>Labelled bags</h1>",
        f"<p>{len(bags)} bags, {sum(bag['sweeps'] for bag in bags)} sweeps; the most uncertain ones, which are worth "
        "labelling by hand, come first.</p>",
        html_table(("bag", "sweeps", "mean entropy", "", "unlabelled", "seconds", "unusual"), rows),
        "<h2>Most uncertain sweeps</h2>",
        html_table(
            ("bag", "stamp, ns", "mean entropy"),
            [(escape(name), str(stamp), number(entropy)) for entropy, name, stamp in sweeps[:_SHOWN]],
        ),
    ]
    if data["failed"]:
        failed = [(escape(one["bag"]), escape(one["error"])) for one in data["failed"]]
        sections += ["<h2>Failed</h2>", html_table(("bag", "reason"), failed)]
    return sections
