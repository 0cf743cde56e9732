"""Process pool for drives: one process per core, one drive at a time in each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from xmodelkd_ros.core.child_process import exit_when_parent_dies
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.inference.cpu import cores

Result = TypeVar("Result")


def each_drive(work: Callable[[int], Result], seeds: Sequence[int]) -> Iterator[Result]:
    """Map ``work`` over seeds, in order, with a progress bar.

    Building a street is pure Python, which threads do not speed up, so each drive has a process. ``work`` must be
    importable (a module's function, or a ``functools.partial`` of one). The processes are terminated when the caller
    is interrupted, stops iterating, or is killed.

    Raises:
        XModelKDError: a process was terminated from outside.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn"), exit_when_parent_dies, (os.getpid(),))
    try:
        with _interrupts_ignored():
            results = pool.map(work, seeds)
        yield from tqdm(results, "drives", len(seeds), unit=" drives", file=sys.stderr, disable=None, leave=False)
    except BrokenProcessPool:
        raise XModelKDError(
            "a worker process was terminated from outside, perhaps out of memory; close other programs and run the "
            "same command again"
        ) from None
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)  # first: a broken pool fails on cancelled futures
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # otherwise each would finish its drive first
            process.join()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore SIGINT; processes started here inherit that, so that Ctrl-C is handled by the parent only."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set handlers
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
