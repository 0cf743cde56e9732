"""Statistics of the outcomes of a target's inputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from test.fuzz.oracle import ACCEPTED, FAILED, REJECTED, Outcome

_MAX_REPRODUCERS = 3
"""Reproducers that are saved for each kind of failure; all failures are counted."""


@dataclass
class TargetStatistics:
    """Statistics of one target."""

    inputs: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0
    peak: int = 0
    multiple: float = 0.0

    def add(self, outcome: Outcome) -> bool:
        """Count an outcome; returns whether to save a reproducer."""
        self.inputs += 1
        self.accepted += outcome.kind == ACCEPTED
        self.rejected[outcome.why] += outcome.kind == REJECTED
        self.failed[outcome.why] += outcome.kind == FAILED
        self.slowest_ms = max(self.slowest_ms, outcome.milliseconds)
        self.peak = max(self.peak, outcome.peak)
        self.multiple = max(self.multiple, outcome.multiple)
        return outcome.kind == FAILED and self.failed[outcome.why] <= _MAX_REPRODUCERS

    def to_dict(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        return {
            "inputs": self.inputs,
            "accepted": self.accepted,
            "refused": dict(sorted((+self.rejected).items())),
            "broken": dict(sorted((+self.failed).items())),
            "slowest_ms": round(self.slowest_ms, 1),
            "peak_mb": round(self.peak / 1e6, 2),
            "multiple": round(self.multiple, 2),
        }
