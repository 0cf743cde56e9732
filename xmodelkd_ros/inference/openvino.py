"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.model_spec import TensorSpec
from xmodelkd_ros.inference.cpu import cores

_PRECISIONS = ("fp32", "int8")


class OpenVinoBackend:
    """A network in OpenVINO's CPU plugin (see :class:`~xmodelkd_ros.inference.backend.Backend`)."""

    name, key = "openvino", ""

    def __init__(self, path: Path, precision: str, threads: int | None = None) -> None:
        core = _core()
        if precision not in _PRECISIONS:
            raise BackendError(f"backend openvino has no precision {precision}; choose {', '.join(_PRECISIONS)}")
        hints = {
            # For layers that are not quantised: the default is bf16 on CPUs that support it.
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads or cores(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            compiled = core.compile_model(str(path), "CPU", hints)
        except Exception as error:  # OpenVINO's exceptions share no public base class
            raise BackendError(f"openvino cannot load {path}: {_last_line(error)}") from error
        self.precision = precision
        self.inputs = tuple(_tensor(port) for port in compiled.inputs)
        self.outputs = tuple(_tensor(port) for port in compiled.outputs)
        self._request = compiled.create_infer_request()

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once. The next run overwrites the returned arrays."""
        try:
            results = self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        except Exception as error:
            raise BackendError(f"openvino failed: {_last_line(error)}") from error
        return {tensor.name: np.asarray(results[tensor.name]) for tensor in self.outputs}


@cache
def _core() -> Any:
    """OpenVINO, loaded once and kept until the process ends.

    Its CPU plugin gives the thread that loads it a stack for signal handlers. It frees the stack when the last network
    is dropped, in whichever thread that is; the next signal would then end the process (SIGSEGV).
    """
    try:
        import openvino
    except ImportError as error:
        raise BackendError("openvino is not installed; run 'pip install openvino'") from error
    return openvino.Core()


def _tensor(port: Any) -> TensorSpec:
    # A symbolic dimension becomes -1, so that the comparison with model.json fails with its name.
    shape = tuple(int(n.get_length()) if n.is_static else -1 for n in port.partial_shape)
    return TensorSpec(port.any_name, shape, np.dtype(port.element_type.to_dtype()).name)


def _last_line(error: Exception) -> str:
    """The last line of an OpenVINO error, which has the reason; the lines before name OpenVINO's source files."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
