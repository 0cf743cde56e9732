"""Test oracle: an input must give valid output or an error of this package, in bounded time and memory."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from test.fuzz.cost import Cost, measure_cost
from test.fuzz.target import InvariantError, Limits, Target
from xmodelkd_ros.core.errors import XModelKDError

ACCEPTED, REJECTED, FAILED = "accepted", "rejected", "failed"
_OUT_OF_MEMORY = ("insufficient memory", "bad_alloc", "unable to allocate", "failed to allocate")
_ROOT = Path(__file__).parents[2]
_MAX_DETAIL = 300
_MAX_MESSAGE = 600
"""Maximum length of an error message, including paths: about three terminal lines."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of an input.

    Attributes:
        number: of the input.
        kind: ``accepted``, ``rejected`` or ``failed``.
        why: class of the error that rejected it, or the violated invariant.
        detail: message or traceback.
        milliseconds: CPU time.
        peak: bytes of memory above the initial memory.
        multiple: bytes of that per byte of the input, beyond the fixed limit.
    """

    number: int
    kind: str
    why: str = ""
    detail: str = ""
    milliseconds: float = 0.0
    peak: int = 0
    multiple: float = 0.0


def run_input(target: Target, value: Any, size: int, number: int = -1) -> Outcome:
    """Run one input of ``size`` bytes and classify the outcome."""
    error: BaseException | None = None
    with measure_cost() as cost:
        try:
            target.execute(value)
        except KeyboardInterrupt:
            raise
        except BaseException as caught:  # any other exception is a failure
            error = caught
    kind, why, detail = _check_error(error) or _check_cost(cost, size, target.limits) or _outcome_of(error)
    multiple = max(cost.peak - target.limits.memory, 0) / max(size, 1)
    return Outcome(number, kind, why, detail, cost.milliseconds, cost.peak, multiple)


def _check_error(error: BaseException | None) -> tuple[str, str, str] | None:
    """Failure of an error; None if it is acceptable."""
    if error is None:
        return None
    if isinstance(error, InvariantError):
        return FAILED, str(error), _trace(error)
    if not isinstance(error, XModelKDError):
        return FAILED, f"{type(error).__name__} at {_location(error)}", _trace(error)
    text = str(error)
    if not text or text.splitlines() != [text] or len(text) > _MAX_MESSAGE:
        return FAILED, f"{type(error).__name__} at {_location(error)} is not one short line", _trace(error)
    if any(_is_out_of_memory(cause) for cause in _causes(error)):
        return FAILED, f"memory without bounds at {_location(error)}", _trace(error)
    return None


def _check_cost(cost: Cost, size: int, limits: Limits) -> tuple[str, str, str] | None:
    # Memory first: writing it takes time too.
    if cost.peak > limits.memory + limits.multiple * size:
        return FAILED, "memory without bounds", f"it took {cost.peak / 1e6:.1f} MB, the input has {size} bytes"
    if cost.milliseconds > limits.seconds * 1e3:
        return FAILED, "time without bounds", f"it took {cost.milliseconds:.0f} ms of CPU time"
    return None


def _outcome_of(error: BaseException | None) -> tuple[str, str, str]:
    return (ACCEPTED, "", "") if error is None else (REJECTED, type(error).__name__, str(error)[:_MAX_DETAIL])


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _OUT_OF_MEMORY)


def _location(error: BaseException) -> str:
    """Innermost source line of this project in an error's traceback, preferably of the package."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(_ROOT))]
    ours = [frame for frame in frames if "/xmodelkd_ros/" in frame.filename] or frames
    return f"{Path(ours[-1].filename).relative_to(_ROOT)}:{ours[-1].lineno}" if ours else "an unknown place"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))[-6000:]
