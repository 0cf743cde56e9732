"""Networks in 8 bits for CPUs: static quantisation of their convolutions (Jacob et al. 2018)."""

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
"""What a network takes in one run, by name."""


def write_int8(network: Path, quantized: Path, examples: Sequence[Inputs]) -> None:
    """Write a network once more with its convolutions in 8 bits, inputs and outputs left in fp32.

    Activations are unsigned with a zero point of their own, weights signed, a scale for each channel. Weights use 7
    bits, because processors without VNNI add two products in 16 bits. Convolutions that take what comes in stay in
    fp32: positions and intensities have too wide a range, and they cost little. So do depthwise ones: a tenth of the
    products of a separable network, they would cost it ten points of mIoU.

    Args:
        network: ONNX file in fp32.
        quantized: the file to write.
        examples: inputs of some runs, whose activations give the ranges.
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
    """Names of those that no other convolution comes before."""
    behind: dict[str, bool] = {}
    """Whether a convolution lies behind a tensor."""
    for node in model.graph.node:  # in topological order
        is_behind = node.op_type == "Conv" or any(behind.get(name, False) for name in node.input)
        behind.update(dict.fromkeys(node.output, is_behind))
    return [node.name for node in model.graph.node if node.op_type == "Conv" and not behind.get(node.input[0], False)]


def _depthwise(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions each of whose outputs looks at one input channel."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if list(shapes.get(node.input[1], ()))[1:2] == [1]]


class _Examples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, examples: Sequence[Inputs]) -> None:
        self._next = iter(examples)

    def get_next(self) -> Inputs | None:
        """As ONNX Runtime asks for them."""
        return next(self._next, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of a preprocessing that has been done."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
