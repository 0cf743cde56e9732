"""Worker process of a campaign: ``python -m test.fuzz.worker TARGET SEED FD < NUMBERS``.

It writes each number before running the input, so that the reader knows which input ended the process. Lines are JSON.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace

from test.fuzz.cost import address_space, trace_allocations
from test.fuzz.mutation import Mutator
from test.fuzz.oracle import ACCEPTED, FAILED, run_input
from test.fuzz.target import Target, load_target

SEED_REJECTED = "the seed input is no longer accepted"
_HEADROOM = 1 << 30
"""Address space that a process may use beyond that after setup; protects the machine."""


def main(arguments: list[str]) -> int:
    """Run the inputs with the numbers on stdin; returns the exit code."""
    faulthandler.enable()
    path, seed, descriptor = arguments[0], int(arguments[1]), int(arguments[2])
    numbers = [int(number) for number in sys.stdin.read().split()]

    def emit(line: dict[str, object]) -> None:
        os.write(descriptor, json.dumps(line).encode() + b"\n")

    work(load_target(path), seed, numbers, emit)
    emit({"end": True})
    return 0


def work(target: Target, seed: int, numbers: Iterable[int], emit: Callable[[dict[str, object]], None]) -> None:
    """Run inputs, with the seed input before and after them.

    Args:
        target: to fuzz.
        seed: of the inputs.
        numbers: of the inputs.
        emit: receives ``{"start": number}`` and then the outcome as a dictionary; ``{"fault": text}`` if the campaign
            cannot continue.
    """
    with target, trace_allocations() if target.limits.traced else nullcontext():
        target.execute(target.seed_input())  # may load libraries
        _limit_memory()
        for number in numbers:
            try:
                value, size = target.generate(Mutator.of(target.name, seed, number))
            except Exception:
                emit({"fault": f"input {number} cannot be generated: {traceback.format_exc()}"})
                return
            emit({"start": number})
            emit(asdict(run_input(target, value, size, number)))
        after = run_input(target, target.seed_input(), 1 << 20)
        if after.kind != ACCEPTED:
            detail = f"{after.kind}: {after.why}\n{after.detail}"
            emit(asdict(replace(after, number=number, kind=FAILED, why=SEED_REJECTED, detail=detail)))


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + _HEADROOM, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
