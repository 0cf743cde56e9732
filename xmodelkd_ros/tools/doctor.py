"""``xmodelkd doctor``: checks whether the node and the tools can run here, with advice on performance.

It imports the parts of the package only in the checks that need them, so that it reports libraries that are missing.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

from xmodelkd_ros.console import failed_import, import_advice
from xmodelkd_ros.core.errors import XModelKDError, one_line

State = Literal["ok", "missing", "advice"]

_MIN_PYTHON = (3, 10)
_SLOW_MS = 20.0
_MIN_SHM_MB = 256
"""Each participant with the shipped profile maps 32 MB; Docker provides 64 MB in total by default."""
_CACHE_BYTES = 2**20
"""Size of the file that tests for free space."""
_ROS = ("rclpy", *(f"{name}_msgs.msg" for name in ("sensor", "std", "diagnostic", "lifecycle", "rosgraph")))
"""Modules of ROS that the node cannot do without."""
_OPTIONAL = (
    ("rosbags", "bags"),
    ("rosbags.image", "raw camera images"),
    ("cv2", "camera images"),
    ("yaml", "parameter files"),
    ("matplotlib", "reports"),
    ("tqdm", "progress bars"),
    ("onnx", "the GFLOP in benchmark"),
)
"""Modules that the node can do without, and what needs them."""


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        name: what was checked.
        state: ``missing`` if the node cannot run; ``advice`` if it would run better otherwise.
        text: finding and advice.
    """

    name: str
    state: State
    text: str


def doctor(model: str = "student") -> int:
    """Check the installation and print a table; returns the exit code: 0 if the node can run."""
    checks: dict[str, Callable[[], Check]] = {
        "python": _python,
        "numpy": _numpy,
        "onnxruntime": _onnxruntime,
        "rclpy": _rclpy,
        "gpu": _gpu,
        "dds profile": _profile,
        "shared memory": _shared_memory,
        "cores": _cores,
        "cache folder": _cache,
        "model": partial(_model, model),
        **{module: partial(_optional, module, purpose) for module, purpose in _OPTIONAL},
        "round trip": _round_trip,
    }
    width = max(map(len, checks)) + 2
    missing = []
    for name, function in checks.items():
        if name == "round trip" and "rclpy" in missing:
            continue
        check = _checked(name, function)
        print(f"{name:<{width}}{check.state:<9}{check.text}", flush=True)
        missing += [name] if check.state == "missing" else []
    print(f"the node cannot run: {', '.join(missing)}" if missing else "the node can run")
    return 1 if missing else 0


def _checked(name: str, function: Callable[[], Check]) -> Check:
    """Result of a check; one that fails for lack of a library is not the last word on what it checks."""
    try:
        return function()
    except Exception as error:
        library = failed_import(error)
        problem = (
            f"{library} {import_advice(library, error)}" if library else f"{type(error).__name__}: {one_line(error)}"
        )
        return Check(name, "missing" if name == "model" else "advice", f"not checked: {problem}")


def _import(module: str) -> str:
    """Import a module and return why it cannot be imported, with advice; empty if it can."""
    try:
        # NumPy and OpenCV explain at length what a library that cannot be imported lacks.
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            importlib.import_module(module)
    except (Exception, SystemExit) as error:  # damaged installations raise anything
        library = failed_import(error) if isinstance(error, ImportError) else module
        return import_advice(library or module, error)
    return ""


def _python() -> Check:
    version = ".".join(str(n) for n in sys.version_info[:3])
    if sys.version_info[:2] < _MIN_PYTHON:
        return Check("python", "missing", f"{version}; needs {_MIN_PYTHON[0]}.{_MIN_PYTHON[1]} or later")
    return Check("python", "ok", version)


def _numpy() -> Check:
    problem = _import("numpy")
    return Check("numpy", "missing" if problem else "ok", problem or _version("numpy"))


def _onnxruntime() -> Check:
    # Switches off its telemetry.
    problem = _import("xmodelkd_ros.inference") or _import("onnxruntime")
    if not problem:
        return Check("onnxruntime", "ok", _version("onnxruntime"))
    if _import("openvino"):
        return Check("onnxruntime", "missing", problem)
    return Check("onnxruntime", "advice", f"{problem}; openvino cannot be verified without it")


def _gpu() -> Check:
    from xmodelkd_ros.inference.gpu import find_gpu
    from xmodelkd_ros.inference.tensorrt import installed_version

    gpu = find_gpu()
    if gpu is None:
        return Check("gpu", "ok", "none: networks run on the CPU")
    try:
        return Check("gpu", "ok", f"{gpu.name}, {installed_version()}")
    except XModelKDError as error:
        return Check("gpu", "advice", f"{gpu.name} is not used: {error}")


def _rclpy() -> Check:
    for module in _ROS:
        if problem := _import(module):
            return Check("rclpy", "missing", f"{module} {problem}")
    rmw = os.environ.get("RMW_IMPLEMENTATION", "the default RMW")
    return Check("rclpy", "ok", f"{_version('rclpy')}, {rmw}")


def _profile() -> Check:
    from xmodelkd_ros.harness.dds_profile import profile_variable, shipped_profile, user_profile

    profile = user_profile(os.environ)
    if profile is None:
        setting = f"{profile_variable(os.environ)}={shipped_profile()}"
        return Check("dds profile", "advice", f"not set; for faster transport of large clouds: export {setting}")
    if not Path(profile).is_file():
        return Check("dds profile", "advice", f"{profile_variable(os.environ)} names {profile}, which does not exist")
    return Check("dds profile", "ok", profile)


def _shared_memory() -> Check:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return Check("shared memory", "advice", "no /dev/shm: clouds are sent by UDP, which is slower")
    free = shutil.disk_usage(shm).free // 2**20
    if free < _MIN_SHM_MB:
        return Check(
            "shared memory", "advice", f"{free} MB free in /dev/shm; in Docker use --shm-size=512m or --ipc=host"
        )
    return Check("shared memory", "ok", f"{free} MB free")


def _cores() -> Check:
    from xmodelkd_ros.inference.cpu import cores, cpu_quota

    count, quota = cores(), cpu_quota()
    text = str(count) if math.isinf(quota) else f"{count} (CPU quota of the control group: {quota:g})"
    if count < 2:
        return Check("cores", "advice", f"{text}; 10 Hz needs 2")
    return Check("cores", "ok", text)


def _cache() -> Check:
    from xmodelkd_ros.inference.engine_cache import default_folder

    folder = default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_CACHE_BYTES))
    except OSError as error:
        effect = "back ends are compared at every start, and TensorRT engines cannot be built"
        return Check(
            "cache folder", "advice", f"cannot write to {folder}: {error.strerror}: {effect}; set engine_cache_dir"
        )
    return Check("cache folder", "ok", str(folder))


def _model(name: str) -> Check:
    from xmodelkd_ros.resources import find_model
    from xmodelkd_ros.segmentation.backend_selection import select_backend
    from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

    try:
        folder = find_model(name)
        choice = select_backend(folder)
        pipeline = SegmentationPipeline.load(folder, choice.backend)
    except XModelKDError as error:
        return Check("model", "missing", str(error))
    backend = pipeline.backend
    return Check("model", "ok", f"{folder}: verified, {backend.name} {backend.precision} ({choice.reason})")


def _optional(module: str, purpose: str) -> Check:
    problem = _import(module)
    if problem:
        return Check(module, "advice", f"{problem}; it is for {purpose}")
    return Check(module, "ok", _version(module))


def _version(module: str) -> str:
    """Version of an importable module."""
    try:
        return metadata.version(module.replace(".", "-"))
    except metadata.PackageNotFoundError:  # the distribution has another name, or none
        return str(getattr(importlib.import_module(module), "__version__", "installed"))


def _round_trip() -> Check:
    """Send clouds of 2 MB from one process to another."""
    from xmodelkd_ros.tools import doctor_round_trip

    try:
        times_ms = doctor_round_trip.transport_times()
    except XModelKDError as error:
        return Check("round trip", "missing", str(error))
    median, size = statistics.median(times_ms), doctor_round_trip.SIZE
    if median > _SLOW_MS:
        return Check("round trip", "advice", f"{size}, {median:.1f} ms each; try another DDS profile or RMW")
    return Check("round trip", "ok", f"{size}, {median:.1f} ms each")
