"""Compare the inference time of ONNX networks, of this project or others.

    python -m training.time_networks models/student/model.onnx other.onnx [--backend onnxruntime openvino] [--runs 30]

All networks are loaded at once and run in turns on random inputs, so that other load on the machine affects all
equally. A network must have inputs of fixed sizes in float32 or int32.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.console import positive_int, run_command
from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.inference.backend import Backend
from xmodelkd_ros.inference.cpu import gemm_peak_gflops
from xmodelkd_ros.inference.network_cost import gflop
from xmodelkd_ros.inference.onnxruntime import OnnxRuntimeBackend
from xmodelkd_ros.inference.openvino import OpenVinoBackend
from xmodelkd_ros.reports.markdown import markdown_table

_BACKENDS: dict[str, Callable[[Path, str], Backend]] = {"onnxruntime": OnnxRuntimeBackend, "openvino": OpenVinoBackend}
_WARM_UP = 3


def noise(backend: Backend) -> dict[str, NDArray[Any]]:
    """Random inputs for a network; integers, which may be indices, are 0.

    Raises:
        BackendError: a size is not fixed, or a type is neither float32 nor int32.
    """
    rng = np.random.default_rng(0)
    for tensor in backend.inputs:
        if any(n < 1 for n in tensor.shape) or tensor.dtype not in ("float32", "int32"):
            raise BackendError(f"cannot generate input {tensor}; export the network with fixed sizes and in float32")
    return {
        tensor.name: (
            rng.standard_normal(tensor.shape).astype(np.float32)
            if tensor.dtype == "float32"
            else np.zeros(tensor.shape, np.int32)
        )
        for tensor in backend.inputs
    }


def times_ms(networks: Mapping[str, Backend], runs: int) -> dict[str, list[float]]:
    """Times of each run of each network in milliseconds, run in turns."""
    inputs = {name: noise(network) for name, network in networks.items()}
    times: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(-_WARM_UP, runs):
        for name, network in networks.items():
            start = perf_counter()
            network.infer(inputs[name])
            if turn >= 0:
                times[name].append((perf_counter() - start) * 1e3)
    return times


def table(paths: Sequence[Path], backends: Sequence[str], runs: int) -> str:
    """A Markdown table of times, relative to the first network.

    Raises:
        BackendError: a network cannot be loaded or run.
    """
    rows = list(dict.fromkeys((path, backend) for path in paths for backend in backends))
    networks = {f"{path} {backend}": _BACKENDS[backend](path, "fp32") for path, backend in rows}
    times, peak = times_ms(networks, runs), gemm_peak_gflops()
    first = float(np.median(next(iter(times.values()))))
    head = ("network", "library", "GFLOP", "p50, ms", "p99, ms", "GFLOP/s", "share of GEMM peak", "times the first")
    lines = []
    for (path, backend), samples in zip(rows, times.values(), strict=True):
        p50, p99 = np.percentile(samples, [50, 99])
        flop = gflop(path)
        rate = None if flop is None else flop / (p50 / 1e3)
        speed = ("?", "?") if rate is None else (f"{rate:.0f}", f"{rate / peak:.0%}")
        size = "?" if flop is None else f"{flop:.1f}"
        name = f"{path.parent.name}/{path.stem}"
        lines.append((name, backend, size, f"{p50:.1f}", f"{p99:.1f}", *speed, f"{p50 / first:.1f}"))
    return f"GEMM peak of this machine (numpy, float32): {peak:.0f} GFLOP/s\n\n{markdown_table(head, lines)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser("python -m training.time_networks", description="Compare inference times.")
    parser.add_argument(
        "networks", nargs="+", type=Path, metavar="FILE.onnx", help="networks; the first one is the reference"
    )
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=sorted(_BACKENDS),
        default=["onnxruntime"],
        help="inference libraries (default: onnxruntime)",
    )
    parser.add_argument(
        "--runs", type=positive_int, metavar="N", default=30, help="runs of each network (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    return run_command(lambda: table(options.networks, options.backend, options.runs))


if __name__ == "__main__":
    sys.exit(main())
