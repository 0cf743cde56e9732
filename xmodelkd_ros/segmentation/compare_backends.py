"""Which library runs a model fastest here, as a program of its own.

    python -m xmodelkd_ros.segmentation.compare_backends MODEL PRECISION [PARENT]

prints one line of JSON: the back end, and the reason. It ends with the process PARENT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.core.model_spec import ModelSpec
from xmodelkd_ros.inference.backend import MIN_EQUAL_IN_INT8, MIN_EQUAL_LABELS
from xmodelkd_ros.inference.child_process import exit_with_parent
from xmodelkd_ros.segmentation.backend_selection import measure
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


def main(arguments: list[str]) -> int:
    """Compare and print; the exit code."""
    model, precision = Path(arguments[0]), arguments[1]
    for parent in arguments[2:]:
        exit_with_parent(int(parent))
    least = MIN_EQUAL_IN_INT8 if precision == "int8" else MIN_EQUAL_LABELS
    try:
        cameras = ModelSpec.read(model).cameras
        found = measure(lambda library: SegmentationPipeline.load(model, library, precision), cameras, least)
    except XModelKDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
