"""Export of networks to ONNX."""

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
    """Export a network to one ONNX file with static shapes.

    Args:
        network: called with the inputs in this order.
        inputs: an example of each input.
        output: name of the output.
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
        _use_int32_indices(model)
    _strip_metadata(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _use_int32_indices(model: onnx.ModelProto) -> None:
    """Connect Gather to ``pixel`` directly: the exporter casts it to int64, which TensorRT may reject."""
    nodes = model.graph.node
    producers = {name: node for node in nodes for name in node.output}
    for gather in [node for node in nodes if node.op_type == "Gather"]:
        source = gather.input[1]
        while source != "pixel":
            node = producers[source]
            if node.op_type not in ("Cast", "Reshape"):
                raise ModelError(f"the exported network gathers by {source}, a {node.op_type} of pixel, not by pixel")
            source = node.input[0]
            if node in nodes:  # several Gather nodes may share it
                nodes.remove(node)
        gather.input[1] = "pixel"
    used = {name for node in nodes for name in node.input}
    for initializer in [i for i in model.graph.initializer if i.name not in used]:
        model.graph.initializer.remove(initializer)


def _strip_metadata(model: onnx.ModelProto) -> None:
    """Remove the exporter's metadata, which holds local paths and makes the file's bytes vary."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
