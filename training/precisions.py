"""An exported model in further precisions: 16 bits for GPUs, 8 bits for CPUs, each kept if it does as well.

    python -m training.precisions MODEL [--precisions fp16 int8]

adds them to a model folder, or makes them anew; an export does so by itself.
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
from training.modules.checkpoint import read_checkpoint
from xmodelkd_ros.console import run_command
from xmodelkd_ros.core.atomic_write import atomic_dir
from xmodelkd_ros.core.model_spec import ModelSpec


def add_to(model: Path, wanted: Sequence[str]) -> ModelSpec:
    """Give a model that is exported already further precisions, or make them anew; it is replaced when all is done.

    Args:
        model: its folder.
        wanted: of :data:`PRECISIONS`.

    Raises:
        ConfigError: the folder holds no model of ours, or its training data are not there.
        ModelError: the model's files do not belong together.
    """
    config = read_checkpoint(model).config
    spec = _without(ModelSpec.read(model), wanted)
    images = spec.image_branch is not None
    sources = [load_source(source, "validation", images, config.label_set) for source in config.data.validation]
    with atomic_dir(model) as folder:
        shutil.copytree(
            model, folder, ignore=shutil.ignore_patterns(*(f"*.{name}.onnx" for name in wanted)), dirs_exist_ok=True
        )
        command = f"python -m training.precisions {model} --precisions {' '.join(wanted)}"
        spec = add_precisions(spec, folder, config.data, sources, command, wanted)
        spec.write(folder)
    return spec


def _without(spec: ModelSpec, precisions: Sequence[str]) -> ModelSpec:
    """The model as if it had never had some precisions."""

    def others(table: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in table.items() if name not in precisions}

    branch = spec.image_branch
    branch = None if branch is None else replace(branch, files=others(branch.files))
    return replace(spec, files=others(spec.files), image_branch=branch, metrics=others(spec.metrics))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser("python -m training.precisions", description="Add precisions to a model folder.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="model folder")
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="(default: %(default)s)"
    )
    options = parser.parse_args(argv)
    return run_command(lambda: f"{options.model}: {', '.join(add_to(options.model, options.precisions).files)}")


if __name__ == "__main__":
    sys.exit(main())
