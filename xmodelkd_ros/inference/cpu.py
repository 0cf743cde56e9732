"""CPU properties: available cores, name and measured peak."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from time import perf_counter

import numpy as np

_GEMM_SIZE = 2048


def cores() -> int:
    """Number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Model name of the CPU, or its architecture if unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def gemm_peak_gflops(size: int = _GEMM_SIZE, repeats: int = 5) -> float:
    """Peak float32 GFLOP/s of numpy's matrix product, best of several runs."""
    a, b = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    seconds = []
    for _ in range(repeats + 1):
        start = perf_counter()
        a @ b
        seconds.append(perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9
