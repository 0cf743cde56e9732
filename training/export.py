"""Export a training run to a model folder: ``python -m training.export RUN OUT_DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.config.label_sets import scored_labels
from training.deploy.model_folder import export
from xmodelkd_ros.console import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser(
        "python -m training.export", description="Export a training run to a model folder."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the training run")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="model folder to write or replace")
    options = parser.parse_args(argv)

    def work() -> str:
        spec = export(options.run, options.out)
        check = spec.metrics["parity"]
        scores = ", ".join(f"{s['miou']:.3f} on {s['data']}" for s in spec.metrics["choose"])
        return (
            f"{options.out}: equal labels {100 * check['equal_labels']:.3f} %, "
            f"largest logit difference {check['largest_logit_difference']:.2e}, temperature {spec.temperature}, "
            f"mIoU ({scored_labels(spec.labels.name)}) {scores}"
        )

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
