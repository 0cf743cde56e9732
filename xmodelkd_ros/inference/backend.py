"""What a back end is, and which one to take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.model_spec import ModelSpec, TensorSpec

BACKENDS = ("auto", "onnxruntime")
PRECISIONS = ("auto", "fp32")


class Backend(Protocol):
    """A loaded network.

    Attributes:
        name: the library, as in the ``backend`` parameter.
        precision: as in the ``precision`` parameter.
        inputs: what the network file takes.
        outputs: what it gives.
    """

    name: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once.

        Raises:
            BackendError: the library failed.
        """
        ...


def load_backend(spec: ModelSpec, folder: Path, backend: str = "auto", precision: str = "auto") -> Backend:
    """Load a model's network and compare it with ``model.json``.

    Args:
        spec: the model's contract.
        folder: its folder.
        backend: one of ``BACKENDS``; ``auto`` takes the fastest that is installed.
        precision: one of ``PRECISIONS``; ``auto`` takes fp32.

    Raises:
        BackendError: the choice is unknown, or the library is not installed.
        ModelError: the network file is not the one that ``model.json`` describes.
    """
    loaded = _load(spec, folder, backend, precision, image_branch=False)
    spec.check_network(loaded.inputs, loaded.outputs)
    return loaded


def load_image_branch(spec: ModelSpec, folder: Path, backend: str = "auto", precision: str = "auto") -> Backend | None:
    """Load what looks at images for a teacher; None for a student. Arguments and errors as of :func:`load_backend`."""
    if spec.image_branch is None:
        return None
    loaded = _load(spec, folder, backend, precision, image_branch=True)
    spec.image_branch.check_network(loaded.inputs, loaded.outputs)
    return loaded


def _load(spec: ModelSpec, folder: Path, backend: str, precision: str, image_branch: bool) -> Backend:
    if backend not in BACKENDS:
        raise BackendError(f"backend '{backend}' is unknown; choose one of {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise BackendError(f"precision '{precision}' is unknown; choose one of {', '.join(PRECISIONS)}")
    precision = "fp32" if precision == "auto" else precision
    # Imported late: a vehicle has only the libraries it uses.
    from xmodelkd_ros.inference.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(spec.network_path(folder, precision, image_branch), precision)
