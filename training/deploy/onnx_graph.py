"""ONNX files of networks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from xmodelkd_ros.core.errors import ModelError

OPSET = 18


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
