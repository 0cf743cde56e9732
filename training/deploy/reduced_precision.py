"""fp16 and int8 networks of a model folder, each checked before it is added."""

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
from training.deploy.fp16 import write_fp16
from training.deploy.int8 import Inputs, write_int8
from training.deploy.parity import load_pipeline, parity, score
from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.model_spec import ModelSpec, NetworkFile, sha256
from xmodelkd_ros.inference.backend import Backend, load_networks
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

PRECISIONS = ("fp16", "int8")
MIN_EQUAL_FP16 = 0.995
"""Minimum share of points with equal labels from the fp16 and the fp32 network."""
MAX_MIOU_LOSS = 0.005
"""Maximum loss of mean IoU of the int8 network on each validation source."""
_CALIBRATION_SWEEPS = 8
"""Sweeps of each training source for the calibration of int8."""


def add_precisions(
    spec: ModelSpec,
    folder: Path,
    data: DataConfig,
    sources: Sequence[Source],
    command: str,
    precisions: Sequence[str] = PRECISIONS,
) -> ModelSpec:
    """Add networks of reduced precision to an exported model; one that fails its check is left out with a note.

    ``model.json`` gets ``command``, which writes them again.

    Returns:
        The model with the precisions that passed.
    """
    fp32 = load_pipeline(spec, folder, "fp32")
    for precision, add in (("fp16", _add_fp16), ("int8", _add_int8)):
        if precision not in precisions:
            continue
        try:
            extended, check = add(spec, folder, data, sources, fp32)
        except OSError:  # such as a full disk, which is no fault of the precision
            raise
        except Exception as error:  # the conversion libraries raise errors of any type
            print(f"note: without {precision}: {(str(error).strip() or repr(error)).splitlines()[0]}", file=sys.stderr)
            for file in folder.glob(f"*.{precision}.onnx"):
                file.unlink()
        else:
            spec = replace(extended, metrics={**spec.metrics, precision: {"command": command, **check}})
    return spec


def _add_fp16(
    spec: ModelSpec, folder: Path, data: DataConfig, sources: Sequence[Source], fp32: SegmentationPipeline
) -> tuple[ModelSpec, Mapping[str, Any]]:
    """Add fp16 networks, and return their parity with fp32; raises a ModelError if too few labels are equal."""
    extended = _with_precision(spec, folder, "fp16", lambda network, out, _: write_fp16(network, out))
    expected = [[_logits(fp32, source, number) for number in range(len(source.sweeps))] for source in sources]
    return extended, parity(load_pipeline(extended, folder, "fp16"), sources, expected, MIN_EQUAL_FP16)


def _logits(pipeline: SegmentationPipeline, source: Source, number: int) -> NDArray[np.float32]:
    sweep = source.sweeps[number]
    pipeline.follow(sweep.sensor)
    logits, valid = pipeline.logits(sweep.cloud, source.images(number))
    return logits[:, valid]


def _add_int8(
    spec: ModelSpec, folder: Path, data: DataConfig, sources: Sequence[Source], fp32: SegmentationPipeline
) -> tuple[ModelSpec, Mapping[str, Any]]:
    """Add int8 networks, and return their scores; raises a ModelError if the mean IoU drops too far."""
    inputs = _calibration_inputs(spec, folder, data)
    extended = _with_precision(spec, folder, "int8", lambda network, out, part: write_int8(network, out, inputs[part]))
    int8 = load_pipeline(extended, folder, "int8")
    scores = [(score(source, fp32), score(source, int8)) for source in sources]
    loss = max(before["miou"] - after["miou"] for before, after in scores)
    if loss > MAX_MIOU_LOSS:
        raise ModelError(f"it would lose {loss:.3f} of the mean IoU, more than {MAX_MIOU_LOSS}")
    return extended, {"choose": [after for _, after in scores]}


def _calibration_inputs(spec: ModelSpec, folder: Path, data: DataConfig) -> list[list[Inputs]]:
    """Inputs of the network and of a teacher's image branch on some training sweeps."""
    networks = load_networks(spec, folder, "onnxruntime", "fp32")
    network, branch = _InputRecorder(networks.network), networks.image_branch and _InputRecorder(networks.image_branch)
    pipeline = SegmentationPipeline(spec, network, None, branch)
    for config in data.train:
        source = few_sweeps(config, _CALIBRATION_SWEEPS, images=branch is not None)
        for number, sweep in enumerate(source.sweeps):
            pipeline.follow(sweep.sensor)
            pipeline.segment(sweep.cloud, images=source.images(number))
    return [network.recorded, branch.recorded if branch else []]


class _InputRecorder:
    """A :class:`~xmodelkd_ros.inference.backend.Backend` that records its inputs."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.precision, self.key = backend.name, backend.precision, backend.key
        self.inputs, self.outputs = backend.inputs, backend.outputs
        self.recorded: list[Inputs] = []
        self._backend = backend

    def infer(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Run the network once."""
        self.recorded.append({name: values.copy() for name, values in inputs.items()})
        return self._backend.infer(inputs)


def _with_precision(
    spec: ModelSpec, folder: Path, precision: str, write: Callable[[Path, Path, int], None]
) -> ModelSpec:
    """The model with all its networks in another precision as well.

    Args:
        spec: the model.
        folder: its folder.
        precision: its name, which becomes part of the file names.
        write: called with the fp32 file, the file to write, and 0 for the network or 1 for the image branch.
    """

    def extended(files: Mapping[str, NetworkFile], part: int) -> dict[str, NetworkFile]:
        source = folder / files["fp32"].file
        out = source.with_name(f"{source.stem}.{precision}.onnx")
        write(source, out, part)
        return {**files, precision: NetworkFile(out.name, sha256(out))}

    branch = spec.image_branch
    branch = None if branch is None else replace(branch, files=extended(branch.files, 1))
    return replace(spec, files=extended(spec.files, 0), image_branch=branch)
