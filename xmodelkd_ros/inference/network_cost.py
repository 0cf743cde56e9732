"""Computational cost of a network, from its ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any


def gflop(path: Path) -> float | None:
    """GFLOP of one run (a multiply-add counts as two operations); None if the ``onnx`` package is not installed.

    Counts convolutions and matrix products, which dominate.
    """
    try:
        import onnx
    except ImportError:
        return None
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph
    shapes = {v.name: _shape(v) for v in (*graph.input, *graph.value_info, *graph.output)}
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})
    return float(sum(_multiplications(node, shapes) for node in graph.node) * 2 / 1e9)


def _multiplications(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    left, right, output = (shapes.get(name, ()) for name in (node.input[0], node.input[1], node.output[0]))
    if not (left and right and output):
        return 0
    if node.op_type == "Conv":
        # Weights are (out, in / group, kernel...): each output value needs in / group * kernel products.
        return prod(output) * prod(right[1:])
    if node.op_type == "ConvTranspose":
        # Weights are (in, out / group, kernel...): each input value enters out / group * kernel products.
        return prod(left) * prod(right[1:])
    transposed = node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
    return prod(output) * left[-2 if transposed else -1]


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
