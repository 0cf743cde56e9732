"""The command ``python -m test.resilience``: kills, full disks, odd machines and security, and a table of the outcomes."""

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
WHERE = (_TESTS / "life", _TESTS / "test_security.py", _TESTS / "node" / "test_security_policy.py")


class LifeError(XModelKDError):
    """A test failed, or none was run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m test.resilience", description=__doc__)
    parser.add_argument("--tests", type=Path, nargs="+", default=list(WHERE), metavar="PATH", help="(default: all)")
    parser.add_argument("--out", type=Path, required=True, help="folder of life.md, life.png and metrics.json")
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    return run_command(lambda: run(options, shlex.join(["python", "-m", "test.resilience", *words])))


def run(options: argparse.Namespace, command: str) -> str:
    """Run the tests.

    Returns:
        What came of it, in a line.

    Raises:
        LifeError: a test failed or was not run, none was run at all, or pytest could not run them.
    """
    make_folder(options.out)
    seen, start = report.Seen(), time.monotonic()
    code = pytest.main([*map(str, options.tests), "--quiet", "-p", "no:cacheprovider"], plugins=[seen])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise LifeError(f"the tests could not be run ({pytest.ExitCode(code).name.lower()}); what pytest says is above")
    report.write(options.out, command, time.monotonic() - start, seen.rows)
    line = f"{report.summary(seen.rows)} | report {options.out / 'life.md'}"
    found = report.counts(seen.rows)
    if code != pytest.ExitCode.OK or found[report.NOT_RUN]:
        raise LifeError(line)
    if not found[report.PASSED]:
        raise LifeError(f"every test was skipped, so nothing is known: {line}")
    return line


if __name__ == "__main__":
    sys.exit(main())
