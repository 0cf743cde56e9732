"""The process that feeds inputs in: ``python -m test.fuzz.worker PLACE SEED FD < NUMBERS``.

It says each number before it uses it, so that whoever reads knows which input ended the process. Lines are JSON.
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

from test.fuzz.cost import address_space, tracing
from test.fuzz.mutation import Mutator
from test.fuzz.promises import ACCEPTED, BROKEN, fed
from test.fuzz.target import Target, find

NO_LONGER = "a good input is no longer taken"
_HEADROOM = 1 << 30
"""Bytes that a process may take beyond what it has before the attack: the machine must outlive it."""


def main(arguments: list[str]) -> int:
    """Work through the numbers on stdin; the exit code."""
    faulthandler.enable()
    place, seed, descriptor = arguments[0], int(arguments[1]), int(arguments[2])
    numbers = [int(number) for number in sys.stdin.read().split()]

    def say(line: dict[str, object]) -> None:
        os.write(descriptor, json.dumps(line).encode() + b"\n")

    work(find(place), seed, numbers, say)
    say({"end": True})
    return 0


def work(target: Target, seed: int, numbers: Iterable[int], say: Callable[[dict[str, object]], None]) -> None:
    """Feed inputs in, between two good ones.

    Args:
        target: to attack.
        seed: of the inputs.
        numbers: of the inputs.
        say: takes ``{"start": number}``, and then the outcome as a dictionary; ``{"fault": text}`` if the attack itself
            cannot go on.
    """
    with target, tracing() if target.limits.traced else nullcontext():
        target.use(target.good())  # which may load what is then there for good
        _limit_memory()
        for number in numbers:
            try:
                value, size = target.make(Mutator.of(target.name, seed, number))
            except Exception:
                say({"fault": f"input {number} cannot be made: {traceback.format_exc()}"})
                return
            say({"start": number})
            say(asdict(fed(target, value, size, number)))
        after = fed(target, target.good(), 1 << 20)
        if after.kind != ACCEPTED:
            detail = f"{after.kind}: {after.why}\n{after.detail}"
            say(asdict(replace(after, number=number, kind=BROKEN, why=NO_LONGER, detail=detail)))


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + _HEADROOM, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
