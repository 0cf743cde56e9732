"""In-memory cache shared by the runs of one process: sweeps and their image features."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

_T = TypeVar("_T")
_cached: dict[Hashable, Any] | None = None
_closing: ExitStack | None = None


@contextmanager
def run_cache() -> Iterator[None]:
    """Enable :func:`memoize` within the context; callbacks of :func:`close_with_cache` run at its end."""
    global _cached, _closing
    before = _cached, _closing
    with ExitStack() as closing:
        _cached, _closing = {}, closing
        try:
            yield
        finally:
            _cached, _closing = before


def close_with_cache(close: Callable[[], Any]) -> None:
    """Call ``close`` at the end of :func:`run_cache`; never outside of it."""
    if _closing is not None:
        _closing.callback(close)


def memoize(key: Hashable, make: Callable[[], _T]) -> _T:
    """The result of ``make``, computed once per key within :func:`run_cache` and on every call outside of it."""
    if _cached is None:
        return make()
    if key not in _cached:
        _cached[key] = make()
    value: _T = _cached[key]
    return value


def is_cached(key: Hashable) -> bool:
    """Whether :func:`memoize` holds a result for a key."""
    return _cached is not None and key in _cached
