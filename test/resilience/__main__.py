"""The command ``python -m test.resilience``: run the resilience and security tests and report their outcomes."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from test.resilience import report
from xmodelkd_ros.console import run_command
from xmodelkd_ros.core.atomic_write import make_folder
from xmodelkd_ros.core.errors import XModelKDError

_TESTS = Path(__file__).parents[1]
TEST_PATHS = (_TESTS / "resilience", _TESTS / "test_security.py", _TESTS / "node" / "test_security_policy.py")


class ResilienceError(XModelKDError):
    """A test failed or was not run, or no test passed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m test.resilience", description="Run the resilience and security tests and write a report."
    )
    parser.add_argument(
        "--tests",
        type=Path,
        nargs="+",
        default=list(TEST_PATHS),
        metavar="PATH",
        help="test files to run (default: all)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of resilience.md, resilience.png and metrics.json"
    )
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    return run_command(lambda: run(options, shlex.join(["python", "-m", "test.resilience", *words])))


def run(options: argparse.Namespace, command: str) -> str:
    """Run the tests.

    Returns:
        Summary line.

    Raises:
        ResilienceError: a test failed or was not run, none was run at all, or pytest could not run them.
    """
    make_folder(options.out)
    recorder, start = report.OutcomeRecorder(), time.monotonic()
    code = pytest.main([*map(str, options.tests), "--quiet", "-p", "no:cacheprovider"], plugins=[recorder])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise ResilienceError(
            f"the tests could not be run ({pytest.ExitCode(code).name.lower()}); see the output of pytest above"
        )
    report.write(options.out, command, time.monotonic() - start, recorder.rows)
    line = f"{report.summary(recorder.rows)} | report {options.out / 'resilience.md'}"
    found = report.counts(recorder.rows)
    if code != pytest.ExitCode.OK or found[report.NOT_RUN]:
        raise ResilienceError(line)
    if not found[report.PASSED]:
        raise ResilienceError(f"all tests were skipped: {line}")
    return line


if __name__ == "__main__":
    sys.exit(main())
