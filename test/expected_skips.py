"""Where ``XMODELKD_CI`` is set, a test that is skipped for a reason that nobody expects there fails the run."""

from __future__ import annotations

import os
from collections import Counter

import pytest

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
    # Namespaces and what is mounted in them (test/life/conftest.py), which containers may forbid.
    "this machine allows no namespaces: ",
    "this machine does not allow '",
    "needs unshare and nsenter",
)
"""How the reasons begin. All that ``make setup`` installs is there: whatever else is missing is a fault."""


class SkipGuard:
    """A plugin of pytest."""

    def __init__(self) -> None:
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
            self._unexpected[reason] += not reason.startswith(EXPECTED)

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
