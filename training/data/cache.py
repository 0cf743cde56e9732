"""What a process that trains many runs keeps between them: sweeps, and what cameras see of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_T = TypeVar("_T")
_kept: dict[Hashable, Any] | None = None


@contextmanager
def run_cache() -> Iterator[None]:
    """Within it, :func:`memoize` makes everything once."""
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


def memoize(key: Hashable, make: Callable[[], _T]) -> _T:
    """What ``make`` makes; the same again for the same key within :func:`run_cache`, and anew outside of it."""
    if _kept is None:
        return make()
    if key not in _kept:
        _kept[key] = make()
    kept: _T = _kept[key]
    return kept


def is_cached(key: Hashable) -> bool:
    """Whether :func:`memoize` has what belongs to a key."""
    return _kept is not None and key in _kept
