"""One input, and whether the promises hold: only errors of this package, in bounded time and memory, right output."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from test.fuzz.cost import Cost, measured
from test.fuzz.target import BrokenPromiseError, Limits, Target
from xmodelkd_ros.core.errors import XModelKDError

ACCEPTED, REFUSED, BROKEN = "accepted", "refused", "broken"
_OUT_OF_MEMORY = ("insufficient memory", "bad_alloc", "unable to allocate", "failed to allocate")
_ROOT = Path(__file__).parents[2]
_SHOWN = 300
_LONGEST = 600
"""Characters of an error that a person may be asked to read: three lines of a terminal's window, paths among them."""


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        number: of the input.
        kind: ``accepted``, ``refused`` or ``broken``.
        why: the class of the error that refused it, or in a few words which promise was broken.
        detail: more about it.
        milliseconds: of the processor.
        peak: bytes of memory, beyond what was there before.
        multiple: bytes of that for each byte of the input, beyond those that any input may take.
    """

    number: int
    kind: str
    why: str = ""
    detail: str = ""
    milliseconds: float = 0.0
    peak: int = 0
    multiple: float = 0.0


def fed(target: Target, value: Any, size: int, number: int = -1) -> Outcome:
    """Feed an input of so many bytes in."""
    error: BaseException | None = None
    with measured() as cost:
        try:
            target.use(value)
        except KeyboardInterrupt:
            raise
        except BaseException as caught:  # whatever it is: that is the question
            error = caught
    kind, why, detail = _judged(error) or _too_much(cost, size, target.limits) or _well(error)
    multiple = max(cost.peak - target.limits.memory, 0) / max(size, 1)
    return Outcome(number, kind, why, detail, cost.milliseconds, cost.peak, multiple)


def _judged(error: BaseException | None) -> tuple[str, str, str] | None:
    """What is wrong with an error; None if nothing is."""
    if error is None:
        return None
    if isinstance(error, BrokenPromiseError):
        return BROKEN, str(error), _trace(error)
    if not isinstance(error, XModelKDError):
        return BROKEN, f"{type(error).__name__} at {_place(error)}", _trace(error)
    text = str(error)
    if not text or text.splitlines() != [text] or len(text) > _LONGEST:
        return BROKEN, f"{type(error).__name__} at {_place(error)} is not one short line", _trace(error)
    if any(_is_out_of_memory(cause) for cause in _causes(error)):
        return BROKEN, f"memory without bounds at {_place(error)}", _trace(error)
    return None


def _too_much(cost: Cost, size: int, limits: Limits) -> tuple[str, str, str] | None:
    if cost.milliseconds > limits.seconds * 1e3:
        return BROKEN, "time without bounds", f"it took {cost.milliseconds:.0f} ms of the processor"
    if cost.peak > limits.memory + limits.multiple * size:
        return BROKEN, "memory without bounds", f"it took {cost.peak / 1e6:.1f} MB, the input has {size} bytes"
    return None


def _well(error: BaseException | None) -> tuple[str, str, str]:
    return (ACCEPTED, "", "") if error is None else (REFUSED, type(error).__name__, str(error)[:_SHOWN])


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _OUT_OF_MEMORY)


def _place(error: BaseException) -> str:
    """The last line of this project that an error passed, of the package if it did."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(_ROOT))]
    ours = [frame for frame in frames if "/xmodelkd_ros/" in frame.filename] or frames
    return f"{Path(ours[-1].filename).relative_to(_ROOT)}:{ours[-1].lineno}" if ours else "an unknown place"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))[-6000:]
