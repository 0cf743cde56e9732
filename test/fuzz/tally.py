"""What became of the inputs of a target, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from test.fuzz.promises import ACCEPTED, BROKEN, REFUSED, Outcome

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
