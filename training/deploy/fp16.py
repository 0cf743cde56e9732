"""Conversion of ONNX networks to fp16."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel


def write_fp16(network: Path, out: Path) -> None:
    """Convert a network of :func:`write_onnx` to fp16, with inputs and outputs in fp32.

    Sampling positions in images stay in fp32 too: fp16 cannot resolve half a pixel of a feature map.
    """
    model = onnx.load(network)
    positions = [
        name for node in model.graph.node if node.op_type == "GridSample" for name in _ancestors(model, node.input[1])
    ]
    blocked = [*DEFAULT_OP_BLOCK_LIST, "GridSample"]
    converted = convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked, node_block_list=positions)
    _remove_cast_pairs(converted)
    # The converter appends its casts at the end, and leaves outdated tensor types.
    OnnxModel(converted).topological_sort()
    del converted.graph.value_info[:]
    onnx.checker.check_model(converted, full_check=True)
    onnx.save(converted, out)


def _ancestors(model: onnx.ModelProto, tensor: str) -> list[str]:
    """Names of the nodes that a tensor is computed by."""
    node = next((node for node in model.graph.node if tensor in node.output), None)
    return [] if node is None else [node.name, *(name for input in node.input for name in _ancestors(model, input))]


def _remove_cast_pairs(model: onnx.ModelProto) -> None:
    """Remove casts from fp32 to fp16 and back, which the converter inserts before nodes that stay in fp32."""
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
