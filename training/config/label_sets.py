"""Label sets of training and evaluation."""

from __future__ import annotations

LABELS = "drive13"
SCORED_LABELS = "pandaset9"
"""Classes with enough points in PandaSet; predictions and ground truth are translated into it."""
COMPARED_LABELS = (SCORED_LABELS, LABELS, "outdoor8")
"""Label sets of the scores of a comparison."""
BENCHMARK_LABELS = {"semantickitti19": "semantickitti", "nuscenes16": "nuscenes"}
"""Benchmark label sets and their datasets: drive13 merges some of these classes, so it cannot be translated back."""
LABEL_SETS = (LABELS, *BENCHMARK_LABELS)
"""Label sets that a student can be trained with."""


def scored_labels(labels: str) -> str:
    """The label set of validation scores, for a training label set."""
    return SCORED_LABELS if labels == LABELS else labels
