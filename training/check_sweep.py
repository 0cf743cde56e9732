"""Store the sweep for parity checks: ``python -m training.check_sweep PANDASET_SEQUENCE OUT.npz``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from training.datasets.pandaset import PandaSetSequence
from training.models.image_branch import IMAGE_SIZE
from xmodelkd_ros.console import run_command
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.segmentation.image_features import resized
from xmodelkd_ros.segmentation.parity_sweep import write_parity_sweep

_FRAME = 20
_QUALITY = 85


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser("python -m training.check_sweep", description="Store the sweep for parity checks.")
    parser.add_argument("sequence", type=Path, metavar="PANDASET_SEQUENCE")
    parser.add_argument("out", type=Path, metavar="OUT.npz")
    options = parser.parse_args(arguments)

    def work() -> str:
        sequence = PandaSetSequence(options.sequence)
        images = [_resized(image.camera, image.pixels()) for image in sequence.images(_FRAME)]
        write_parity_sweep(options.out, sequence.cloud(_FRAME), images)
        return f"written: {options.out}"

    return run_command(work)


def _resized(camera: CameraModel, pixels: np.ndarray) -> tuple[CameraModel, bytes]:
    """A camera and its image, resized to the input of the image branch."""
    height, width = IMAGE_SIZE
    scale = np.array([width / camera.width, height / camera.height, 1.0])
    # The centre of the first pixel is (0, 0) in both sizes.
    intrinsic = camera.intrinsic * scale[:, None]
    intrinsic[:2, 2] += 0.5 * (scale[:2] - 1)
    jpeg = cv2.imencode(".jpg", resized(pixels, IMAGE_SIZE)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return replace(camera, width=width, height=height, intrinsic=intrinsic), jpeg.tobytes()


if __name__ == "__main__":
    sys.exit(main())
