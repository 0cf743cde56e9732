"""Measure which CPU library runs a model fastest on this machine, in a process of its own.

    python -m xmodelkd_ros.segmentation.compare_backends MODEL PRECISION [PARENT]

prints one line of JSON: the back end and the reason. It exits when the process PARENT does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from xmodelkd_ros.console import run_command
from xmodelkd_ros.core.child_process import exit_when_parent_dies
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.inference.backend import MIN_EQUAL_IN_INT8, MIN_EQUAL_LABELS
from xmodelkd_ros.segmentation.backend_selection import measure
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


def main(arguments: list[str]) -> int:
    """Measure and print the result; returns the exit code."""
    model, precision = Path(arguments[0]), arguments[1]
    for parent in arguments[2:]:
        exit_when_parent_dies(int(parent))
    min_equal = MIN_EQUAL_IN_INT8 if precision == "int8" else MIN_EQUAL_LABELS

    def compare() -> str:
        cameras = ModelSpec.read(model).cameras
        choice = measure(lambda library: SegmentationPipeline.load(model, library, precision), cameras, min_equal)
        return json.dumps(choice._asdict())

    return run_command(compare)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
