"""Export a training run: ``python -m training.export RUN OUT_DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.config.label_sets import scored_labels
from training.deploy.image_network import export_image_branch
from training.deploy.model_folder import export, export_class_teacher
from training.image_network.reader import ImageClassReader
from training.modules.checkpoint import read_checkpoint, read_run
from training.modules.image_module import is_image_branch
from xmodelkd_ros.console import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.export",
        description="Export a training run: students and teachers to model folders, image branches to image networks.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the training run")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="folder to write or replace")
    options = parser.parse_args(argv)
    return run_command(lambda: _export(options.run, options.out))


def _export(run: Path, out: Path) -> str:
    state = read_run(run)
    if is_image_branch(state):
        network = export_image_branch(state, out)
        return f"{out}: image network {network.config.name}, {len(network.classes)} classes"
    trained = read_checkpoint(run)
    if isinstance(trained.reader, ImageClassReader):
        export_class_teacher(trained, out)
        return f"{out}: teacher of classes {trained.config.name}, for training.adapt --images-by"
    spec = export(run, out)
    check = spec.metrics["parity"]
    scores = ", ".join(f"{s['miou']:.3f} on {s['data']}" for s in spec.metrics["choose"])
    return (
        f"{out}: equal labels {100 * check['equal_labels']:.3f} %, "
        f"largest logit difference {check['largest_logit_difference']:.2e}, temperature {spec.temperature}, "
        f"mIoU ({scored_labels(spec.labels.name)}) {scores}"
    )


if __name__ == "__main__":
    sys.exit(main())
