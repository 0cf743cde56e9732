"""Datasets, training and export of the networks. Runs from the clone; not installed on vehicles."""

import xmodelkd_ros.inference  # must precede ONNX Runtime; see its docstring
import xmodelkd_ros.opencv  # noqa: F401  # must precede OpenCV
from xmodelkd_ros.resources import prefer_source_tree

prefer_source_tree()
