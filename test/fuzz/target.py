"""Fuzz targets: generation and execution of inputs, and resource limits."""

from __future__ import annotations

import importlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from test.fuzz.mutation import Mutator
from xmodelkd_ros.core.errors import XModelKDError


class InvariantError(Exception):
    """Output violates an invariant."""


def ensure(holds: object, violation: str) -> None:
    """Raise an InvariantError unless a condition holds."""
    if not holds:
        raise InvariantError(violation)


def run_all(*steps: Callable[[], object]) -> None:
    """Run all steps; then raise the first error of this package."""
    errors = []
    for step in steps:
        try:
            step()
        except XModelKDError as error:
            errors.append(error)
    if errors:
        raise errors[0]


@dataclass(frozen=True)
class Limits:
    """Resource limits of an input.

    Attributes:
        seconds: CPU time of all cores.
        memory: bytes allowed for any input, for library setup and buffers of the model's size.
        multiple: further bytes per byte of the input.
        traced: trace allocations by Python and numpy, whether touched or not. This makes some libraries four times
            slower; for those only resident memory counts, and the address space limit of the process.
    """

    seconds: float = 2.0
    memory: int = 8 << 20
    multiple: float = 32.0
    traced: bool = True


class Target(ABC):
    """A fuzz target; use it as a context manager.

    Attributes:
        name: of the target; determines its inputs together with seed and number.
        limits: of an input.
    """

    name: str
    limits = Limits()

    def __enter__(self) -> Target:
        return self

    def __exit__(  # noqa: B027  # most have nothing to release
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release all resources."""

    @abstractmethod
    def seed_input(self) -> Any:
        """Valid input that must be accepted before and after fuzzing."""

    @abstractmethod
    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        """Generate an input; returns it and its size in bytes."""

    @abstractmethod
    def execute(self, value: Any) -> None:
        """Process an input and check the output.

        Raises:
            XModelKDError: the input is rejected.
            InvariantError: the output is wrong.
        """


class FolderTarget(Target):
    """A target with a temporary folder."""

    def __enter__(self) -> Target:
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self._temporary.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._temporary.cleanup()


def load_target(path: str) -> Target:
    """Instantiate the target class at a path such as ``test.fuzz.targets.codec:Points``."""
    module, _, name = path.partition(":")
    target: Target = getattr(importlib.import_module(module), name)()
    return target
