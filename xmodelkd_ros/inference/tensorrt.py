"""TensorRT on an NVIDIA GPU: engines are built from ONNX and run through the CUDA bindings.

Supports TensorRT 10 and 11 (module ``tensorrt``: JetPack, NVIDIA's packages) and TensorRT-RTX (module
``tensorrt_rtx``, from pip). Networks are strongly typed: the precision is that of the ONNX file.

    python -m xmodelkd_ros.inference.tensorrt NETWORK.onnx ENGINE [PARENT]

builds an engine in a separate process, so that a crash of the builder does not end the node. It exits when the process
PARENT does.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.console import exit_code
from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.child_process import exit_when_parent_dies
from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.model_spec import TensorSpec

_MODULES = ("tensorrt", "tensorrt_rtx")
_FLAGS = ("EXPLICIT_BATCH", "STRONGLY_TYPED")
"""Creation flags of the network definition, set if the library has them."""
_PROGRESS, _ERROR = "progress: ", "error: "
"""Prefixes of the output lines of the build process."""


def import_tensorrt() -> Any:
    """Import the installed TensorRT.

    Raises:
        BackendError: TensorRT is not installed.
    """
    for name in _MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise BackendError(
        "TensorRT is not installed; on a Jetson it comes with JetPack, elsewhere 'pip install tensorrt-rtx-cu13', or "
        "choose backend onnxruntime"
    )


def installed_version() -> str:
    """Name and version of the installed TensorRT; errors as in :func:`import_tensorrt`."""
    trt = import_tensorrt()
    return f"{trt.__name__} {trt.__version__}"


# --- building ---------------------------------------------------------------------------------------------------------


def build(network: Path, on_progress: Callable[[str], None] | None = None) -> bytes:
    """Build an engine for this machine's GPU, with TensorRT-RTX for all supported GPUs.

    Raises:
        BackendError: TensorRT does not support a node of the network, or the build failed.
    """
    trt = import_tensorrt()
    builder = trt.Builder(_logger(trt))
    flags = [getattr(trt.NetworkDefinitionCreationFlag, name, None) for name in _FLAGS]
    definition = builder.create_network(sum(1 << int(flag) for flag in flags if flag is not None))
    parser = trt.OnnxParser(definition, _logger(trt))
    if not parser.parse_from_file(str(network)):
        raise BackendError(f"TensorRT does not support {network.name}: {_first_error(parser)}")
    config = builder.create_builder_config()
    if on_progress is not None and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt, on_progress)
    engine = builder.build_serialized_network(definition, config)
    if engine is None:
        raise BackendError(f"TensorRT failed to build an engine of {network.name}; see its messages above")
    return bytes(engine)


def build_in_subprocess(network: Path, engine: Path, on_progress: Callable[[str], None] = lambda line: None) -> None:
    """Run :func:`build` in a separate process, which writes the engine atomically.

    Raises:
        BackendError: as in :func:`build`, or the process died.
    """
    command = [sys.executable, "-m", "xmodelkd_ros.inference.tensorrt", str(network), str(engine), str(os.getpid())]
    last_line = "no output"
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in filter(None, map(str.strip, process.stderr)):
            if line.startswith(_PROGRESS):
                on_progress(f"building an engine of {network}: {line.removeprefix(_PROGRESS)}")
            else:
                last_line = line
    if process.returncode == 1 and last_line.startswith(_ERROR):
        raise BackendError(last_line.removeprefix(_ERROR))
    if process.returncode:
        raise BackendError(f"building an engine of {network} ended with exit code {process.returncode}: {last_line}")


def _monitor(trt: Any, on_progress: Callable[[str], None]) -> Any:
    """TensorRT progress monitor that reports the steps of each build phase."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            on_progress(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            on_progress(f"{phase_name}, step {step + 1} of {self._steps.get(phase_name, 0)}")
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


def _first_error(parser: Any) -> str:
    if not parser.num_errors:
        return "no reason given"
    error = parser.get_error(0)
    node = f"node '{error.node_name()}' ({error.node_operator()}): " if error.node_operator() else ""
    return f"{node}{' '.join(error.desc().split())}"


def _logger(trt: Any) -> Any:
    return trt.Logger(trt.Logger.WARNING)


# --- running ----------------------------------------------------------------------------------------------------------


class TensorRtBackend:
    """An engine on the GPU (see :class:`~xmodelkd_ros.inference.backend.Backend`).

    Inputs and outputs are in pinned memory. Copies and network form one CUDA graph with one synchronisation at its end.

    Raises:
        BackendError: the engine does not load here.
    """

    name = "tensorrt"

    def __init__(self, engine: bytes, precision: str, key: str) -> None:
        trt = import_tensorrt()
        self.precision, self.key = precision, key
        self._cuda = _Cuda()
        self._runtime = trt.Runtime(_logger(trt))
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise BackendError(f"an engine does not load in {installed_version()} on this GPU; it must be rebuilt")
        self._context = self._engine.create_execution_context()
        self._stream = self._cuda.new_stream()
        self._graph: Any = None
        self._has_run = False
        tensors = [self._tensor(trt, i) for i in range(self._engine.num_io_tensors)]
        inputs = [self._engine.get_tensor_mode(t.name) == trt.TensorIOMode.INPUT for t in tensors]
        self.inputs = tuple(t for t, is_input in zip(tensors, inputs, strict=True) if is_input)
        self.outputs = tuple(t for t, is_input in zip(tensors, inputs, strict=True) if not is_input)
        self._host = {t.name: self._cuda.pinned(t) for t in tensors}
        self._device = {t.name: self._cuda.device_memory(self._host[t.name].nbytes) for t in tensors}
        for name, address in self._device.items():
            self._context.set_tensor_address(name, address)
            self._cuda.free_with(self, address)

    def _tensor(self, trt: Any, index: int) -> TensorSpec:
        name = self._engine.get_tensor_name(index)
        dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        return TensorSpec(name, tuple(self._engine.get_tensor_shape(name)), dtype.name)

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once. The next run overwrites the returned arrays."""
        for tensor in self.inputs:
            np.copyto(self._host[tensor.name], inputs[tensor.name])
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.wait(self._stream)
        if not self._has_run:  # the first run initialises lazily, which cannot be captured
            self._has_run = True
            self._graph = self._cuda.capture(self._stream, self._enqueue)
        return {tensor.name: self._host[tensor.name] for tensor in self.outputs}

    def _enqueue(self) -> None:
        for tensor in self.inputs:
            self._cuda.to_device(self._device[tensor.name], self._host[tensor.name], self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise BackendError("TensorRT failed to run the network; see its messages above")
        for tensor in self.outputs:
            self._cuda.to_host(self._host[tensor.name], self._device[tensor.name], self._stream)


class _Cuda:
    """Checked calls of the CUDA runtime.

    Raises:
        BackendError: the bindings are not installed, or a call failed.
    """

    @cached_property
    def _runtime(self) -> Any:
        for name in ("cuda.bindings.runtime", "cuda.cudart"):
            try:
                return importlib.import_module(name)
            except ImportError:
                continue
        raise BackendError(
            "the CUDA bindings are not installed; run 'pip install cuda-bindings', or choose another backend"
        )

    def new_stream(self) -> int:
        return int(self._call("cudaStreamCreate"))

    def pinned(self, tensor: TensorSpec) -> NDArray[Any]:
        """Page-locked host memory for a tensor."""
        dtype = np.dtype(tensor.dtype)
        size = int(np.prod(tensor.shape)) * dtype.itemsize
        address = int(self._call("cudaMallocHost", size))
        memory = (ctypes.c_byte * size).from_address(address)
        # Bound to the memory, not to the back end: callers may hold its outputs for longer.
        _finalize(memory, self._call, "cudaFreeHost", address)
        return np.ctypeslib.as_array(memory).view(dtype).reshape(tensor.shape)

    def device_memory(self, size: int) -> int:
        return int(self._call("cudaMalloc", size))

    def free_with(self, owner: object, address: int) -> None:
        """Free device memory once its owner is garbage-collected: a node may load its models again."""
        _finalize(owner, self._call, "cudaFree", address)

    def to_device(self, device: int, host: NDArray[Any], stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", device, host.ctypes.data, host.nbytes, kind, stream)

    def to_host(self, host: NDArray[Any], device: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host.ctypes.data, device, host.nbytes, kind, stream)

    def wait(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def capture(self, stream: int, enqueue: Callable[[], None]) -> Any:
        """Capture what ``enqueue`` submits to the stream as a CUDA graph; None if capture fails."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        try:
            self._call("cudaStreamBeginCapture", stream, mode)
            try:
                enqueue()
            finally:
                graph = self._call("cudaStreamEndCapture", stream)
            return self._call("cudaGraphInstantiate", graph, 0)
        except BackendError:
            return None

    def launch(self, graph: Any, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *result = getattr(self._runtime, name)(*arguments)
        if int(error):
            raise BackendError(f"CUDA failed in {name}: {error}")
        return result[0] if result else None


def _finalize(owner: object, release: Callable[..., Any], *arguments: Any) -> None:
    # Not at exit, when the process releases everything and the CUDA runtime may be gone.
    weakref.finalize(owner, release, *arguments).atexit = False


def main(arguments: Sequence[str]) -> int:
    """Build an engine; returns the exit code."""
    network, engine = map(Path, arguments[:2])
    for parent in arguments[2:]:
        exit_when_parent_dies(int(parent))
    return exit_code(lambda: _build_to_file(network, engine))


def _build_to_file(network: Path, engine: Path) -> int:
    built = build(network, lambda line: print(f"{_PROGRESS}{line}", file=sys.stderr, flush=True))
    try:
        with atomic_file(engine) as unfinished:
            unfinished.write_bytes(built)
    except OSError as error:
        raise BackendError(f"cannot write engine {engine}: {error.strerror}; choose another folder") from error
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
