"""What a process that trains many runs keeps between them: sweeps, and what cameras see of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

_T = TypeVar("_T")
_kept: dict[Hashable, Any] | None = None
_closing: ExitStack | None = None


@contextmanager
def run_cache() -> Iterator[None]:
    """Within it, :func:`memoize` makes everything once; at its end, callbacks of :func:`close_with_cache` run."""
    global _kept, _closing
    before = _kept, _closing
    with ExitStack() as closing:
        _kept, _closing = {}, closing
        try:
            yield
        finally:
            _kept, _closing = before


def close_with_cache(close: Callable[[], Any]) -> None:
    """Call ``close`` at the end of :func:`run_cache`; never outside of it."""
    if _closing is not None:
        _closing.callback(close)


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
