"""Many drives at once: one process for each core, one drive at a time in each."""

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

from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.inference.child_process import exit_when_parent_dies
from xmodelkd_ros.inference.cpu import cores

Result = TypeVar("Result")


def each_drive(work: Callable[[int], Result], seeds: Sequence[int]) -> Iterator[Result]:
    """What ``work`` makes of each seed, in order, with a progress bar.

    Building a street is Python, which threads do not speed up; so each drive has a process. ``work`` must be
    importable (a function of a module, or a ``functools.partial`` of one). When the caller is interrupted, or stops
    to take results, the processes are ended; and so they are when the caller is killed.

    Raises:
        XModelKDError: a process was ended by somebody else.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn"), exit_when_parent_dies, (os.getpid(),))
    try:
        with _interrupts_ignored():
            results = pool.map(work, seeds)
        yield from tqdm(results, "drives", len(seeds), unit=" drives", file=sys.stderr, disable=None, leave=False)
    except BrokenProcessPool:
        raise XModelKDError(
            "a process that makes drives was ended from outside, perhaps for want of memory; close other programs and "
            "give the same command again"
        ) from None
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)  # first: a broken pool stumbles over futures that are cancelled
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # or each would finish its drive first
            process.join()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started here inherit it: Ctrl-C, which reaches all of them, is for the one that the user started."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
