"""Add fp16 networks for GPUs and int8 networks for CPUs to a model folder, each if it passes its check.

    python -m training.precisions MODEL [--precisions fp16 int8]

Networks that exist already are written again. ``training.export`` adds both by itself.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.data.sources import load_source
from training.deploy.reduced_precision import PRECISIONS, add_precisions
from training.modules.checkpoint import model_or_run, read_checkpoint
from xmodelkd_ros.console import run_command
from xmodelkd_ros.core.atomic_write import atomic_dir
from xmodelkd_ros.core.model_spec import ModelSpec


def add_to(model: Path, precisions: Sequence[str]) -> ModelSpec:
    """Write the networks of some precisions to an exported model; the folder is replaced atomically.

    Raises:
        ConfigError: the folder holds no model of this project, or its training data are missing.
        ModelError: the model's files do not belong together.
    """
    config = read_checkpoint(model).config
    spec = _without(ModelSpec.read(model), precisions)
    images = spec.image_branch is not None
    sources = [load_source(source, "validation", images, config.label_set) for source in config.data.validation]
    with atomic_dir(model) as folder:
        shutil.copytree(
            model, folder, ignore=shutil.ignore_patterns(*(f"*.{name}.onnx" for name in precisions)), dirs_exist_ok=True
        )
        command = f"python -m training.precisions {model} --precisions {' '.join(precisions)}"
        spec = add_precisions(spec, folder, config.data, sources, command, precisions)
        spec.write(folder)
    return spec


def _without(spec: ModelSpec, precisions: Sequence[str]) -> ModelSpec:
    """The model without some precisions."""

    def remaining(table: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in table.items() if name not in precisions}

    branch = spec.image_branch
    branch = None if branch is None else replace(branch, files=remaining(branch.files))
    return replace(spec, files=remaining(spec.files), image_branch=branch, metrics=remaining(spec.metrics))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser("python -m training.precisions", description="Add precisions to a model folder.")
    parser.add_argument("model", metavar="MODEL", help="model folder, or name of a shipped model")
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="precisions to add (default: all)"
    )
    options = parser.parse_args(argv)

    def work() -> str:
        folder = model_or_run(options.model)
        return f"{folder}: {', '.join(add_to(folder, options.precisions).files)}"

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
