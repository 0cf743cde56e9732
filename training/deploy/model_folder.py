"""Export of a trained network to a model folder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.feature_bank import MAX_CAMERAS
from training.data.sources import Source, load_source
from training.data.sweeps import InputSpec, WholeSweeps, projector_of, with_point_ids
from training.deploy.calibration import fit_temperature
from training.deploy.onnx_graph import write_onnx
from training.deploy.onnx_modules import ExportableStudent, ExportableTeacher, camera_inputs, student_inputs
from training.deploy.parity import load_pipeline, parity, score
from training.deploy.reduced_precision import add_precisions
from training.deploy.statistics import training_statistics
from training.models.image_branch import IMAGE_SIZE, ImageBranch
from training.modules.checkpoint import Checkpoint, read_checkpoint
from training.modules.point_modules import StudentModule, TeacherModule
from training.predict.predictor import Predictor, predictor_of, tensors
from xmodelkd_ros.core.atomic_write import atomic_dir
from xmodelkd_ros.core.errors import ConfigError, ModelError
from xmodelkd_ros.core.model_spec import (
    CLASS_TEACHER,
    SCHEMA,
    ImageBranchSpec,
    ModelSpec,
    NetworkFile,
    TensorSpec,
    sha256,
)
from xmodelkd_ros.core.projection import NO_PIXEL
from xmodelkd_ros.resources import label_map

NETWORK, IMAGE_NETWORK = "model.onnx", "image_branch.onnx"
MIN_EQUAL_LABELS = 0.999
"""Minimum share of points with equal labels from the exported and the trained network."""


def torch_logits(network: Predictor, source: Source) -> list[NDArray[np.float32]]:
    """(C, N) logits of the points with a usable position in each sweep, from PyTorch in fp32."""
    (sweeps,) = with_point_ids([source.sweeps], [True])
    whole = WholeSweeps(sweeps, network.inputs, network.feature_bank(sweeps, source.encoded_images))
    with torch.inference_mode():
        return [network.module.predict(tensors(whole[i])).logits[0].numpy() for i in range(len(whole))]


def export(run: Path, out: Path, temperature: float | None = None) -> ModelSpec:
    """Export the last checkpoint of a run.

    Args:
        run: the run's folder.
        out: the model folder, replaced once the new one is complete.
        temperature: of the probabilities; None fits one to the run's first validation source.

    Raises:
        ConfigError: the run holds no checkpoint, or the folder cannot be written or holds something else than a model.
        ModelError: the exported network does not give the labels of the trained one.
    """
    return export_checkpoint(read_checkpoint(run), out, temperature)


def export_checkpoint(trained: Checkpoint, out: Path, temperature: float | None = None) -> ModelSpec:
    """Export a checkpoint; arguments and errors as of :func:`export`."""
    _check_replaceable(out)
    network, run = predictor_of(trained), trained.path.parent
    with atomic_dir(out) as folder:
        images, labels = network.reader is not None, trained.config.label_set
        sources = [load_source(source, "validation", images, labels) for source in trained.config.data.validation]
        spec = _write_networks(trained, network, folder)
        expected = [torch_logits(network, source) for source in sources]
        if temperature is None:
            temperature = fit_temperature(expected[0], _labels(sources[0], network.inputs))
        spec = replace(spec, temperature=temperature)
        pipeline = load_pipeline(spec, folder, "fp32")
        metrics: dict[str, Any] = {"command": f"python -m training.export {run} {out}"}
        metrics["parity"] = parity(pipeline, sources, expected, MIN_EQUAL_LABELS)
        metrics["choose"] = [score(source, pipeline) for source in sources]
        statistics = training_statistics(pipeline, trained.config.data, metrics["command"])
        spec = replace(spec, metrics=metrics, statistics=statistics)
        spec = add_precisions(spec, folder, trained.config.data, sources, metrics["command"])
        spec.write(folder)
        trained.write(folder)
    return spec


def export_class_teacher(trained: Checkpoint, out: Path) -> None:
    """Write the folder of a teacher of classes, which only trains students: checkpoint, name and origins.

    Raises:
        ConfigError: the run is not finished, or the folder cannot be written or holds something else than a model.
    """
    _check_replaceable(out)
    trained.state.check_finished("the teacher")
    data = {
        "schema": SCHEMA,
        "name": trained.config.name,
        "role": CLASS_TEACHER,
        "training_data": [asdict(origin) for origin in trained.origins],
        "metrics": {"command": f"python -m training.export {trained.path.parent} {out}"},
    }
    with atomic_dir(out) as folder:
        (folder / "model.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        trained.write(folder)


def _check_replaceable(out: Path) -> None:
    """Raise a ConfigError unless only a model folder, an empty folder or nothing would be replaced."""
    is_model = (out / "model.json").is_file()
    if out.exists() and not is_model and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} exists and is no model folder; choose another folder, or remove it")


def _write_networks(trained: Checkpoint, network: Predictor, folder: Path) -> ModelSpec:
    """Write the ONNX files and return the specification of the model."""
    inputs, points = trained.inputs, trained.config.model.max_points
    size = (inputs.projection.height, inputs.projection.width)
    examples = student_inputs(len(inputs.channels), size, points)
    image_branch, exportable = None, _exportable(network)
    if isinstance(network.reader, ImageBranch):
        image_branch = _write_image_branch(network.reader, folder)
        examples |= camera_inputs(image_branch.features.shape[1:], MAX_CAMERAS, size)
    write_onnx(exportable, examples, "logits", folder / NETWORK)
    labels = label_map(trained.config.label_set)
    return ModelSpec(
        name=trained.config.name,
        role="teacher" if image_branch else "student",
        files=_files(NETWORK, folder),
        inputs=tuple(_tensor_spec(name, tensor) for name, tensor in examples.items()),
        outputs=(TensorSpec("logits", (len(labels), points), "float32"),),
        projection=inputs.projection,
        channels=inputs.channels,
        intensity_range=inputs.intensity_range,
        labels=labels,
        temperature=1.0,
        training_data=trained.origins,
        image_branch=image_branch,
    )


def _exportable(network: Predictor) -> nn.Module:
    """The network with the model contract's inputs; raises a ModelError for a teacher without an image branch."""
    if isinstance(network.module, StudentModule):
        return ExportableStudent(network.module.student.float())
    if not isinstance(network.reader, ImageBranch) or not isinstance(network.module, TeacherModule):
        raise ModelError(
            "only a teacher with an image branch runs on a vehicle; this one can teach a student (distill.teacher)"
        )
    return ExportableTeacher(network.module.teacher.float())


def _write_image_branch(branch: ImageBranch, folder: Path) -> ImageBranchSpec:
    image = torch.zeros(1, 3, *IMAGE_SIZE)
    with torch.inference_mode():
        features = branch(image)
    write_onnx(branch, {"picture": image}, "features", folder / IMAGE_NETWORK)
    return ImageBranchSpec(
        files=_files(IMAGE_NETWORK, folder),
        picture=_tensor_spec("picture", image),
        features=_tensor_spec("features", features),
        cameras=MAX_CAMERAS,
    )


def _files(name: str, folder: Path) -> dict[str, NetworkFile]:
    return {"fp32": NetworkFile(name, sha256(folder / name))}


def _tensor_spec(name: str, tensor: Tensor) -> TensorSpec:
    return TensorSpec(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _labels(source: Source, inputs: InputSpec) -> list[NDArray[np.uint8]]:
    """Labels of the points with a usable position in each sweep."""
    return [
        sweep.labels[projector_of(inputs.projection, sweep.sensor).project(sweep.cloud).pixel != NO_PIXEL]
        for sweep in source.sweeps
    ]
