"""ONNX files in 16 bits."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel


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
