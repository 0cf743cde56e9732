"""A thread that works on the newest item only."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestWinsWorker(Generic[T]):
    """One thread and few waiting places: work that is too slow for its input falls behind by so many items at most.

    Items that are submitted together wait together: none of them is newer news than the others.

    Args:
        work: called in the thread with one item after the other, in the order they were submitted.
        replaced: called in the submitting thread with an item that a newer one pushed out.
        failed: called in the thread with an item and what ``work`` raised on it; the thread lives on.

    Attributes:
        places: how many items may wait; one to begin with.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        replaced: Callable[[T], None],
        failed: Callable[[T, Exception], None],
    ) -> None:
        self.places = 1
        self._work = work
        self._replaced = replaced
        self._failed = failed
        self._waiting: deque[T] = deque()
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sweep worker", daemon=True)
        self._thread.start()

    def submit(self, *items: T) -> None:
        """Hand items over; returns at once. Must not be called after :meth:`stop`."""
        if not items:
            return
        older: list[T] = []
        with self._changed:
            self._waiting.extend(items)
            while len(self._waiting) > max(self.places, len(items)):
                older.append(self._waiting.popleft())
            self._changed.notify()
        for replaced in older:
            self._replaced(replaced)

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self._waiting)

    def stop(self) -> None:
        """End the thread once the item at work and those that wait are done."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._work(item[0])
            except Exception as error:
                self._report(item[0], error)
            # Let go of the item: a sweep is megabytes, and the next may be long in coming.
            del item

    def _report(self, item: T, error: Exception) -> None:
        try:
            self._failed(item, error)
        except Exception:
            # Not even the report came through, as when ROS shuts down: the thread outlives that too.
            traceback.print_exc()

    def _next(self) -> list[T] | None:
        """The first waiting item in a list, or None when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            return [self._waiting.popleft()] if self._waiting else None
