"""Running network files. Nothing here knows of points, labels or messages.

What runs on a vehicle sends nothing to those who made its libraries: ONNX Runtime (from 1.32 on) and OpenVINO report
each use over the internet unless told otherwise before they are imported.
"""

import os
import sys

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # OpenVINO then takes a stub of its own
