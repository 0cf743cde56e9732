"""The library that runs a model fastest on this machine and labels as the reference does: measured once, and kept.

It is measured in a process of its own (``compare_libraries.py``), so that a library which is not taken is never loaded
beside the one that is, and cannot end the node.
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

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.labels import LabelTranslation
from xmodelkd_ros.core.model_spec import sha256
from xmodelkd_ros.core.strict_json import parse_json
from xmodelkd_ros.core.visibility import CameraFrame
from xmodelkd_ros.inference.backend import REFERENCE
from xmodelkd_ros.inference.cpu import cores, cpu_name
from xmodelkd_ros.segmentation.parity_sweep import equal_labels, read_parity_sweep

LIBRARIES = (REFERENCE, "openvino")
"""For CPUs."""
_RUNS = 4
_LONGEST_S = 300.0
_PROGRAM = "xmodelkd_ros.segmentation.compare_backends"
_NETWORK_STAGES = ("images", "infer")


class _Result(Protocol):
    @property
    def stages_ms(self) -> Mapping[str, float]: ...


class _Pipeline(Protocol):
    def segment(
        self, cloud: PointCloud, into: LabelTranslation | None = None, pictures: Sequence[CameraFrame | None] = ()
    ) -> _Result: ...

    def logits(
        self, cloud: PointCloud, pictures: Sequence[CameraFrame | None] = ()
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]: ...


Pipeline = TypeVar("Pipeline", bound=_Pipeline)


class BackendChoice(NamedTuple):
    """A back end, and why it was taken."""

    backend: str
    reason: str


def select_backend(model: Path, precision: str, cache: Path, on_progress: Callable[[str], None]) -> BackendChoice:
    """The library that takes the shortest time for the stored sweep.

    One that does not load the model, or gives too many points another label than the reference does, is not taken.
    Where only one is installed nothing is measured.

    Args:
        model: the model's folder.
        precision: as in the node's parameter.
        cache: folder where it is kept what was measured. What cannot be kept is measured again at the next start, and
            the reason says so.
        on_progress: takes a line when it is measured, which takes seconds.

    Raises:
        ModelError: the folder holds no model.
    """
    there = [name for name in LIBRARIES if _is_installed(name)]
    if len(there) < 2:
        name = there[0] if there else LIBRARIES[0]  # which then says how to install it
        return BackendChoice(name, f"{name} is the only library installed")
    key = [sha256(model / "model.json"), precision, *map(_version, there), cpu_name(), str(cores())]
    note = cache / f"fastest-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]}.json"
    kept = _read(note)
    if kept is not None and kept.backend in there:
        return BackendChoice(kept.backend, f"{kept.reason}, measured before")
    on_progress(f"finding out which library runs {model.name} fastest here: {', '.join(there)}")
    try:
        found = _measured_apart(model, precision)
    except BackendError as error:
        return BackendChoice(REFERENCE, f"{REFERENCE} is the reference, and libraries could not be compared: {error}")
    return BackendChoice(found.backend, f"{found.reason}, measured now{_write(note, found)}")


def _measured_apart(model: Path, precision: str) -> BackendChoice:
    """What :func:`measure` finds in a process of its own."""
    command = [sys.executable, "-m", _PROGRAM, str(model), precision, str(os.getpid())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendError(str(error)) from error
    found = _choice(done.stdout)
    if done.returncode or found is None:
        last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
        raise BackendError(f"exit code {done.returncode}: {last}")
    return found


def measure(load: Callable[[str], Pipeline], cameras: int, least: float) -> BackendChoice:
    """Compare the libraries.

    Args:
        load: loads the model with one of ``LIBRARIES``.
        cameras: how many images it takes.
        least: share of points that must get the same label from a library as from the reference.

    Raises:
        XModelKDError: as ``load`` raises it for the reference.
    """
    pipelines, refused = {REFERENCE: load(REFERENCE)}, []
    for name in (name for name in LIBRARIES if name != REFERENCE):
        try:
            pipeline = load(name)
            share = equal_labels(pipeline, pipelines[REFERENCE], cameras)
        except BackendError as error:
            refused.append(f"{name} not used: {error}")
            continue
        if share < least:
            refused.append(f"{name} not used: it gives only {share:.1%} of a stored sweep's points the same label")
        else:
            pipelines[name] = pipeline
    times = _times_ms(pipelines, cameras)
    ranked = sorted(times, key=lambda name: times[name])
    return BackendChoice(ranked[0], ", ".join([*(f"{name} {times[name]:.0f} ms a sweep" for name in ranked), *refused]))


def _times_ms(pipelines: Mapping[str, Pipeline], cameras: int) -> dict[str, float]:
    """The shortest time of the networks; in turns, so that other work on the machine meets all alike."""
    cloud, camera_frames = read_parity_sweep(cameras)
    times = dict.fromkeys(pipelines, float("inf"))
    for _ in range(_RUNS):
        for name, pipeline in pipelines.items():
            stages = pipeline.segment(cloud, pictures=camera_frames).stages_ms
            times[name] = min(times[name], sum(stages.get(stage, 0.0) for stage in _NETWORK_STAGES))
    return times


def _is_installed(name: str) -> bool:
    spec = find_spec(name)
    return spec is not None and spec.origin is not None  # a mere folder of this name has none


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:  # the library comes with a distribution of another name
        return f"{name} {getattr(import_module(name), '__version__', '')}"


def _choice(text: str) -> BackendChoice | None:
    """What a line of JSON says; None if it says something else."""
    try:
        data = parse_json(text)
        return BackendChoice(str(data["backend"]), str(data["reason"]))
    except (ValueError, KeyError, TypeError):
        return None


def _read(note: Path) -> BackendChoice | None:
    try:
        return _choice(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(note: Path, found: BackendChoice) -> str:
    """Keep a choice; what is to be said if it cannot be kept."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(note) as unfinished:
            unfinished.write_text(json.dumps(found._asdict()), encoding="utf-8")
    except OSError as error:
        return f" and at every start: cannot write to {note.parent}: {error.strerror}; set engine_cache_dir"
    return ""
