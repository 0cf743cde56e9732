"""fp16 and int8 networks of a model folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config.data import DataConfig
from training.data.sources import Source, few_sweeps
from training.deploy.fp16 import write_half
from training.deploy.int8 import Inputs, write_int8
from training.deploy.parity import loaded, parity, score
from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.model_spec import ModelSpec, NetworkFile, sha256
from xmodelkd_ros.inference.backend import Backend, load_networks
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

PRECISIONS = ("fp16", "int8")
MIN_EQUAL_IN_HALF = 0.995
"""Share of points that must get the same label from the network in 16 bits as from that in fp32."""
MOST_LOST = 0.005
"""What the network in 8 bits may lose of the mean IoU, on each validation source."""
_EXAMPLES = 8
"""Sweeps of each training source that the ranges of 8 bits are found on."""


def add_precisions(
    spec: ModelSpec,
    folder: Path,
    data: DataConfig,
    sources: Sequence[Source],
    command: str,
    wanted: Sequence[str] = PRECISIONS,
) -> ModelSpec:
    """Write an exported model's networks once more in other precisions; what does not do as well is left out.

    Args:
        spec: the model, in fp32.
        folder: its folder.
        data: what it was trained on.
        sources: its validation sweeps.
        command: that writes them again, for ``model.json``.
        wanted: of :data:`PRECISIONS`.

    Returns:
        The model with the precisions that were kept.
    """
    whole = loaded(spec, folder, "fp32")
    for precision, add in (("fp16", _add_half), ("int8", _add_int8)):
        if precision not in wanted:
            continue
        try:
            more, check = add(spec, folder, data, sources, whole)
        except OSError:  # a full disk says nothing about a precision
            raise
        except Exception as error:  # of one of the libraries that take part
            print(f"note: without {precision}: {(str(error).strip() or repr(error)).splitlines()[0]}", file=sys.stderr)
            for file in folder.glob(f"*.{precision}.onnx"):
                file.unlink()
        else:
            spec = replace(more, metrics={**spec.metrics, precision: {"command": command, **check}})
    return spec


def _add_half(
    spec: ModelSpec, folder: Path, data: DataConfig, sources: Sequence[Source], whole: SegmentationPipeline
) -> tuple[ModelSpec, Mapping[str, Any]]:
    """The model in 16 bits as well, and how it compares; raises a ModelError if it is not good enough."""
    halved = _with_precision(spec, folder, "fp16", lambda network, half, _: write_half(network, half))
    expected = [[_logits(whole, source, number) for number in range(len(source.sweeps))] for source in sources]
    return halved, parity(loaded(halved, folder, "fp16"), sources, expected, MIN_EQUAL_IN_HALF)


def _logits(pipeline: SegmentationPipeline, source: Source, number: int) -> NDArray[np.float32]:
    logits, valid = pipeline.logits(source.sweeps[number].cloud, source.pictures(number))
    return logits[:, valid]


def _add_int8(
    spec: ModelSpec, folder: Path, data: DataConfig, sources: Sequence[Source], whole: SegmentationPipeline
) -> tuple[ModelSpec, Mapping[str, Any]]:
    """The model in 8 bits as well, and its scores; raises a ModelError if it is not good enough."""
    heard = _calibration_inputs(spec, folder, data)
    quantized = _with_precision(spec, folder, "int8", lambda network, out, part: write_int8(network, out, heard[part]))
    pipeline = loaded(quantized, folder, "int8")
    found = [(score(source, whole), score(source, pipeline)) for source in sources]
    lost = max(before["miou"] - after["miou"] for before, after in found)
    if lost > MOST_LOST:
        raise ModelError(f"it would lose {lost:.3f} of the mean IoU, more than {MOST_LOST}")
    return quantized, {"choose": [after for _, after in found]}


def _calibration_inputs(spec: ModelSpec, folder: Path, data: DataConfig) -> list[list[Inputs]]:
    """What the network takes on some training sweeps, and what a teacher's image branch does."""
    networks = load_networks(spec, folder, "onnxruntime", "fp32")
    network, branch = _InputRecorder(networks.network), networks.image_branch and _InputRecorder(networks.image_branch)
    pipeline = SegmentationPipeline(spec, network, None, branch)
    for config in data.train:
        source = few_sweeps(config, _EXAMPLES, images=branch is not None)
        for number, sweep in enumerate(source.sweeps):
            pipeline.segment(sweep.cloud, pictures=source.pictures(number))
    return [network.heard, branch.heard if branch else []]


class _InputRecorder:
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
