"""What a back end is, and which one to take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.model_spec import ModelSpec, TensorSpec, sha256
from xmodelkd_ros.inference.engine_cache import EngineCache, EngineKey
from xmodelkd_ros.inference.gpu import find_gpu

BACKENDS = ("auto", "onnxruntime", "openvino", "tensorrt")
REFERENCE = "onnxruntime"
"""What every other back end has to agree with."""
PRECISIONS = ("auto", "fp32", "fp16", "int8")


class Backend(Protocol):
    """A loaded network.

    Attributes:
        name: the library, as in the ``backend`` parameter.
        precision: as in the ``precision`` parameter.
        key: names the engine that was built from the network; empty where the network itself runs.
        inputs: what the network file takes.
        outputs: what it gives.
    """

    name: str
    precision: str
    key: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once. What it returns may be overwritten by the next run.

        Raises:
            BackendError: the library failed.
        """
        ...


@dataclass(frozen=True, eq=False)
class LoadedNetworks:
    """The networks of a model, loaded.

    Attributes:
        network: of a student or a teacher.
        image_branch: what looks at images for a teacher; None for a student.
        finish_parity_check: to be told which share of labels is equal to the reference back end's, where engines have just been
            built; it raises a BackendError if that is too little. None where there is nothing to compare.
    """

    network: Backend
    image_branch: Backend | None
    finish_parity_check: Callable[[float], None] | None = None


MIN_EQUAL_LABELS = 0.995
"""Share of a stored sweep's points on which a back end has to agree with the reference."""
MIN_EQUAL_IN_INT8 = 0.99
"""The same in 8 bits, where libraries round differently: two correct ones agree on 99.5 to 99.6 % here."""


def load_networks(
    spec: ModelSpec, folder: Path, backend: str = REFERENCE, precision: str = "auto", engines: EngineCache | None = None
) -> LoadedNetworks:
    """Load a model's networks and compare them with ``model.json``.

    Args:
        spec: the model's contract.
        folder: its folder.
        backend: one of ``BACKENDS`` except ``auto``.
        precision: one of ``PRECISIONS``; ``auto`` takes fp16 for TensorRT where the model has it, else fp32.
        engines: where built engines are kept; None for the user's cache folder.

    Raises:
        BackendError: the choice is unknown, the library is not installed, or there is no GPU for it.
        ModelError: the network file is not the one that ``model.json`` describes.
    """
    concrete = [name for name in BACKENDS if name != "auto"]
    if backend not in concrete:
        raise BackendError(f"backend '{backend}' is unknown; choose one of {', '.join(concrete)}")
    if precision not in PRECISIONS:
        raise BackendError(f"precision '{precision}' is unknown; choose one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        precision = "fp16" if backend == "tensorrt" and "fp16" in spec.files else "fp32"
    load = _loader(backend, engines)
    network = load(spec.network_path(folder, precision), precision)
    spec.check_network(network.inputs, network.outputs)
    image_branch = None
    if spec.image_branch is not None:
        image_branch = load(spec.network_path(folder, precision, image_branch=True), precision)
        spec.image_branch.check_network(image_branch.inputs, image_branch.outputs)
    finish_parity_check = load.finish_parity_check if isinstance(load, _Engines) and load.new else None
    return LoadedNetworks(network, image_branch, finish_parity_check)


def _loader(backend: str, engines: EngineCache | None) -> Callable[[Path, str], Backend]:
    if backend == "tensorrt":
        return _Engines(engines or EngineCache())
    return _openvino if backend == "openvino" else _onnxruntime


def _onnxruntime(path: Path, precision: str) -> Backend:
    # Imported late: a vehicle has only the libraries it uses.
    from xmodelkd_ros.inference.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, precision)


def _openvino(path: Path, precision: str) -> Backend:
    from xmodelkd_ros.inference.openvino import OpenVinoBackend

    return OpenVinoBackend(path, precision)


class _Engines:
    """Loads engines of TensorRT from a cache, and builds those that are not there.

    Args:
        cache: where they are kept.

    Attributes:
        new: those that were built, which nothing has been compared with.

    Raises:
        BackendError: there is no GPU, or no TensorRT.
    """

    def __init__(self, cache: EngineCache) -> None:
        gpu = find_gpu()
        if gpu is None:
            raise BackendError(
                "backend tensorrt needs an NVIDIA GPU and its driver, and finds none; choose onnxruntime"
            )
        from xmodelkd_ros.inference import tensorrt

        self._tensorrt, self._gpu, self._cache = tensorrt, gpu, cache
        self._version = tensorrt.installed_version()
        self.new: list[tuple[EngineKey, bytes]] = []

    def __call__(self, path: Path, precision: str) -> Backend:
        """Load the engine of a network."""
        if precision == "int8":
            raise BackendError("networks in int8 are made for CPUs; choose precision fp16, or backend openvino")
        gpu = self._gpu
        key = EngineKey(sha256(path), precision, self._version, gpu.name, gpu.capability, gpu.driver)
        engine = self._cache.find(key)
        if engine is not None:
            try:
                return self._tensorrt.TensorRtBackend(engine, precision, key.name)
            except BackendError as error:  # its own library no longer takes it
                self._cache.on_progress(str(error))
        engine = self._cache.build(
            key, partial(self._tensorrt.build_in_subprocess, path, on_progress=self._cache.on_progress)
        )
        loaded = self._tensorrt.TensorRtBackend(engine, precision, key.name)
        self.new.append((key, engine))
        return loaded

    def finish_parity_check(self, equal_labels: float) -> None:
        """Keep the new engines, or refuse them."""
        for key, engine in self.new:
            if equal_labels >= MIN_EQUAL_LABELS:
                self._cache.accept(key, engine, equal_labels)
            else:
                self._cache.reject(key)
        if equal_labels < MIN_EQUAL_LABELS:
            raise BackendError(
                f"TensorRT gives only {equal_labels:.1%} of the points of a stored sweep the label that ONNX Runtime "
                f"gives ({MIN_EQUAL_LABELS:.1%} are asked for); choose another precision, or backend onnxruntime"
            )
