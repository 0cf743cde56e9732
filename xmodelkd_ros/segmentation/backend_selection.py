"""Selection of the fastest CPU back end whose labels agree with the reference; measured once and cached.

The measurement runs in a child process (``compare_backends.py``), so that a library that is not selected is never
loaded beside the selected one and cannot crash the node.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from xmodelkd_ros.console import print_notes
from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.labels import LabelTranslation
from xmodelkd_ros.core.model_spec import ModelSpec, sha256
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.inference.backend import REFERENCE
from xmodelkd_ros.inference.cpu import cores, cpu_name
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.segmentation.parity_sweep import LogitsPipeline, equal_labels, read_parity_sweep

LIBRARIES = (REFERENCE, "openvino")
"""Candidates; both run on CPUs."""
_RUNS = 4
_TIMEOUT_S = 300.0
_PROGRAM = "xmodelkd_ros.segmentation.compare_backends"
_NETWORK_STAGES = ("images", "infer")


class _Result(Protocol):
    @property
    def stages_ms(self) -> Mapping[str, float]: ...


class _Pipeline(LogitsPipeline, Protocol):
    def segment(
        self, cloud: PointCloud, into: LabelTranslation | None = None, images: Sequence[CameraFrame | None] = ()
    ) -> _Result: ...


Pipeline = TypeVar("Pipeline", bound=_Pipeline)


class BackendChoice(NamedTuple):
    """A concrete back end and the reason for its selection; no reason if the user named it."""

    backend: str
    reason: str


def select_backend(
    model: Path, backend: str = "auto", precision: str = "auto", engines: EngineCache | None = None
) -> BackendChoice:
    """Resolve ``auto`` to the CPU library with the lowest latency on the stored sweep.

    A library that fails to load the model, or whose labels differ from the reference's on too many points, is excluded.
    With a single library installed nothing is measured. A concrete back end is returned as it is, without a reason.

    Args:
        model: the model's folder.
        backend: as in the node's parameter.
        precision: as in the node's parameter.
        engines: its folder caches the measurement; if that cannot be written, every start measures again and the
            reason says so. Its ``on_progress`` receives a line before a measurement, which takes up to five minutes.
            None for the user's cache folder, with a note on stderr.

    Raises:
        ModelError: the folder does not hold a valid model.
    """
    if backend != "auto":
        return BackendChoice(backend, "")
    spec = ModelSpec.read(model)
    engines = engines or EngineCache(on_progress=lambda line: print_notes([f"{line}; up to five minutes, once"]))
    installed = [name for name in LIBRARIES if _is_installed(name)]
    if len(installed) < 2:
        name = installed[0] if installed else REFERENCE  # its loader explains how to install it
        return BackendChoice(name, f"{name} is the only library installed")
    key = [sha256(model / "model.json"), precision, *map(_version, installed), cpu_name(), str(cores())]
    file = engines.folder / f"fastest-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]}.json"
    cached = _read(file)
    if cached is not None and cached.backend in installed:
        return BackendChoice(cached.backend, f"{cached.reason}, measured before")
    # A wrong network file is an error of its own, not of the measurement.
    if (stored := "fp32" if precision == "auto" else precision) in spec.files:
        spec.network_path(model, stored)
    engines.on_progress(f"measuring which library runs {model.name} fastest on this machine: {', '.join(installed)}")
    try:
        measured = _measure_in_child(model, precision)
    except BackendError as error:
        return BackendChoice(REFERENCE, f"{REFERENCE} is the reference, and libraries could not be compared: {error}")
    return BackendChoice(measured.backend, f"{measured.reason}, measured now{_write(file, measured)}")


def _measure_in_child(model: Path, precision: str) -> BackendChoice:
    """The result of :func:`measure` in a child process."""
    command = [sys.executable, "-m", _PROGRAM, str(model), precision, str(os.getpid())]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendError(str(error)) from error
    choice = _parse(process.stdout)
    if process.returncode or choice is None:
        last_line = (process.stderr.strip().splitlines() or ["no output"])[-1]
        raise BackendError(f"exit code {process.returncode}: {last_line}")
    return choice


def measure(load: Callable[[str], Pipeline], cameras: int, min_equal_labels: float) -> BackendChoice:
    """Compare the libraries.

    Args:
        load: loads the model with one of ``LIBRARIES``.
        cameras: number of images that the model takes.
        min_equal_labels: share of points that a library must label as the reference does.

    Raises:
        XModelKDError: as ``load`` raises it for the reference.
    """
    pipelines, excluded = {REFERENCE: load(REFERENCE)}, []
    for name in (name for name in LIBRARIES if name != REFERENCE):
        try:
            pipeline = load(name)
            share = equal_labels(pipeline, pipelines[REFERENCE], cameras)
        except BackendError as error:
            excluded.append(f"{name} not used: {error}")
            continue
        if share < min_equal_labels:
            excluded.append(
                f"{name} not used: same label as {REFERENCE} for only {share:.1%} of a stored sweep's points"
            )
        else:
            pipelines[name] = pipeline
    times = _times_ms(pipelines, cameras)
    ranked = sorted(times, key=lambda name: times[name])
    latencies = [f"{name} {times[name]:.0f} ms a sweep" for name in ranked]
    return BackendChoice(ranked[0], ", ".join([*latencies, *excluded]))


def _times_ms(pipelines: Mapping[str, Pipeline], cameras: int) -> dict[str, float]:
    """Minimum network time of each library; runs alternate, so that other load on the machine affects all alike."""
    cloud, camera_frames = read_parity_sweep(cameras)
    times = dict.fromkeys(pipelines, float("inf"))
    for _ in range(_RUNS):
        for name, pipeline in pipelines.items():
            stages = pipeline.segment(cloud, images=camera_frames).stages_ms
            times[name] = min(times[name], sum(stages.get(stage, 0.0) for stage in _NETWORK_STAGES))
    return times


def _is_installed(name: str) -> bool:
    spec = find_spec(name)
    return spec is not None and spec.origin is not None  # a folder of this name without code has no origin


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:  # the distribution has another name than the module
        return f"{name} {getattr(import_module(name), '__version__', '')}"


def _parse(text: str) -> BackendChoice | None:
    """A choice from its JSON line; None if the text is anything else."""
    try:
        data = parse_json(text)
        return BackendChoice(str(data["backend"]), str(data["reason"]))
    except (ValueError, KeyError, TypeError):
        return None


def _read(file: Path) -> BackendChoice | None:
    try:
        return _parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(file: Path, choice: BackendChoice) -> str:
    """Cache a choice; returns a remark for the reason, empty if the file was written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as unfinished:
            unfinished.write_text(json.dumps(choice._asdict()), encoding="utf-8")
    except OSError as error:
        return f" and at every start: cannot write to {file.parent}: {error.strerror}; set engine_cache_dir"
    return ""
