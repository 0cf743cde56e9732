"""The command line of a training."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from training.runs.trainer import _Config
from xmodelkd_ros.console import run_command


def training_command(
    arguments: Sequence[str] | None,
    name: str,
    what: str,
    kind: type[_Config],
    train: Callable[[_Config], Path],
    following: str,
) -> int:
    """The command line of a training program: a configuration file, and overrides.

    Args:
        arguments: of the command line.
        name: of the module.
        what: what it trains, for its help.
        kind: of configuration.
        train: trains, and returns the run's folder.
        following: what to do with the run, ``{run}`` standing for its folder.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=f"Train {what}.")
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

    def work() -> str:
        run = train(kind.read(options.config, options.overrides))
        return f"trained: {run}; {following.format(run=run)}"

    return run_command(work)
