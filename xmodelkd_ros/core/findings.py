"""Warnings about the input of a model, and their collection over a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_PREFIX = "warning."


@dataclass(frozen=True)
class Finding:
    """A warning about the input.

    Attributes:
        kind: one word.
        text: one line: what was seen, with numbers, and what mends it.
    """

    kind: str
    text: str


def to_values(findings: Iterable[Finding]) -> dict[str, str]:
    """Warnings as values of a diagnostic status."""
    return {f"{_PREFIX}{finding.kind}": finding.text for finding in findings}


def from_values(values: Mapping[str, str]) -> list[Finding]:
    """Inverse of :func:`to_values`; other values are ignored."""
    return [Finding(key[len(_PREFIX) :], text) for key, text in values.items() if key.startswith(_PREFIX)]


class FindingLog:
    """Warnings of a whole run, for the reports of tools."""

    def __init__(self) -> None:
        self._sweeps = 0
        self._affected: Counter[str] = Counter()
        self._texts: dict[str, str] = {}

    def add(self, findings: Iterable[Finding]) -> None:
        """Add the warnings at one sweep."""
        self._sweeps += 1
        for finding in findings:
            self._affected[finding.kind] += 1
            self._texts[finding.kind] = finding.text

    def notes(self) -> list[str]:
        """The last text of each kind, with the number of sweeps that had it."""
        return [f"{text} ({self._affected[kind]} of {self._sweeps} sweeps)" for kind, text in self._texts.items()]
