"""Targets that break every promise there is: what the attack has to find."""

from __future__ import annotations

import mmap
import os
import signal
import time
from typing import Any

import numpy as np

from test.fuzz.mutation import Mutator
from test.fuzz.target import BrokenPromiseError, Limits, Target
from xmodelkd_ros.core.errors import CloudError

_MEGABYTES = 60


class _TwoLinesError(CloudError):
    def __str__(self) -> str:
        return "one line\nand another"


def _refuse() -> None:
    raise CloudError("no")


def _forget_a_key() -> None:
    {}["nothing"]


def _lie() -> None:
    raise BrokenPromiseError("not one label per point")


def _say_two_lines() -> None:
    raise _TwoLinesError


def _ask_for_memory() -> None:
    np.empty(_MEGABYTES << 20, np.uint8)


def _use_memory_of_a_library() -> None:
    with mmap.mmap(-1, _MEGABYTES << 20) as memory:
        memory.write(b"x" * (1 << 20) * _MEGABYTES)


def _swallow_a_memory_error() -> None:
    try:
        bytearray(1 << 45)
    except MemoryError as error:
        raise CloudError("cannot read it") from error


def _take_long() -> None:
    end = time.process_time() + 0.4
    while time.process_time() < end:
        pass


HARMS = {
    "none": (lambda: None, "accepted", ""),
    "refusal": (_refuse, "refused", "CloudError"),
    "other error": (_forget_a_key, "broken", "KeyError at test/fuzz/self_test.py"),
    "wrong output": (_lie, "broken", "not one label per point"),
    "two lines": (_say_two_lines, "broken", "_TwoLinesError at test/fuzz/self_test.py"),
    "memory": (_ask_for_memory, "broken", "memory without bounds"),
    "memory of a library": (_use_memory_of_a_library, "broken", "memory without bounds"),
    "swallowed": (_swallow_a_memory_error, "broken", "memory without bounds at test/fuzz/self_test.py"),
    "time": (_take_long, "broken", "time without bounds"),
    "crash": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "broken", "crash: SIGSEGV"),
    "exit": (lambda: os._exit(3), "broken", "crash: exit code 3"),
}
"""What is done; the kind of outcome it has to be, and how the reason begins."""


class Mutants(Target):
    """Each input does one of the harms."""

    name = "harms"
    limits = Limits(seconds=0.2)

    def good(self) -> Any:
        return "none"

    def make(self, mutator: Mutator) -> tuple[Any, int]:
        return mutator.pick(list(HARMS)), 100

    def use(self, value: Any) -> None:
        HARMS[value][0]()


class Hang(Mutants):
    """Every input hangs."""

    name = "hang"

    def use(self, value: Any) -> None:
        if value != "none":
            time.sleep(3600)

    def make(self, mutator: Mutator) -> tuple[Any, int]:
        return "hang", 100


class Ageing(Mutants):
    """Takes a few inputs, and then none any more, not even a good one."""

    name = "worn"
    _left = 4

    def make(self, mutator: Mutator) -> tuple[Any, int]:
        return "none", 100

    def use(self, value: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise CloudError("worn out")


class NotThere(Mutants):
    """Cannot be set up."""

    name = "not_there"

    def __enter__(self) -> Target:
        raise FileNotFoundError("no model")


class NotMade(Mutants):
    """Its inputs cannot be made."""

    name = "not_made"

    def make(self, mutator: Mutator) -> tuple[Any, int]:
        raise ZeroDivisionError


class Heard(Mutants):
    """A node that it started would be heard in domain 7, or by other machines."""

    name = "heard"

    def use(self, value: Any) -> None:
        if os.environ["ROS_DOMAIN_ID"] == "7" or os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] != "LOCALHOST":
            raise BrokenPromiseError("heard by a vehicle")
