"""TensorRT on an NVIDIA GPU: engines are built from ONNX and run through the CUDA bindings.

One way for TensorRT 10 and 11 (module ``tensorrt``: JetPack, NVIDIA's packages) and TensorRT-RTX (module
``tensorrt_rtx``, from pip). Networks are strongly typed: their precision is that of the ONNX file.

    python -m xmodelkd_ros.inference.tensorrt NETWORK.onnx ENGINE [PARENT]

builds an engine in a process of its own, so that nothing which goes wrong there ends the node. It ends with the process
PARENT.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.console import exit_code
from xmodelkd_ros.core.atomic_write import atomic_file
from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.model_spec import TensorSpec
from xmodelkd_ros.inference.child_process import exit_when_parent_dies

_MODULES = ("tensorrt", "tensorrt_rtx")
_FLAGS = ("EXPLICIT_BATCH", "STRONGLY_TYPED")
"""Of the network definition, where the library still has them."""
_PROGRESS, _ERROR = "progress: ", "error: "
"""How lines of the process that builds begin."""


def import_tensorrt() -> Any:
    """The installed TensorRT.

    Raises:
        BackendError: there is none.
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
    """Name and version of the installed TensorRT; errors as :func:`import_tensorrt`."""
    found = import_tensorrt()
    return f"{found.__name__} {found.__version__}"


# --- building ---------------------------------------------------------------------------------------------------------


def build(network: Path, on_progress: Callable[[str], None] | None = None) -> bytes:
    """Build an engine for this machine's GPU, or with TensorRT-RTX for any that it knows.

    Args:
        network: ONNX file.
        on_progress: takes a line on how far it is.

    Raises:
        BackendError: names the node that TensorRT cannot take, or says why nothing was built.
    """
    trt = import_tensorrt()
    builder = trt.Builder(_logger(trt))
    known = [getattr(trt.NetworkDefinitionCreationFlag, name, None) for name in _FLAGS]
    definition = builder.create_network(sum(1 << int(flag) for flag in known if flag is not None))
    parser = trt.OnnxParser(definition, _logger(trt))
    if not parser.parse_from_file(str(network)):
        raise BackendError(f"TensorRT cannot take {network.name}: {_first_error(parser)}")
    config = builder.create_builder_config()
    if on_progress is not None and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt, on_progress)
    engine = builder.build_serialized_network(definition, config)
    if engine is None:
        raise BackendError(f"TensorRT built no engine of {network.name}; its messages above say why")
    return bytes(engine)


def build_in_subprocess(network: Path, engine: Path, on_progress: Callable[[str], None] = lambda line: None) -> None:
    """:func:`build` in another process, into a file that is there only when it is whole.

    Args:
        network: ONNX file.
        engine: file to write.
        on_progress: takes a line on how far it is.

    Raises:
        BackendError: as :func:`build`, or the process died.
    """
    command = [sys.executable, "-m", "xmodelkd_ros.inference.tensorrt", str(network), str(engine), str(os.getpid())]
    last = "it wrote nothing"
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in filter(None, map(str.strip, process.stderr)):
            if line.startswith(_PROGRESS):
                on_progress(f"building an engine of {network}: {line.removeprefix(_PROGRESS)}")
            else:
                last = line
    if process.returncode == 1 and last.startswith(_ERROR):
        raise BackendError(last.removeprefix(_ERROR))
    if process.returncode:
        raise BackendError(f"building an engine of {network} ended with exit code {process.returncode}: {last}")


def _monitor(trt: Any, on_progress: Callable[[str], None]) -> Any:
    """Says how far each phase of the building is."""

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
        return "it gives no reason"
    error = parser.get_error(0)
    node = f"node '{error.node_name()}' ({error.node_operator()}): " if error.node_operator() else ""
    return f"{node}{' '.join(error.desc().split())}"


def _logger(trt: Any) -> Any:
    return trt.Logger(trt.Logger.WARNING)


# --- running ----------------------------------------------------------------------------------------------------------


class TensorRtBackend:
    """An engine on the GPU (see :class:`~xmodelkd_ros.inference.backend.Backend`).

    Inputs and outputs lie in pinned memory; copies and network are one CUDA graph, and the only wait is for its end.

    Args:
        engine: as :func:`build` made it on this machine.
        precision: of the network it was built from.
        key: names the engine, for diagnostics.

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
            raise BackendError(
                f"an engine does not load in {installed_version()} on this GPU; it has to be built again"
            )
        self._context = self._engine.create_execution_context()
        self._stream = self._cuda.new_stream()
        self._graph: Any = None
        self._has_run = False
        tensors = [self._tensor(trt, i) for i in range(self._engine.num_io_tensors)]
        is_input = [self._engine.get_tensor_mode(t.name) == trt.TensorIOMode.INPUT for t in tensors]
        self.inputs = tuple(t for t, given in zip(tensors, is_input, strict=True) if given)
        self.outputs = tuple(t for t, given in zip(tensors, is_input, strict=True) if not given)
        self._host = {t.name: self._cuda.pinned(t) for t in tensors}
        self._device = {t.name: self._cuda.device_memory(self._host[t.name].nbytes) for t in tensors}
        for name, address in self._device.items():
            self._context.set_tensor_address(name, address)

    def _tensor(self, trt: Any, index: int) -> TensorSpec:
        name = self._engine.get_tensor_name(index)
        dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        return TensorSpec(name, tuple(self._engine.get_tensor_shape(name)), dtype.name)

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once. The arrays that are returned are overwritten by the next run."""
        for tensor in self.inputs:
            np.copyto(self._host[tensor.name], inputs[tensor.name])
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.wait(self._stream)
        if not self._has_run:  # what is set up in the first run cannot be captured
            self._has_run = True
            self._graph = self._cuda.captured(self._stream, self._enqueue)
        return {tensor.name: self._host[tensor.name] for tensor in self.outputs}

    def _enqueue(self) -> None:
        for tensor in self.inputs:
            self._cuda.to_device(self._device[tensor.name], self._host[tensor.name], self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise BackendError("TensorRT failed to run the network; its messages above say why")
        for tensor in self.outputs:
            self._cuda.to_host(self._host[tensor.name], self._device[tensor.name], self._stream)


class _Cuda:
    """The few calls of the CUDA runtime that are needed, each checked.

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
        """Host memory that the GPU reads and writes by itself."""
        dtype = np.dtype(tensor.dtype)
        size = int(np.prod(tensor.shape)) * dtype.itemsize
        address = int(self._call("cudaMallocHost", size))
        memory = (ctypes.c_byte * size).from_address(address)
        return np.ctypeslib.as_array(memory).view(dtype).reshape(tensor.shape)

    def device_memory(self, size: int) -> int:
        return int(self._call("cudaMalloc", size))

    def to_device(self, device: int, host: NDArray[Any], stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", device, host.ctypes.data, host.nbytes, kind, stream)

    def to_host(self, host: NDArray[Any], device: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host.ctypes.data, device, host.nbytes, kind, stream)

    def wait(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def captured(self, stream: int, enqueue: Callable[[], None]) -> Any:
        """What ``enqueue`` puts into the stream, as one graph; None if it cannot be captured."""
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
