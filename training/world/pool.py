"""Many drives at once: one process for each core, one drive at a time in each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from tqdm import tqdm

Result = TypeVar("Result")


def each_drive(work: Callable[[int], Result], seeds: Sequence[int]) -> Iterator[Result]:
    """What ``work`` makes of each seed, in order, with a progress bar.

    Building a street is Python, which threads do not speed up; so each drive has a process. ``work`` must be
    importable (a function of a module, or a ``functools.partial`` of one).
    """
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        results = pool.map(work, seeds)
        yield from tqdm(results, "drives", len(seeds), unit=" drives", file=sys.stderr, disable=None, leave=False)
