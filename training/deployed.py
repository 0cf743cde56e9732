"""The networks as they are exported: with the inputs of the contract, static, of operators that TensorRT takes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from torch import Tensor, nn

from training.models.student import Student, wrap
from training.models.teacher import Teacher
from xmodelkd_ros.core.errors import ModelError
from xmodelkd_ros.core.visibility import MOST_VIEWS

OPSET = 18


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


class DeployedTeacher(nn.Module):
    """The teacher with the contract's inputs: as the student's, and what the cameras show.

    The feature maps of all cameras lie one above the other, so that a pixel costs two samples however many there are.
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(
        self, image: Tensor, points: Tensor, pixel: Tensor, maps: Tensor, places: Tensor, seen: Tensor
    ) -> Tensor:
        """``logits`` (C, P) from the student's inputs and what cameras show.

        Args:
            image: (1, K + 1, H, W).
            points: (P, K).
            pixel: (P,) int32.
            maps: (1, F, cameras * h, w) features of the images, one above the other.
            places: (2, H, W, 2) where the maps show the pixel's nearest point, -1 to 1 from edge to edge.
            seen: (2, H, W) 1 where a place is one.
        """
        grid = places.reshape(1, -1, *places.shape[2:])
        found = nn.functional.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
        found = found.reshape(1, maps.shape[1], *places.shape[:3])
        total = seen.sum(dim=0, keepdim=True)
        mean = (found * (seen / total.clamp(min=1))).sum(dim=2)
        wrapped = wrap(image)
        shape, joint = self.teacher.features(wrapped, wrap(torch.cat([mean, total.clamp(max=1)[None]], dim=1)))
        heads = ((self.teacher.lidar.head, shape), (self.teacher.head, joint))
        lidar, more = (h.label(h.tables(x, wrapped).squeeze(0), points, pixel) for h, x in heads)
        return lidar + more


def write_onnx(network: nn.Module, inputs: Mapping[str, Tensor], output: str, path: Path) -> None:
    """Write a network as one ONNX file with static shapes.

    Args:
        network: takes the inputs in this order.
        inputs: an example of each.
        output: name of what it gives.
        path: the file.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(path)
    if "pixel" in inputs:
        _gather_by_int32(model)
    _forget_origin(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def write_half(network: Path, half: Path) -> None:
    """Write a network of :func:`write_onnx` once more in 16 bits, inputs and outputs left in 32.

    Places in images stay in 32 bits too: half a pixel of a map is not to be had in 16.

    Args:
        network: ONNX file in fp32.
        half: the file to write.
    """
    model = onnx.load(network)
    places = [
        name for node in model.graph.node if node.op_type == "GridSample" for name in _made_by(model, node.input[1])
    ]
    blocked = [*DEFAULT_OP_BLOCK_LIST, "GridSample"]
    converted = convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked, node_block_list=places)
    _without_detours(converted)
    # The converter leaves its casts at the end, and types of tensors that are others now.
    OnnxModel(converted).topological_sort()
    del converted.graph.value_info[:]
    onnx.checker.check_model(converted, full_check=True)
    onnx.save(converted, half)


def _made_by(model: onnx.ModelProto, tensor: str) -> list[str]:
    """Names of the nodes that a tensor comes from."""
    node = next((node for node in model.graph.node if tensor in node.output), None)
    return [] if node is None else [node.name, *(name for input in node.input for name in _made_by(model, input))]


def _without_detours(model: onnx.ModelProto) -> None:
    """Let what takes a tensor in 32 bits take it as it was: the converter takes it through 16 bits, and back."""
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast"}
    to = {output: node.attribute[0].i for output, node in casts.items()}
    back = {
        output: casts[node.input[0]].input[0]
        for output, node in casts.items()
        if to[output] == onnx.TensorProto.FLOAT and to.get(node.input[0]) == onnx.TensorProto.FLOAT16
    }
    for node in model.graph.node:
        node.input[:] = [back.get(name, name) for name in node.input]
    used = {name for node in model.graph.node for name in node.input} | {output.name for output in model.graph.output}
    for node in [node for node in model.graph.node if node.op_type == "Cast" and node.output[0] not in used]:
        model.graph.node.remove(node)


def student_inputs(channels: int, size: tuple[int, int], points: int) -> dict[str, Tensor]:
    """Zeros in the shapes of the student's inputs: K channels, H and W, P points."""
    return {
        "image": torch.zeros(1, channels + 1, *size),
        "points": torch.zeros(points, channels),
        "pixel": torch.zeros(points, dtype=torch.int32),
    }


def camera_inputs(maps: tuple[int, int, int], cameras: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """Zeros in the shapes of the teacher's further inputs: F, h and w of an image's features, cameras, H and W."""
    features, height, width = maps
    return {
        "maps": torch.zeros(1, features, cameras * height, width),
        "places": torch.zeros(MOST_VIEWS, *size, 2),
        "seen": torch.zeros(MOST_VIEWS, *size),
    }


def _gather_by_int32(model: onnx.ModelProto) -> None:
    """Let Gather take ``pixel`` as it is: the exporter casts to int64, which TensorRT may not take."""
    nodes = model.graph.node
    made_by = {name: node for node in nodes for name in node.output}
    for gather in [node for node in nodes if node.op_type == "Gather"]:
        source = gather.input[1]
        while source != "pixel":
            node = made_by[source]
            if node.op_type not in ("Cast", "Reshape"):
                raise ModelError(f"the exported network gathers by {source}, a {node.op_type} of pixel, not by pixel")
            source = node.input[0]
            if node in nodes:  # several may gather by one
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
