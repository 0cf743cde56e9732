"""Where ``XMODELKD_CI`` is set, a test that is skipped for a reason that nobody expects there fails the run.

``XMODELKD_CI_HAS`` names, separated by spaces, what a machine is known to have, so that a test which misses it fails
the run too: ``namespaces`` (of users, mounts and networks, with mounts of tmpfs and of folders in them: what
``test/resilience`` needs). ``.ci/run`` names nothing, for containers may forbid them.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from test.resilience.machines import TRIALS

EXPECTED = (
    # Data and devices that such a machine need not have.
    "needs the PandaSet sequence in ",
    "no GPU",
    "there is a GPU",
    # Of ROS, and not among what pip installs.
    "launch and launch_ros come with a ROS installation",
    "message_filters comes with a ROS installation",
    "sensor_msgs_py is not installed",
    "tf2_ros is not installed",
)
"""How the reasons begin. All that ``make setup`` installs is there: whatever else is missing is a fault."""
MAY_LACK = {"namespaces": tuple(f"this machine allows no {capability}: " for capability in TRIALS)}
"""How the reasons begin where a machine lacks what it is not known to have, by the names in ``XMODELKD_CI_HAS``."""


def expected() -> tuple[str, ...]:
    """How the reasons begin that are expected on this machine.

    Raises:
        pytest.UsageError: it is known to have something of which nothing is known here.
    """
    has = os.environ.get("XMODELKD_CI_HAS", "").split()
    if unknown := [name for name in has if name not in MAY_LACK]:
        raise pytest.UsageError(f"XMODELKD_CI_HAS names '{unknown[0]}'; it may name {', '.join(MAY_LACK)}")
    return (*EXPECTED, *(reason for name, reasons in MAY_LACK.items() if name not in has for reason in reasons))


class SkipGuard:
    """A plugin of pytest."""

    def __init__(self) -> None:
        self._expected = expected()
        self._unexpected: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at a test."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Look at a file."""
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):  # one that may fail has another longrepr
            reason = str(report.longrepr[2]).removeprefix("Skipped: ")
            self._unexpected[reason] += not reason.startswith(self._expected)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run, or not."""
        if self._said():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why."""
        if self._said():
            terminalreporter.write_line(
                f"error: skipped for a reason that is not in test/expected_skips.py: {self._said()}", red=True
            )

    def _said(self) -> str:
        return "; ".join(f"{reason} ({count})" for reason, count in (+self._unexpected).items())


def pytest_configure(config: pytest.Config) -> None:
    """Watch over the run, once: processes that share it report to the one that started them."""
    if os.environ.get("XMODELKD_CI") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipGuard(), "skip-guard")
