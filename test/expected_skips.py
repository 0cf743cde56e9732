"""Pytest plugin: where ``XMODELKD_CI`` is set, a test skipped for an unexpected reason fails the run.

``XMODELKD_CI_HAS`` lists capabilities that a machine is known to have, separated by spaces; a test skipped for lack of
one fails the run too. The only one is ``namespaces``: user, mount and network namespaces with mounts of tmpfs and of
folders, which ``test/resilience`` needs. ``.ci/run`` sets none, because containers may forbid them.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from test.resilience.machines import TRIALS

EXPECTED = (
    # Data and devices that a CI machine may lack.
    "needs the PandaSet sequence in ",
    "needs the drives in ",
    "no GPU",
    "there is a GPU",
    # Large extras that make setup does not install.
    "Ray is not installed (extra cluster)",
    "Rerun is not installed (extra view)",
    # Parts of ROS that pip does not install.
    "launch and launch_ros come with a ROS installation",
    "message_filters comes with a ROS installation",
    "sensor_msgs_py is not installed",
    "tf2_ros is not installed",
    "vision_msgs is not installed",
)
"""Prefixes of expected reasons. ``make setup`` installs everything else."""
OPTIONAL = {"namespaces": tuple(f"this machine allows no {capability}: " for capability in TRIALS)}
"""Prefixes of the reasons for lack of a capability, by its name in ``XMODELKD_CI_HAS``."""


def expected() -> tuple[str, ...]:
    """Prefixes of the reasons that are expected on this machine.

    Raises:
        pytest.UsageError: ``XMODELKD_CI_HAS`` lists an unknown capability.
    """
    available = os.environ.get("XMODELKD_CI_HAS", "").split()
    if unknown := [name for name in available if name not in OPTIONAL]:
        raise pytest.UsageError(f"XMODELKD_CI_HAS lists '{unknown[0]}'; it may list {', '.join(OPTIONAL)}")
    lacking = (prefix for name, prefixes in OPTIONAL.items() if name not in available for prefix in prefixes)
    return (*EXPECTED, *lacking)


class SkipGuard:
    """Counts unexpected skips and fails the session if there are any."""

    def __init__(self) -> None:
        self._expected = expected()
        self._unexpected: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a skipped test."""
        self._count(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count a skipped file."""
        self._count(report)

    def _count(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):  # an xfail has another longrepr
            reason = str(report.longrepr[2]).removeprefix("Skipped: ")
            self._unexpected[reason] += not reason.startswith(self._expected)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Set the exit status."""
        if self._summary():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the unexpected reasons."""
        if self._summary():
            line = f"error: skipped for a reason that is not in test/expected_skips.py: {self._summary()}"
            terminalreporter.write_line(line, red=True)

    def _summary(self) -> str:
        """Unexpected reasons with their counts; empty without any."""
        return "; ".join(f"{reason} ({count})" for reason, count in (+self._unexpected).items())


def pytest_configure(config: pytest.Config) -> None:
    """Register the guard in the main process only: workers of pytest-xdist report to it."""
    if os.environ.get("XMODELKD_CI") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipGuard(), "skip-guard")
