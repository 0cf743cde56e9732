"""Add the statistics of its training data to a model folder: ``python -m training.statistics MODEL``.

The node and the tools compare drives with them. The networks do not change. ``training.export`` adds them by itself.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from training.deploy.parity import load_pipeline
from training.deploy.statistics import training_statistics
from training.modules.checkpoint import model_or_run, read_checkpoint
from xmodelkd_ros.console import run_command
from xmodelkd_ros.core.atomic_write import atomic_dir
from xmodelkd_ros.core.model_spec import ModelSpec


def add_to(model: Path) -> ModelSpec:
    """Compute the statistics of an exported model again; the folder is replaced atomically.

    Raises:
        ConfigError: the folder holds no model of this project, or its training data are missing.
        ModelError: the model's files do not belong together.
    """
    config, spec = read_checkpoint(model).config, ModelSpec.read(model)
    pipeline = load_pipeline(spec, model, "fp32")
    spec = replace(
        spec, statistics=training_statistics(pipeline, config.data, f"python -m training.statistics {model}")
    )
    with atomic_dir(model) as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        spec.write(folder)
    return spec


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.statistics", description="Add the statistics of its training data to a model folder."
    )
    parser.add_argument("model", metavar="MODEL", help="model folder, or name of a shipped model")
    options = parser.parse_args(argv)

    def work() -> str:
        folder = model_or_run(options.model)
        statistics = add_to(folder).statistics
        assert statistics is not None
        return f"{folder}: {len(statistics.quantiles)} statistics of {statistics.sweeps} sweeps"

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
