"""ONNX Runtime on the CPU: the reference back end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xmodelkd_ros.core.errors import BackendError, first_line
from xmodelkd_ros.core.model_spec import TensorSpec
from xmodelkd_ros.inference.cpu import cores

_DTYPES = {"tensor(float)": "float32", "tensor(int32)": "int32"}


class OnnxRuntimeBackend:
    """A network in ONNX Runtime's CPU provider (see :class:`~xmodelkd_ros.inference.backend.Backend`)."""

    name, key = "onnxruntime", ""

    def __init__(self, path: Path, precision: str, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise BackendError("onnxruntime is not installed; run 'pip install onnxruntime'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        # Threads must not spin between sweeps: other processes on the vehicle need the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            raise BackendError(f"onnxruntime cannot load {path}: {first_line(error)}") from error
        self.precision = precision
        self.inputs = tuple(_tensor(v) for v in self._session.get_inputs())
        self.outputs = tuple(_tensor(v) for v in self._session.get_outputs())
        self._output_names = [t.name for t in self.outputs]

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once."""
        try:
            values = self._session.run(self._output_names, dict(inputs))
        except Exception as error:
            raise BackendError(f"onnxruntime failed: {first_line(error)}") from error
        return dict(zip(self._output_names, values, strict=True))


def _tensor(value: Any) -> TensorSpec:
    # A symbolic dimension is a string; -1 makes the comparison with model.json fail with its name.
    shape = tuple(n if isinstance(n, int) else -1 for n in value.shape)
    return TensorSpec(value.name, shape, _DTYPES.get(value.type, value.type))
