"""Whether an adapted student is better, the same or worse, in one line with the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BETTER, SAME, WORSE = "better", "same", "worse"
_NOTABLE = 0.01
"""Smallest change that counts; single runs differ by about this."""
_FORGOTTEN = 0.03
"""Loss of mIoU on earlier drives that outweighs any gain on the new ones."""


def verdict(metrics: Mapping[str, Any]) -> str:
    """The verdict on an adaptation, from the content of its ``metrics.json``.

    Ground truth decides where there is any. Otherwise agreement with what the images show and consistency over time on
    held-out sweeps count together: agreement alone would also rise if a teacher were wrong throughout. Agreement with
    a teacher that reads the same LiDAR is no evidence.
    """
    changes = _changes(metrics)
    losses = [one for one in (_change(old["before"], old["after"]) for old in metrics["old"]) if one is not None]
    forgotten = -min(losses, default=0.0)
    word = SAME
    if forgotten >= _FORGOTTEN or any(change <= -_NOTABLE for change in changes.values()):
        word = WORSE
    elif any(change >= _NOTABLE for change in changes.values()):
        word = BETTER
    said = [f"{name} {change * 100:+.1f} points" for name, change in changes.items()]
    said = said or ["no evidence: neither ground truth, nor images, nor poses"]
    return f"{word} ({', '.join([*said, f'earlier drives {min(losses, default=0.0) * 100:+.1f}'])})"


def _changes(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Changes of what tells whether the student became better, in shares of 1."""
    if metrics["truth"]:
        change = _change(metrics["truth"]["before"], metrics["truth"]["after"])
        return {} if change is None else {"mIoU against the ground truth": change}
    tables = {"agreement with the images": metrics["agreement"]["images"], "over time": metrics["over_time"]}
    return {
        name: table["after"] - table["before"]
        for name, table in tables.items()
        if table and None not in (table["before"], table["after"])
    }


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    pair = before["all"]["miou"], after["all"]["miou"]
    return None if None in pair else float(pair[1] - pair[0])
