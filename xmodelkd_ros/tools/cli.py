"""The command ``xmodelkd``."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from types import FrameType

from xmodelkd_ros.console import exit_code
from xmodelkd_ros.core.similar_names import nearest_name
from xmodelkd_ros.tools.commands import (
    benchmark,
    build_engine,
    doctor,
    endurance,
    evaluate,
    faults,
    fit_cameras,
    fit_sensor,
    label,
    load,
    recover,
    replay,
    view,
)

_COMMANDS = (
    evaluate,
    replay,
    label,
    view,
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
    parser, subcommands = _parser()
    _reject_misspelt_option(subcommands, arguments)
    args = parser.parse_args(arguments)
    args.command = shlex.join(["xmodelkd", *arguments])
    if threading.current_thread() is threading.main_thread():
        # Raises, so that child processes are stopped and temporary files deleted.
        signal.signal(signal.SIGTERM, _terminate)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # it is ignored under nohup
            signal.signal(signal.SIGHUP, _terminate)
    return exit_code(lambda: args.run(args))


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_BY_SIGNAL + number)


def _reject_misspelt_option(subcommands: Mapping[str, argparse.ArgumentParser], arguments: Sequence[str]) -> None:
    """End with the nearest option; argparse would only complain of a required option that is then missing."""
    parser = subcommands.get(arguments[0]) if arguments else None
    if parser is None:
        return
    options = parser._option_string_actions
    for given in (word.partition("=")[0] for word in arguments if word.startswith("--")):
        nearest = "" if given in options else nearest_name(given, options)
        if nearest:
            parser.error(f"unrecognized option {given}; did you mean {nearest}?")


def _parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser, and those of the subcommands by name."""
    parser = argparse.ArgumentParser(
        "xmodelkd",
        allow_abbrev=False,
        description="Run and measure segmentation models on bags, fit sensors, check an installation.",
    )
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser, commands.choices


if __name__ == "__main__":
    sys.exit(main())
