"""Back-end interface, and loading of a model's networks."""

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
"""The back end that all others are compared with."""
PRECISIONS = ("auto", "fp32", "fp16", "int8")


class Backend(Protocol):
    """A network loaded by an inference library.

    Attributes:
        name: the library, as in the ``backend`` parameter.
        precision: as in the ``precision`` parameter.
        key: name of the engine built from the network; empty for back ends without engines.
        inputs: inputs of the network file.
        outputs: outputs of the network file.
    """

    name: str
    precision: str
    key: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once. The next run may overwrite the returned arrays.

        Raises:
            BackendError: the library failed.
        """
        ...


@dataclass(frozen=True, eq=False)
class LoadedNetworks:
    """The loaded networks of a model.

    Attributes:
        network: the point cloud network.
        image_branch: a teacher's network for images; None for a student.
        finish_parity_check: takes the share of labels equal to the reference back end's and accepts or rejects newly
            built engines (BackendError). None if no engine was built.
    """

    network: Backend
    image_branch: Backend | None
    finish_parity_check: Callable[[float], None] | None = None


MIN_EQUAL_LABELS = 0.995
"""Minimum share of a stored sweep's points that must get the same label as from the reference back end."""
MIN_EQUAL_IN_INT8 = 0.99
"""The same for int8, where libraries round differently: two correct ones agree on 99.5 to 99.6 %."""


def load_networks(
    spec: ModelSpec, folder: Path, backend: str = REFERENCE, precision: str = "auto", engines: EngineCache | None = None
) -> LoadedNetworks:
    """Load a model's networks and check them against ``model.json``.

    Args:
        spec: content of ``model.json``.
        folder: the model's folder.
        backend: one of ``BACKENDS`` except ``auto``.
        precision: one of ``PRECISIONS``; ``auto`` means fp16 for TensorRT if the model has it, else fp32.
        engines: cache for built engines; None for the user's cache folder.

    Raises:
        BackendError: unknown back end or precision, the library is not installed, or the GPU is missing.
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
    finish_parity_check = load.finish_parity_check if isinstance(load, _EngineLoader) and load.built else None
    return LoadedNetworks(network, image_branch, finish_parity_check)


def _loader(backend: str, engines: EngineCache | None) -> Callable[[Path, str], Backend]:
    if backend == "tensorrt":
        return _EngineLoader(engines or EngineCache())
    return _openvino if backend == "openvino" else _onnxruntime


def _onnxruntime(path: Path, precision: str) -> Backend:
    # Imported on demand: a vehicle has only the libraries that it uses.
    from xmodelkd_ros.inference.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, precision)


def _openvino(path: Path, precision: str) -> Backend:
    from xmodelkd_ros.inference.openvino import OpenVinoBackend

    return OpenVinoBackend(path, precision)


class _EngineLoader:
    """Loads TensorRT engines from the cache, and builds missing ones.

    Attributes:
        built: new engines, not yet compared with the reference back end.

    Raises:
        BackendError: no GPU, or TensorRT is not installed.
    """

    def __init__(self, cache: EngineCache) -> None:
        gpu = find_gpu()
        if gpu is None:
            raise BackendError(
                "backend tensorrt needs an NVIDIA GPU and its driver, but found none; choose onnxruntime"
            )
        from xmodelkd_ros.inference import tensorrt

        self._tensorrt, self._gpu, self._cache = tensorrt, gpu, cache
        self._version = tensorrt.installed_version()
        self.built: list[tuple[EngineKey, bytes]] = []

    def __call__(self, path: Path, precision: str) -> Backend:
        """Load the engine of a network file."""
        if precision == "int8":
            raise BackendError("int8 networks run on CPUs only; choose precision fp16, or backend openvino")
        gpu = self._gpu
        key = EngineKey(sha256(path), precision, self._version, gpu.name, gpu.capability, gpu.driver)
        engine = self._cache.find(key)
        if engine is not None:
            try:
                return self._tensorrt.TensorRtBackend(engine, precision, key.name)
            except BackendError as error:  # rejected by the installed TensorRT
                self._cache.on_progress(str(error))
        engine = self._cache.build(
            key, partial(self._tensorrt.build_in_subprocess, path, on_progress=self._cache.on_progress)
        )
        loaded = self._tensorrt.TensorRtBackend(engine, precision, key.name)
        self.built.append((key, engine))
        return loaded

    def finish_parity_check(self, equal_labels: float) -> None:
        """Accept or reject the new engines."""
        for key, engine in self.built:
            if equal_labels >= MIN_EQUAL_LABELS:
                self._cache.accept(key, engine, equal_labels)
            else:
                self._cache.reject(key)
        if equal_labels < MIN_EQUAL_LABELS:
            raise BackendError(
                f"TensorRT and ONNX Runtime agree on only {equal_labels:.1%} of the labels of a stored sweep "
                f"({MIN_EQUAL_LABELS:.1%} required); choose another precision, or backend onnxruntime"
            )
