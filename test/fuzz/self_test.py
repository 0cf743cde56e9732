"""Targets with known faults, which the campaign must detect."""

from __future__ import annotations

import mmap
import os
import signal
import time
from typing import Any

import numpy as np

from test.fuzz.mutation import Mutator
from test.fuzz.target import InvariantError, Limits, Target
from xmodelkd_ros.core.errors import CloudError

_MEGABYTES = 60


class _TwoLinesError(CloudError):
    def __str__(self) -> str:
        return "one line\nand another"


def _reject() -> None:
    raise CloudError("no")


def _raise_key_error() -> None:
    {}["nothing"]


def _violate_invariant() -> None:
    raise InvariantError("not one label per point")


def _raise_two_line_error() -> None:
    raise _TwoLinesError


def _allocate_memory() -> None:
    np.empty(_MEGABYTES << 20, np.uint8)


def _allocate_native_memory() -> None:
    with mmap.mmap(-1, _MEGABYTES << 20) as memory:
        memory.write(b"x" * (1 << 20) * _MEGABYTES)


def _wrap_memory_error() -> None:
    try:
        bytearray(1 << 45)
    except MemoryError as error:
        raise CloudError("cannot read it") from error


def _burn_cpu() -> None:
    end = time.process_time() + 0.4
    while time.process_time() < end:
        pass


FAULTS = {
    "none": (lambda: None, "accepted", ""),
    "refusal": (_reject, "rejected", "CloudError"),
    "other error": (_raise_key_error, "failed", "KeyError at test/fuzz/self_test.py"),
    "wrong output": (_violate_invariant, "failed", "not one label per point"),
    "two lines": (_raise_two_line_error, "failed", "_TwoLinesError at test/fuzz/self_test.py"),
    "memory": (_allocate_memory, "failed", "memory without bounds"),
    "memory of a library": (_allocate_native_memory, "failed", "memory without bounds"),
    "swallowed": (_wrap_memory_error, "failed", "memory without bounds at test/fuzz/self_test.py"),
    "time": (_burn_cpu, "failed", "time without bounds"),
    "crash": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "failed", "crash: SIGSEGV"),
    "exit": (lambda: os._exit(3), "failed", "crash: exit code 3"),
}
"""Action, expected kind of outcome, and expected start of the reason."""


class FaultyTarget(Target):
    """Each input triggers one of the faults."""

    name = "faults"
    limits = Limits(seconds=0.2)

    def seed_input(self) -> Any:
        return "none"

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        return mutator.pick(list(FAULTS)), 100

    def execute(self, value: Any) -> None:
        FAULTS[value][0]()


class HangingTarget(FaultyTarget):
    """Every input hangs."""

    name = "hang"

    def execute(self, value: Any) -> None:
        if value != "none":
            time.sleep(3600)

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        return "hang", 100


class DegradingTarget(FaultyTarget):
    """Accepts a few inputs and then rejects even its seed input."""

    name = "degrading"
    _left = 4

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        return "none", 100

    def execute(self, value: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise CloudError("worn out")


class SetupFailure(FaultyTarget):
    """Fails during setup."""

    name = "setup_failure"

    def __enter__(self) -> Target:
        raise FileNotFoundError("no model")


class GenerateFailure(FaultyTarget):
    """Fails to generate inputs."""

    name = "generate_failure"

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        raise ZeroDivisionError


class NetworkIsolation(FaultyTarget):
    """Fails if a node started here would be visible in DDS domain 7 or to other machines."""

    name = "network_isolation"

    def execute(self, value: Any) -> None:
        if os.environ["ROS_DOMAIN_ID"] == "7" or os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] != "LOCALHOST":
            raise InvariantError("visible to a vehicle")
