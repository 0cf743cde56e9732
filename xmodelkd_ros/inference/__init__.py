"""Inference back ends: run network files, independent of points, labels and messages.

Telemetry is disabled here: ONNX Runtime (from 1.32 on) and OpenVINO report their use over the internet unless this is
switched off before they are imported.
"""

import os
import sys

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # OpenVINO then uses its own stub
