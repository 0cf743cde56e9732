"""From a training run to a model folder: ``python -m training.export RUN OUT_DIR``."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.checkpoint import Checkpoint, read_checkpoint
from training.command import run_command
from training.data.sources import Source, load_source
from training.data.sweeps import InputSpec, WholeSweeps
from training.label_sets import scored_labels
from training.models.student import Student, wrap
from training.modules import StudentTraining
from training.whole_folder import whole_folder
from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.labels import IGNORE
from xmodelkd_ros.core.model_spec import ModelSpec, NetworkFile, TensorSpec, sha256
from xmodelkd_ros.inference.backend import Backend, load_backend
from xmodelkd_ros.pipeline import SegmentationPipeline
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.tools.score import Scores

NETWORK = "model.onnx"
OPSET = 18
MIN_EQUAL_LABELS = 0.999
"""Share of points that must get the same label from the exported network as from the trained one."""

_TEMPERATURES = (0.1, 10.0)
"""Outside of this a network says nothing: one of a few steps would be best with all classes equally likely."""


class DeployedStudent(nn.Module):
    """The student with the contract's inputs: one sweep, no batch dimension on points and pixels."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, image: Tensor, points: Tensor, pixel: Tensor) -> Tensor:
        """``logits`` (C, P) of ``image`` (1, K + 1, H, W), ``points`` (P, K) and ``pixel`` (P,)."""
        wrapped = wrap(image)
        table = self.student.head.tables(self.student.dense(wrapped), wrapped).squeeze(0)
        return self.student.head.label(table, points, pixel)


def student_of(checkpoint: Checkpoint) -> Student:
    """The network with averaged weights, ready for inference in fp32; errors as in :meth:`Checkpoint.load_into`."""
    module = StudentTraining(**checkpoint.arguments)
    checkpoint.load_into(module)
    return module.student.float().eval()


def write_onnx(student: Student, inputs: InputSpec, max_points: int, path: Path) -> None:
    """Write the network as one ONNX file with static shapes."""
    channels, size = len(inputs.channels), (inputs.projection.height, inputs.projection.width)
    example = (
        torch.zeros(1, channels + 1, *size),
        torch.zeros(max_points, channels),
        torch.zeros(max_points, dtype=torch.int32),
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            DeployedStudent(student).eval(),
            example,
            str(path),
            input_names=["image", "points", "pixel"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(path)
    _gather_by_int32(model)
    _forget_origin(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _gather_by_int32(model: onnx.ModelProto) -> None:
    """Let Gather take ``pixel`` as it is: the exporter casts to int64, which TensorRT may not take."""
    nodes = model.graph.node
    for gather in [node for node in nodes if node.op_type == "Gather"]:
        source = gather.input[1]
        while source != "pixel":
            node = next(n for n in nodes if source in n.output)
            if node.op_type not in ("Cast", "Reshape"):
                raise ModelError(f"the exported network gathers by {source}, a {node.op_type} of pixel, not by pixel")
            source = node.input[0]
            nodes.remove(node)
        gather.input[1] = "pixel"
    used = {name for node in nodes for name in node.input}
    for initializer in [i for i in model.graph.initializer if i.name not in used]:
        model.graph.initializer.remove(initializer)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about where it ran: paths of this machine, and the file's bytes would vary."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]


def torch_logits(student: Student, sweeps: WholeSweeps) -> list[NDArray[np.float32]]:
    """(C, N) logits of each sweep from PyTorch in fp32."""
    with torch.inference_mode():
        return [
            student(*(torch.from_numpy(batch[name]) for name in ("image", "points", "pixel")))[0].numpy()
            for batch in (sweeps[i] for i in range(len(sweeps)))
        ]


def parity(
    backend: Backend, max_points: int, sweeps: WholeSweeps, expected: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    """Compare a back end with PyTorch.

    Raises:
        ModelError: too many points got another label.
    """
    equal, points, difference = 0, 0, 0.0
    for batch, logits in zip((sweeps[i] for i in range(len(sweeps))), expected, strict=True):
        count = min(logits.shape[1], max_points)
        padded = np.zeros((max_points, batch["points"].shape[2]), np.float32)
        padded[:count] = batch["points"][0, :count]
        pixel = np.zeros(max_points, np.int32)
        pixel[:count] = batch["pixel"][0, :count]
        found = backend.infer({"image": batch["image"], "points": padded, "pixel": pixel})["logits"][:, :count]
        equal += int(np.count_nonzero(found.argmax(axis=0) == logits[:, :count].argmax(axis=0)))
        points += count
        difference = max(difference, float(np.abs(found - logits[:, :count]).max()))
    if equal < MIN_EQUAL_LABELS * points:
        raise ModelError(f"the exported network labels only {equal} of {points} points as PyTorch does; do not use it")
    return {"equal_labels": equal / points, "largest_logit_difference": difference, "points": points}


def fit_temperature(logits: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.uint8]]) -> float:
    """The temperature that minimises the negative log-likelihood of the labels (Guo et al. 2017)."""
    flat = torch.from_numpy(np.concatenate(logits, axis=1)).T
    target = torch.from_numpy(np.concatenate(labels)).long()
    known = target != IGNORE
    flat, target = flat[known], target[known]
    log_temperature = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=30, line_search_fn="strong_wolfe")

    def negative_log_likelihood() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(flat / log_temperature.exp(), target)
        loss.backward()
        return loss

    optimizer.step(negative_log_likelihood)
    return round(float(np.clip(log_temperature.exp().item(), *_TEMPERATURES)), 4)


def export(run: Path, out: Path) -> ModelSpec:
    """Write a model folder; an older one in its place is replaced only when the new one is complete.

    Raises:
        ConfigError: the run holds no checkpoint, or nothing can be written there.
        ModelError: the exported network does not do what the trained one does.
    """
    trained = read_checkpoint(run)
    config, inputs, student = trained.config, trained.inputs, student_of(trained)
    with whole_folder(out) as folder:
        sources = [load_source(source, "choose", labels=config.label_set) for source in config.data.choose]
        sweeps = WholeSweeps([sweep for source in sources for sweep in source.sweeps], inputs)
        write_onnx(student, inputs, config.model.max_points, folder / NETWORK)
        logits = torch_logits(student, sweeps)
        first = range(len(sources[0].sweeps))
        temperature = fit_temperature(logits[: len(first)], [sweeps[i]["labels"][0] for i in first])
        spec = _spec(trained, temperature, folder / NETWORK)
        backend = load_backend(spec, folder)
        metrics = {"parity": parity(backend, spec.max_points, sweeps, logits)}
        pipeline = SegmentationPipeline(spec, backend)
        metrics["choose"] = [_score(source, pipeline) for source in sources]
        spec = replace(spec, metrics={"command": f"python -m training.export {run} {out}", **metrics})
        spec.write(folder)
    return spec


def _spec(trained: Checkpoint, temperature: float, network: Path) -> ModelSpec:
    config, inputs = trained.config, trained.inputs
    labels, channels, points = label_map(config.label_set), len(inputs.channels), config.model.max_points
    image = (1, channels + 1, inputs.projection.height, inputs.projection.width)
    return ModelSpec(
        name=config.name,
        role="student",
        files={"fp32": NetworkFile(network.name, sha256(network))},
        inputs=(
            TensorSpec("image", image, "float32"),
            TensorSpec("points", (points, channels), "float32"),
            TensorSpec("pixel", (points,), "int32"),
        ),
        outputs=(TensorSpec("logits", (len(labels), points), "float32"),),
        projection=inputs.projection,
        channels=inputs.channels,
        intensity_range=inputs.intensity_range,
        labels=labels,
        temperature=temperature,
        training_data=trained.origins,
    )


def _score(source: Source, pipeline: SegmentationPipeline) -> dict[str, Any]:
    scores = Scores(pipeline.labels, label_map(scored_labels(pipeline.labels.name)))
    for sweep in source.sweeps:
        result = pipeline.segment(sweep.cloud)
        scores.add(sweep.cloud, result.segmentation, sweep.labels, stages_ms=result.stages_ms, mode=result.mode)
    metrics = scores.metrics(pipeline.spec, pipeline.backend.name, pipeline.backend.precision)
    kept = {name: metrics[name] for name in ("label_set", "miou", "iou", "points", "ece")}
    return {"data": str(source.config), **kept}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 0 on success only."""
    parser = argparse.ArgumentParser("python -m training.export", description="Write a model folder from a run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the training run")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="model folder to write or replace")
    options = parser.parse_args(argv)

    def work() -> str:
        spec = export(options.run, options.out)
        check = spec.metrics["parity"]
        scores = ", ".join(f"{s['miou']:.3f} on {s['data']}" for s in spec.metrics["choose"])
        return (
            f"{options.out}: equal labels {100 * check['equal_labels']:.3f} %, "
            f"largest logit difference {check['largest_logit_difference']:.2e}, temperature {spec.temperature}, "
            f"mIoU ({scored_labels(spec.labels.name)}) {scores}"
        )

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
