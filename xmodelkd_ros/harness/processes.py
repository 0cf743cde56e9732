"""Starting the package's ROS programs: their environment, their logs, and a clean end whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.harness.dds_domain import lock_descriptors, reserve_domain
from xmodelkd_ros.harness.dds_profile import profile_variable, shipped_profile, user_profile

_STOP_S = 8.0
_POLL_S = 0.05
_SHOWN_LINES = 5


class ProcessError(XModelKDError):
    """A program of this package that was started ended before its time, or did not answer in time."""


def dds_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for programs that talk to each other on this machine only.

    They get a domain of their own: a bag and its ``/clock`` must not reach a running vehicle. A Fast DDS
    profile and ``AMENT_PREFIX_PATH`` stay as the user has set them.

    Raises:
        DomainError: other programs of this package have all domains.
    """
    env = dict(os.environ if environment is None else environment)
    env["ROS_DOMAIN_ID"] = reserve_domain(env.get("ROS_DOMAIN_ID", "0"))
    env["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if env.get("ROS_DISTRO") == "humble":
        env["ROS_LOCALHOST_ONLY"] = "1"
    env.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    if user_profile(env) is None:
        env[profile_variable(env)] = shipped_profile()
    # From a clone that is not installed the programs must find the package as well.
    clone = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join(p for p in (clone, env.get("PYTHONPATH", "")) if p)
    env["PYTHONUNBUFFERED"] = "1"
    return env


class Program:
    """A ROS program of this package in a process of its own.

    Use it as a context manager: leaving it ends the process, gently first.

    Args:
        module: below ``xmodelkd_ros``, such as ``node.segment_node`` or ``harness.recorder``.
        arguments: its command line.
        env: its environment.
        log: file that takes its output.

    Raises:
        ProcessError: on entering, if it cannot be started.
    """

    def __init__(self, module: str, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = module.rpartition(".")[2]
        self._command = [sys.executable, "-m", f"xmodelkd_ros.{module}", *arguments]
        self._env = dict(env)
        self._log = log

    def __enter__(self) -> Program:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._log.open("wb") as output:
                # A session of its own: Ctrl-C reaches this process, which then ends the others in order. One that
                # outlives this process keeps the domain, so that nobody else is given it.
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    env=self._env, start_new_session=True,
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
        """The exit code; None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def suspend(self) -> None:
        """Let it stand still, until it is stopped."""
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """Ask the process to end, and kill it if it does not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def check(self) -> None:
        """Make sure that it still runs, or ended well.

        Raises:
            ProcessError: it failed; the message has the last lines it wrote.
        """
        if self.returncode not in (None, 0):
            raise ProcessError(f"{self.name} ended with exit code {self.returncode}: {self.output_tail()}")

    def output_tail(self) -> str:
        """The last lines of its output as one line, from its last error on where it reports one."""
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [i for i, line in enumerate(lines) if line.startswith("error:") or "[ERROR]" in line]
        shown = lines[errors[-1] :] if errors else lines
        return " | ".join(shown[-_SHOWN_LINES:]) or "it wrote nothing"


def wait_for(condition: Callable[[], bool], programs: Sequence[Program], timeout_s: float, what: str) -> None:
    """Wait until a condition holds, while programs run.

    Raises:
        ProcessError: a program failed, or the time is over.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        for program in programs:
            program.check()
        if time.monotonic() > end:
            said = " | ".join(f"{program.name}: {program.output_tail()}" for program in programs)
            raise ProcessError(f"{what} did not happen within {timeout_s:.0f} s; {said}")
        time.sleep(_POLL_S)


def wait_for_count(count: Callable[[], int], wanted: int, quiet_s: float) -> None:
    """Give what is still on its way time: until ``count`` is as wanted, or has not grown for ``quiet_s`` seconds."""
    newest, since = count(), time.monotonic()
    while newest < wanted and time.monotonic() - since < quiet_s:
        time.sleep(_POLL_S)
        now = count()
        if now != newest:
            newest, since = now, time.monotonic()
