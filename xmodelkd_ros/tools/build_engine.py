"""``xmodelkd build-engine``: builds the TensorRT engines of a model before the node needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.resources import find_model
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


def build_engine(model: str, precision: str = "auto", folder: Path | None = None) -> None:
    """Build missing engines and check their numerical agreement with ONNX Runtime on a stored sweep.

    Raises:
        XModelKDError: the model cannot be used, GPU or TensorRT are missing, or the labels of the engine differ.
    """
    on_terminal = sys.stderr.isatty()

    def on_progress(line: str) -> None:
        if on_terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    engines, start = EngineCache(folder, on_progress), perf_counter()
    pipeline = SegmentationPipeline.load(find_model(model), "tensorrt", precision, engines=engines)
    if on_terminal:
        print("\r\033[K", end="", file=sys.stderr)
    print(f"{model}, {pipeline.backend.precision}: ready after {perf_counter() - start:.1f} s in {engines.folder}")
