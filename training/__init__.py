"""Datasets and training of the networks. Run from the clone; not installed on vehicles."""

import xmodelkd_ros.inference  # noqa: F401  # before ONNX Runtime is imported: it says there why
