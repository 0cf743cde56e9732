"""An exported model in further precisions: 16 bits for GPUs, 8 bits for CPUs, each kept if it does as well."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.sources import Source
from training.deployed import write_half
from training.exported import loaded, parity, score
from training.quantized import Inputs, write_int8
from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.model_spec import ModelSpec, NetworkFile, sha256
from xmodelkd_ros.inference.backend import Backend, load_networks
from xmodelkd_ros.pipeline import SegmentationPipeline

MIN_EQUAL_IN_HALF = 0.995
"""Share of points that must get the same label from the network in 16 bits as from the trained one."""
MOST_LOST = 0.005
"""What the network in 8 bits may lose of the mean IoU, on each choosing source."""


def with_half(
    spec: ModelSpec, folder: Path, sources: Sequence[Source], expected: Sequence[Sequence[NDArray[np.float32]]]
) -> tuple[ModelSpec, dict[str, float]]:
    """The model with networks in 16 bits as well, if these label as PyTorch does, and how nearly they do."""
    halved = _with_precision(spec, folder, "fp16", lambda network, half, _: write_half(network, half))
    try:
        return halved, parity(loaded(halved, folder, "fp16"), sources, expected, MIN_EQUAL_IN_HALF)
    except ModelError as error:
        _drop(halved, folder, "fp16", str(error))
        return spec, {}


def with_int8(
    spec: ModelSpec,
    folder: Path,
    sources: Sequence[Source],
    examples: Sequence[Source],
    scores: Sequence[Mapping[str, Any]],
) -> tuple[ModelSpec, list[dict[str, Any]]]:
    """The model with networks in 8 bits as well, if these lose little, and their scores.

    Args:
        spec: the model.
        folder: its folder.
        sources: what it is scored on.
        examples: what activations are looked at on.
        scores: of fp32.
    """
    networks = load_networks(spec, folder, "onnxruntime", "fp32")
    listening = _Listening(networks.network), networks.image_branch and _Listening(networks.image_branch)
    pipeline = SegmentationPipeline(spec, listening[0], None, listening[1])
    for source in examples:
        for number, sweep in enumerate(source.sweeps):
            pipeline.segment(sweep.cloud, pictures=source.pictures(number))
    heard = [network.heard for network in listening if network]
    quantized = _with_precision(spec, folder, "int8", lambda network, out, part: write_int8(network, out, heard[part]))
    pipeline = loaded(quantized, folder, "int8")
    found = [score(source, pipeline) for source in sources]
    lost = max(before["miou"] - after["miou"] for before, after in zip(scores, found, strict=True))
    if lost <= MOST_LOST:
        return quantized, found
    _drop(quantized, folder, "int8", f"it would lose {lost:.3f} of the mean IoU, more than {MOST_LOST}")
    return spec, []


class _Listening:
    """A back end that keeps what it is given (see :class:`~xmodelkd_ros.inference.backend.Backend`)."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.precision, self.key = backend.name, backend.precision, backend.key
        self.inputs, self.outputs = backend.inputs, backend.outputs
        self.heard: list[Inputs] = []
        self._backend = backend

    def infer(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Run the network once."""
        self.heard.append({name: values.copy() for name, values in inputs.items()})
        return self._backend.infer(inputs)


def _with_precision(
    spec: ModelSpec, folder: Path, precision: str, write: Callable[[Path, Path, int], None]
) -> ModelSpec:
    """The model with all its networks in another precision too.

    Args:
        spec: the model.
        folder: its folder.
        precision: its name, which stands in the files' names.
        write: takes the file in fp32, the file to write, and 0 for the network, 1 for the image branch.
    """

    def more(files: Mapping[str, NetworkFile], part: int) -> dict[str, NetworkFile]:
        source = folder / files["fp32"].file
        out = source.with_name(f"{source.stem}.{precision}.onnx")
        write(source, out, part)
        return {**files, precision: NetworkFile(out.name, sha256(out))}

    branch = spec.image_branch
    branch = None if branch is None else replace(branch, files=more(branch.files, 1))
    return replace(spec, files=more(spec.files, 0), image_branch=branch)


def _drop(spec: ModelSpec, folder: Path, precision: str, why: str) -> None:
    """Remove the networks of a precision, and say why."""
    print(f"note: without {precision}: {why}", file=sys.stderr)
    for files in (spec.files, *([spec.image_branch.files] if spec.image_branch else [])):
        (folder / files[precision].file).unlink()
