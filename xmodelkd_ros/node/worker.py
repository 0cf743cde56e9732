"""Worker thread with a short queue in which newer items replace older ones."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestWinsWorker(Generic[T]):
    """Worker thread that drops the oldest waiting items when more than ``capacity`` wait.

    Items that are submitted together never replace each other.

    Args:
        work: called in the thread with each item, in order of submission.
        on_replaced: called in the submitting thread with an item that a newer one replaced.
        on_error: called in the thread with an item and the exception that ``work`` raised; the thread continues.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        on_replaced: Callable[[T], None],
        on_error: Callable[[T, Exception], None],
    ) -> None:
        self.capacity = 1
        self._work = work
        self._on_replaced = on_replaced
        self._on_error = on_error
        self._queue: deque[T] = deque()
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sweep worker", daemon=True)
        self._thread.start()

    def submit(self, *items: T) -> None:
        """Queue items; returns at once. Must not be called after :meth:`stop`."""
        if not items:
            return
        replaced: list[T] = []
        with self._changed:
            self._queue.extend(items)
            while len(self._queue) > max(self.capacity, len(items)):
                replaced.append(self._queue.popleft())
            self._changed.notify()
        for item in replaced:
            self._on_replaced(item)

    @property
    def waiting(self) -> int:
        """Number of waiting items."""
        return len(self._queue)

    def stop(self) -> None:
        """End the thread after the current and all waiting items are done."""
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
            # Release the item: a sweep holds megabytes, and the next one may be far off.
            del item

    def _report(self, item: T, error: Exception) -> None:
        try:
            self._on_error(item, error)
        except Exception:
            # Reporting fails too, for example while ROS shuts down; the thread must survive that.
            traceback.print_exc()

    def _next(self) -> list[T] | None:
        """The first waiting item in a list, or None once the worker is stopped and its queue empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping)
            return [self._queue.popleft()] if self._queue else None
