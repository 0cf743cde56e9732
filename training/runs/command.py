"""Command line of the training programs."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from training.runs.trainer import Config
from xmodelkd_ros.console import run_command


def training_command(
    arguments: Sequence[str] | None,
    name: str,
    network: str,
    kind: type[Config],
    train: Callable[[Config], Path],
    next_step: str,
) -> int:
    """Run a training program that takes a configuration file and overrides; returns the exit code.

    Args:
        arguments: the command line arguments.
        name: of the program's module.
        network: what it trains, for its help.
        kind: class of its configuration.
        train: trains, and returns the run's folder.
        next_step: advice for the finished run; ``{run}`` stands for its folder.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=f"Train {network}.")
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="configuration of the run")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings that override the file")
    options = parser.parse_args(arguments)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

    def work() -> str:
        run = train(kind.read(options.config, options.overrides))
        return f"trained: {run}; {next_step.format(run=run)}"

    return run_command(work)
