"""Runs inputs in worker processes, so that crashes and hangs are recorded and the campaign continues."""

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

from test.fuzz.oracle import FAILED, Outcome
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.harness.dds_domain import reserve_domain

BATCH = 5000
"""Maximum inputs per process."""
HANG_S = 60.0
"""Wall-clock time after which an input counts as a hang."""
_ROOT = Path(__file__).parents[2]
_MAX_DETAIL = 4000


class CampaignError(XModelKDError):
    """The campaign cannot continue, or found failures."""


def run_inputs(path: str, seed: int, numbers: Sequence[int], hang_s: float = HANG_S) -> Iterator[Outcome]:
    """Outcomes of a target's inputs.

    Args:
        path: of the target (see :func:`test.fuzz.target.load_target`).
        seed: of the inputs.
        numbers: of the inputs.
        hang_s: timeout of an input, seconds.

    Raises:
        CampaignError: the target could not be set up.
    """
    for first in range(0, len(numbers), BATCH):
        left = list(numbers[first : first + BATCH])
        while left:
            last = None
            for outcome in _run_process(path, seed, left, hang_s):
                yield outcome
                last = outcome.number
            left = left[left.index(last) + 1 :] if last is not None else []


def _run_process(path: str, seed: int, numbers: Sequence[int], hang_s: float) -> Iterator[Outcome]:
    """Outcomes until the process ends or crashes."""
    readable, writable = os.pipe()
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "test.fuzz.worker", path, str(seed), str(writable)]
        process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=[writable], text=True,
            env=_environment(),
        )  # fmt: skip
        os.close(writable)
        try:
            _send_numbers(process, numbers)
            yield from _read(process, readable, log, path, hang_s)
        finally:
            os.close(readable)
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    """Environment with a separate DDS domain, so that fuzzed nodes do not reach a vehicle."""
    domain = reserve_domain(os.environ.get("ROS_DOMAIN_ID", "0"))
    return {**os.environ, "ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def _send_numbers(process: subprocess.Popen[str], numbers: Sequence[int]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended; its log tells why
        process.stdin.write(" ".join(map(str, numbers)))
        process.stdin.close()


def _read(process: subprocess.Popen[str], readable: int, log: IO[bytes], path: str, hang_s: float) -> Iterator[Outcome]:
    started, end = None, ""
    for line in _lines(readable, hang_s):
        if "fault" in line:
            raise CampaignError(f"{path}: {line['fault']}")
        if "end" in line:
            return
        if "hang" in line:
            end = f"hang: nothing for {hang_s:g} s"
        elif "start" in line:
            started = line["start"]
        else:
            yield Outcome(**line)
    if started is None:
        raise CampaignError(f"{path} cannot be fuzzed: {end or _last_line(log)}")
    yield Outcome(started, FAILED, end or _crash(process.wait()), _tail(log))


def _lines(readable: int, hang_s: float) -> Iterator[dict[str, Any]]:
    """Lines as they arrive, then ``{"hang": True}`` if the process runs on without output."""
    rest, patience_s = b"", HANG_S  # includes the setup
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
    return log.read().decode(errors="replace").strip()[-_MAX_DETAIL:] or "the process ended without output"


def _last_line(log: IO[bytes]) -> str:
    return _tail(log).splitlines()[-1]
