"""Child processes that run the package's ROS programs: environment, logs and shutdown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from xmodelkd_ros.core.child_process import parent_variable
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.harness.dds_domain import lock_descriptors, reserve_domain
from xmodelkd_ros.harness.dds_profile import profile_variable, shipped_profile, user_profile

_STOP_S = 8.0
_POLL_S = 0.05
_MAX_TAIL_LINES = 5


class ProcessError(XModelKDError):
    """A child process failed, or did not respond in time."""


def dds_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of ROS programs that communicate on this machine only.

    They share a reserved DDS domain: a bag and its ``/clock`` must not reach a running vehicle. The user's Fast DDS
    profile and ``AMENT_PREFIX_PATH`` are kept.

    Raises:
        DomainError: all domains are in use.
    """
    env = dict(os.environ if environment is None else environment)
    env["ROS_DOMAIN_ID"] = reserve_domain(env.get("ROS_DOMAIN_ID", "0"))
    env["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if env.get("ROS_DISTRO") == "humble":
        env["ROS_LOCALHOST_ONLY"] = "1"
    env.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    if user_profile(env) is None:
        env[profile_variable(env)] = shipped_profile()
    # Makes the package importable from a clone that is not installed.
    clone = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join(p for p in (clone, env.get("PYTHONPATH", "")) if p)
    env["PYTHONUNBUFFERED"] = "1"
    return env


class Program:
    """A ROS program of this package in a child process; a context manager that stops it on exit.

    It also stops when this process dies.

    Args:
        module: module below ``xmodelkd_ros``, such as ``node.segment_node`` or ``harness.recorder``.
        arguments: command line arguments.
        env: environment variables.
        log: file of its stdout and stderr.

    Raises:
        ProcessError: on entering, if the process cannot be started.
    """

    def __init__(self, module: str, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = module.rpartition(".")[2]
        self._command = [sys.executable, "-m", f"xmodelkd_ros.{module}", *arguments]
        self._env = dict(env)
        self._log = log
        self._is_interrupted = False

    def __enter__(self) -> Program:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._log.open("wb") as output:
                # Own session: Ctrl-C reaches this process only, which stops its children in order. The inherited
                # lock keeps the DDS domain reserved if the child outlives this process.
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    env=self._env | parent_variable(), start_new_session=True,
                    pass_fds=lock_descriptors(self._env.get("ROS_DOMAIN_ID", "")),
                )  # fmt: skip
        except OSError as error:
            raise ProcessError(f"cannot start {self.name}: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def returncode(self) -> int | None:
        """Exit code; None while the process runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def suspend(self) -> None:
        """Suspend the process (SIGSTOP) until :meth:`stop`."""
        self._process.send_signal(signal.SIGSTOP)

    def interrupt(self) -> None:
        """Send SIGINT once, also to a suspended process; a second one would kill an interpreter that shuts down."""
        if not self._is_interrupted and self._process.poll() is None:
            self._is_interrupted = True
            self._process.send_signal(signal.SIGINT)
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop the process with SIGINT, and kill it after a timeout."""
        if self._process.poll() is None:
            self.interrupt()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def check(self) -> None:
        """Check that the process runs or has ended with 0.

        Raises:
            ProcessError: it failed; the message quotes the end of its output.
        """
        if self.returncode not in (None, 0):
            raise ProcessError(f"{self.name} ended with exit code {self.returncode}: {self.output_tail()}")

    def output_tail(self) -> str:
        """Last lines of the output joined into one, from the last reported error on if there is one."""
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [i for i, line in enumerate(lines) if line.startswith("error:") or "[ERROR]" in line]
        tail = lines[errors[-1] :] if errors else lines
        return " | ".join(tail[-_MAX_TAIL_LINES:]) or "no output"


def stop_all(programs: Sequence[Program]) -> None:
    """Stop programs at the same time."""
    for program in programs:
        program.interrupt()
    for program in programs:
        program.stop()


def wait_for(condition: Callable[[], bool], programs: Sequence[Program], timeout_s: float, what: str) -> None:
    """Wait until a condition holds.

    Args:
        condition: polled.
        programs: programs that must not fail meanwhile.
        timeout_s: longest wait.
        what: name of the awaited event, for the error message.

    Raises:
        ProcessError: a program failed, or timeout.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        for program in programs:
            program.check()
        if time.monotonic() > end:
            tails = " | ".join(f"{program.name}: {program.output_tail()}" for program in programs)
            raise ProcessError(f"timeout of {timeout_s:.0f} s waiting for {what}; {tails}")
        time.sleep(_POLL_S)


def wait_for_count(count: Callable[[], int], expected: int, quiet_s: float) -> None:
    """Wait until ``count()`` reaches the expected value, or has not changed for ``quiet_s`` seconds."""
    last, since = count(), time.monotonic()
    while last < expected and time.monotonic() - since < quiet_s:
        time.sleep(_POLL_S)
        current = count()
        if current != last:
            last, since = current, time.monotonic()
