"""Datasets and training of the networks. Run from the clone; not installed on vehicles."""

import xmodelkd_ros.inference  # before ONNX Runtime is imported: it says there why
import xmodelkd_ros.opencv  # noqa: F401  # and before OpenCV is
