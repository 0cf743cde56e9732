"""What is attacked: how its inputs are made, how they are fed in, and what one of them may cost."""

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


class BrokenPromiseError(Exception):
    """What came out is not what was promised."""


def ensure(holds: object, promise: str) -> None:
    """Raise a BrokenPromiseError unless something holds."""
    if not holds:
        raise BrokenPromiseError(promise)


def each(*steps: Callable[[], object]) -> None:
    """Take all steps, whichever are refused; then the first refusal is raised."""
    refusals = []
    for step in steps:
        try:
            step()
        except XModelKDError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


@dataclass(frozen=True)
class Limits:
    """What an input may cost.

    Attributes:
        seconds: of all processor cores together.
        memory: bytes, however small the input is: what libraries set up, and what is made of a model's size.
        multiple: bytes beyond that for each byte of the input.
        traced: whether what Python and numpy ask for is noted, touched or not. It takes some libraries four times as
            long; of theirs only resident memory counts, and what goes beyond the headroom of the process.
    """

    seconds: float = 2.0
    memory: int = 8 << 20
    multiple: float = 32.0
    traced: bool = True


class Target(ABC):
    """A target; use it as a context manager.

    Attributes:
        name: of it; its inputs depend on it.
        limits: what an input may cost.
    """

    name: str
    limits = Limits()

    def __enter__(self) -> Target:
        return self

    def __exit__(  # noqa: B027  # most have nothing to let go of
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go of everything."""

    @abstractmethod
    def good(self) -> Any:
        """An input that must be taken, before the attack and after it."""

    @abstractmethod
    def make(self, mutator: Mutator) -> tuple[Any, int]:
        """An input, and its size in bytes."""

    @abstractmethod
    def use(self, value: Any) -> None:
        """Feed an input in, and look at what comes out.

        Raises:
            XModelKDError: it is refused, as bad input has to be.
            BrokenPromiseError: what came out is wrong.
        """


class InFolder(Target):
    """A target that needs a folder for its files."""

    def __enter__(self) -> Target:
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self._temporary.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._temporary.cleanup()


def find(place: str) -> Target:
    """A new target of the class at a place such as ``test.fuzz.targets.codec:Points``."""
    module, _, name = place.partition(":")
    target: Target = getattr(importlib.import_module(module), name)()
    return target
