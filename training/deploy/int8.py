"""Static int8 quantisation of ONNX networks for CPUs (Jacob et al. 2018)."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Inputs = Mapping[str, NDArray[Any]]
"""Inputs of one run of a network, by name."""


def write_int8(network: Path, quantized: Path, examples: Sequence[Inputs]) -> None:
    """Quantise the convolutions of a network to int8, with ranges from example inputs; inputs and outputs stay in fp32.

    Activations are unsigned with a zero point, weights signed with a scale per channel. Weights use 7 bits, because
    CPUs without VNNI add two products in 16 bits. The first convolutions stay in fp32: positions and intensities have
    too wide a range, and these layers are cheap. Depthwise convolutions stay in fp32 as well: they are a tenth of the
    multiplications of a separable network, and quantising them would cost ten points of mIoU.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(network), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantized),
            _Examples(examples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[*_first_convolutions(onnx.load(prepared)), *_depthwise(onnx.load(prepared))],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
    model = onnx.load(quantized)
    onnx.checker.check_model(model, full_check=True)


def _first_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that depend on no other convolution."""
    convolved: dict[str, bool] = {}
    """Whether a tensor depends on a convolution."""
    for node in model.graph.node:  # in topological order
        depends = node.op_type == "Conv" or any(convolved.get(name, False) for name in node.input)
        convolved.update(dict.fromkeys(node.output, depends))
    return [
        node.name for node in model.graph.node if node.op_type == "Conv" and not convolved.get(node.input[0], False)
    ]


def _depthwise(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions whose outputs each depend on one input channel."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if list(shapes.get(node.input[1], ()))[1:2] == [1]]


class _Examples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, examples: Sequence[Inputs]) -> None:
        self._next = iter(examples)

    def get_next(self) -> Inputs | None:
        """The next example, or None at the end."""
        return next(self._next, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings that the network was not preprocessed."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
