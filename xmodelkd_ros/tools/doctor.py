"""``xmodelkd doctor``: checks whether the node and the tools can run here, with advice on performance."""

from __future__ import annotations

import math
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, ROSBAGS_TYPES, message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.harness.dds_profile import profile_variable, shipped_profile, user_profile
from xmodelkd_ros.harness.processes import Program, dds_environment, wait_for
from xmodelkd_ros.harness.sweep_log import SweepLogReader
from xmodelkd_ros.inference.cpu import cores, cpu_quota
from xmodelkd_ros.inference.engine_cache import default_folder
from xmodelkd_ros.inference.gpu import find_gpu
from xmodelkd_ros.inference.tensorrt import installed_version
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.messages.headers import stamp_from_ns
from xmodelkd_ros.resources import find_model
from xmodelkd_ros.segmentation.backend_selection import select_backend
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

State = Literal["ok", "missing", "advice"]

_TOPIC = "/xmodelkd_doctor/points"
_CLOUDS, _RATE_HZ, _POINTS = 10, 10, 100_000
_POINT_BYTES = 20
_MIN_PYTHON = (3, 10)
_SLOW_MS = 20.0
_ROUND_TRIP_S = 40.0
_MIN_SHM_MB = 256
"""Each participant with the shipped profile maps 32 MB; Docker provides 64 MB in total by default."""
_CACHE_BYTES = 2**20
"""Size of the file that tests for free space."""
_OPTIONAL = (
    ("rosbags.image", "rosbags-image[opencv]", "camera images in reports"),
    ("matplotlib", "matplotlib", "reports"),
    ("onnx", "onnx", "GFLOP in benchmark"),
)


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
    checks: list[Check] = []
    machine = (_python, _numpy, _onnxruntime, _rclpy, _gpu, _profile, _shared_memory, _cores, _cache)
    packages = [partial(_optional, *row) for row in _OPTIONAL]
    functions: list[Callable[[], Check]] = [*machine, partial(_model, model), *packages]
    for function in functions:
        checks.append(function())
        _print(checks[-1])
    if not any(check.name == "rclpy" and check.state == "missing" for check in checks):
        checks.append(_round_trip())
        _print(checks[-1])
    missing = [c.name for c in checks if c.state == "missing"]
    print(f"the node cannot run: {', '.join(missing)}" if missing else "the node can run")
    return 1 if missing else 0


def _print(check: Check) -> None:
    print(f"{check.name:<16}{check.state:<9}{check.text}", flush=True)


def _python() -> Check:
    version = ".".join(str(n) for n in sys.version_info[:3])
    if sys.version_info[:2] < _MIN_PYTHON:
        return Check("python", "missing", f"{version}; needs {_MIN_PYTHON[0]}.{_MIN_PYTHON[1]} or later")
    return Check("python", "ok", version)


def _numpy() -> Check:
    return Check("numpy", "ok", np.__version__)


def _onnxruntime() -> Check:
    version = _version("onnxruntime")
    if version is None and _version("openvino") is not None:
        return Check("onnxruntime", "advice", "cannot verify openvino without it; run 'pip install onnxruntime'")
    if version is None:
        return Check("onnxruntime", "missing", "run 'pip install onnxruntime'")
    return Check("onnxruntime", "ok", version)


def _gpu() -> Check:
    gpu = find_gpu()
    if gpu is None:
        return Check("gpu", "ok", "none: networks run on the CPU")
    try:
        return Check("gpu", "ok", f"{gpu.name}, {installed_version()}")
    except XModelKDError as error:
        return Check("gpu", "advice", f"{gpu.name} is not used: {error}")


def _rclpy() -> Check:
    if find_spec("rclpy") is None:
        return Check("rclpy", "missing", "source a ROS 2 installation, or run 'pip install xmodelkd_ros[ros-pip]'")
    rmw = os.environ.get("RMW_IMPLEMENTATION", "the default RMW")
    return Check("rclpy", "ok", f"{_version('rclpy') or 'from the ROS installation'}, {rmw}")


def _profile() -> Check:
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
    count, quota = cores(), cpu_quota()
    text = str(count) if math.isinf(quota) else f"{count} (CPU quota of the control group: {quota:g})"
    if count < 2:
        return Check("cores", "advice", f"{text}; 10 Hz needs 2")
    return Check("cores", "ok", text)


def _cache() -> Check:
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
    try:
        folder = find_model(name)
        choice = select_backend(folder)
        pipeline = SegmentationPipeline.load(folder, choice.backend)
    except XModelKDError as error:
        return Check("model", "missing", str(error))
    backend = pipeline.backend
    return Check("model", "ok", f"{folder}: verified, {backend.name} {backend.precision} ({choice.reason})")


def _optional(module: str, distribution: str, purpose: str) -> Check:
    version = _version(distribution)
    if version is None and find_spec(module) is None:
        return Check(distribution, "advice", f"not installed; for {purpose}: pip install {distribution}")
    return Check(distribution, "ok", version or "installed")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _round_trip() -> Check:
    """Send clouds of 2 MB from one process to another."""
    size = f"{_CLOUDS} clouds of {_POINTS * _POINT_BYTES / 1e6:.0f} MB"
    try:
        with tempfile.TemporaryDirectory() as folder:
            times_ms = _send_clouds(Path(folder))
    except XModelKDError as error:
        return Check("round trip", "missing", str(error))
    median = statistics.median(times_ms)
    if median > _SLOW_MS:
        return Check("round trip", "advice", f"{size}, {median:.1f} ms each; try another DDS profile or RMW")
    return Check("round trip", "ok", f"{size}, {median:.1f} ms each")


def _send_clouds(folder: Path) -> list[float]:
    """Transport latency of each cloud in milliseconds."""
    env = dds_environment()
    sent, received = SweepLogReader(folder / "sent.jsonl"), SweepLogReader(folder / "received.jsonl")
    _write_bag(folder / "clouds.mcap")
    play = [str(folder / "clouds.mcap"), "--wait-for-subscribers", f"{_TOPIC}:1", "--log", str(sent.path)]
    record = ["--topics", _TOPIC, "--log", str(received.path)]
    with (
        Program("harness.recorder", record, env, folder / "recorder.log") as recorder,
        Program("harness.bag_player", play, env, folder / "player.log") as player,
    ):
        wait_for(lambda: len(received.clouds(_TOPIC)) >= _CLOUDS, [player, recorder], _ROUND_TRIP_S, "the round trip")
    at_start = sent.clouds(_TOPIC)
    return [(end - at_start[key]) / 1e6 for key, end in received.clouds(_TOPIC).items()]


def _write_bag(path: Path) -> None:
    cloud = PointCloud(np.zeros((_POINTS, 3), np.float32), np.zeros(_POINTS, np.float32))
    label = np.zeros(_POINTS, np.uint8)
    time_type, header_type = message_class("builtin_interfaces/msg/Time"), message_class("std_msgs/msg/Header")
    with BagWriter(path) as writer:
        writer.add_topic(_TOPIC, POINT_CLOUD_TYPE)
        for i in range(_CLOUDS):
            stamp_ns = (i + 1) * 1_000_000_000 // _RATE_HZ
            header = header_type(stamp_from_ns(stamp_ns, time_type), "lidar")
            writer.write(_TOPIC, stamp_ns, truth_to_msg(cloud, label, header, ROSBAGS_TYPES))
