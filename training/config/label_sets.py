"""The label sets that training learns and is scored in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

LABELS = "drive13"
SCORED_LABELS = "pandaset9"
"""Classes that PandaSet has enough points of; confusion is counted after mapping both sides to them."""
BENCHMARK_LABELS = {"semantickitti19": "semantickitti", "nuscenes16": "nuscenes"}
"""Label sets that only the dataset of a benchmark has: what drive13 has merged cannot be told apart again."""
LABEL_SETS = (LABELS, *BENCHMARK_LABELS)
"""What a student can learn: the project's classes, or those of a benchmark, to be scored as it scores."""


def scored_labels(labels: str) -> str:
    """The set that a network is scored in while it is trained, by the set that it learns."""
    return SCORED_LABELS if labels == LABELS else labels
