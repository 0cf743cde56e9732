"""Feeds inputs to targets in processes of their own, so that a crash or a hang is counted, and the rest goes on."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from test.fuzz.promises import BROKEN, Outcome
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.harness.dds_domain import reserve_domain

BATCH = 5000
"""Inputs that one process gets at most."""
HANG_S = 60.0
"""An input that takes longer, by the clock, hangs: a shared machine may be slow, but not that slow."""
_ROOT = Path(__file__).parents[2]
_SHOWN = 4000


class AttackError(XModelKDError):
    """The attack itself cannot go on, or found something."""


def outcomes(place: str, seed: int, numbers: Sequence[int], hang_s: float = HANG_S) -> Iterator[Outcome]:
    """What becomes of the inputs of a target.

    Args:
        place: of the target (see :func:`test.fuzz.target.find`).
        seed: of the inputs.
        numbers: of the inputs.
        hang_s: how long one may take.

    Raises:
        AttackError: the target could not be set up.
    """
    for first in range(0, len(numbers), BATCH):
        left = list(numbers[first : first + BATCH])
        while left:
            last = None
            for outcome in _of_one_process(place, seed, left, hang_s):
                yield outcome
                last = outcome.number
            left = left[left.index(last) + 1 :] if last is not None else []


def _of_one_process(place: str, seed: int, numbers: Sequence[int], hang_s: float) -> Iterator[Outcome]:
    """The outcomes until the process ends, however it does."""
    readable, writable = os.pipe()
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "test.fuzz.worker", place, str(seed), str(writable)]
        process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=[writable], text=True,
            env=_environment(),
        )  # fmt: skip
        os.close(writable)
        try:
            _hand_over(process, numbers)
            yield from _read(process, readable, log, place, hang_s)
        finally:
            os.close(readable)
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    """With a DDS domain of its own: nodes that are attacked must not be heard by a vehicle."""
    domain = reserve_domain(os.environ.get("ROS_DOMAIN_ID", "0"))
    return {**os.environ, "ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def _hand_over(process: subprocess.Popen[str], numbers: Sequence[int]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended; why, is in its log
        process.stdin.write(" ".join(map(str, numbers)))
        process.stdin.close()


def _read(
    process: subprocess.Popen[str], readable: int, log: IO[bytes], place: str, hang_s: float
) -> Iterator[Outcome]:
    started, end = None, ""
    for line in _lines(readable, hang_s):
        if "fault" in line:
            raise AttackError(f"{place}: {line['fault']}")
        if "end" in line:
            return
        if "hang" in line:
            end = f"hang: nothing for {hang_s:g} s"
        elif "start" in line:
            started = line["start"]
        else:
            yield Outcome(**line)
    if started is None:
        raise AttackError(f"{place} cannot be attacked: {end or _last_line(log)}")
    yield Outcome(started, BROKEN, end or _crash(process.wait()), _tail(log))


def _lines(readable: int, hang_s: float) -> Iterator[dict[str, Any]]:
    """Lines as they come; at last ``{"hang": True}`` if none comes any more although the process is there."""
    rest, patience_s = b"", HANG_S  # it has to be set up first
    while True:
        if not select.select([readable], [], [], patience_s)[0]:
            yield {"hang": True}
            return
        data, patience_s = os.read(readable, 1 << 16), hang_s
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from map(json.loads, lines)


def _crash(code: int) -> str:
    return f"crash: {signal.Signals(-code).name}" if code < 0 else f"crash: exit code {code}"


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace").strip()[-_SHOWN:] or "its process ended without a word"


def _last_line(log: IO[bytes]) -> str:
    return _tail(log).splitlines()[-1]
