"""The command ``xmodelkd``."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from xmodelkd_ros.console import exit_code
from xmodelkd_ros.tools.commands import (
    benchmark,
    build_engine,
    doctor,
    endurance,
    evaluate,
    faults,
    fit_cameras,
    fit_sensor,
    load,
    recover,
    replay,
)

_COMMANDS = (
    evaluate,
    replay,
    faults,
    load,
    endurance,
    benchmark,
    build_engine,
    fit_sensor,
    fit_cameras,
    recover,
    doctor,
)
_BY_SIGNAL = 128
"""Exit code after a signal, less its number, by the convention of shells."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return the exit code: 0 on success only."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = _parser().parse_args(arguments)
    args.command = shlex.join(["xmodelkd", *arguments])
    if threading.current_thread() is threading.main_thread():
        # Raises, so that child processes are stopped and temporary files deleted.
        signal.signal(signal.SIGTERM, _terminate)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # it is ignored under nohup
            signal.signal(signal.SIGHUP, _terminate)
    return exit_code(lambda: args.run(args))


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_BY_SIGNAL + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "xmodelkd",
        allow_abbrev=False,
        description="Run and measure segmentation models on bags, fit sensors, check an installation.",
    )
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
