"""Misspelt names: which known name may be meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

_MIN_SIMILARITY = 0.7
"""Of a name to a misspelt one, from 0 to 1; less similar names are not proposed."""
_MAX_LENGTH = 200
"""Of a misspelt name; the rest is not compared."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The most similar name, compared with and without its group (``GROUP.NAME``); empty if none is similar."""
    return next(iter(nearest_names(name, known, 1)), "")


def nearest_names(name: str, known: Iterable[str], most: int, min_similarity: float = _MIN_SIMILARITY) -> list[str]:
    """The most similar names, compared as by :func:`nearest_name`; the nearest first."""
    name = name[:_MAX_LENGTH]

    def similarity(candidate: str) -> float:
        pairs = ((name, candidate), (name, candidate.rpartition(".")[2]), (name.rpartition(".")[2], candidate))
        return max(_similarity(one.lower(), other.lower()) for one, other in pairs)

    similarities = {candidate: similarity(candidate) for candidate in known}
    near = [candidate for candidate in similarities if similarities[candidate] >= min_similarity]
    return sorted(near, key=lambda candidate: -similarities[candidate])[:most]


def _similarity(one: str, other: str) -> float:
    if sorted(one) == sorted(other):  # letters in another order: "modle" is model rather than mode
        return 1.0
    return SequenceMatcher(None, one, other).ratio()
