"""Misspelt names: which known name may be meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

_MIN_SIMILARITY = 0.7
"""Of a name to a misspelt one, from 0 to 1; less similar names are not proposed."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The most similar name, compared with and without its group (``GROUP.NAME``); empty if none is similar."""

    def similarity(candidate: str) -> float:
        pairs = ((name, candidate), (name, candidate.rpartition(".")[2]), (name.rpartition(".")[2], candidate))
        return max(_similarity(one.lower(), other.lower()) for one, other in pairs)

    best = max(known, key=similarity, default="")
    return best if best and similarity(best) >= _MIN_SIMILARITY else ""


def _similarity(one: str, other: str) -> float:
    if sorted(one) == sorted(other):  # letters in another order: "modle" is model rather than mode
        return 1.0
    return SequenceMatcher(None, one, other).ratio()
