"""int8 quantisation of networks, for CPUs."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from training.deploy.int8 import write_int8  # noqa: E402
from training.deploy.onnx_graph import write_onnx  # noqa: E402


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network of three convolutions, the last with a second input, and example inputs of up to 100."""
    torch.manual_seed(0)

    class Three(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = (torch.nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 11))

        def forward(self, image, more):
            x = torch.relu(self.two(torch.relu(self.one(image))))
            return self.three(torch.cat([x, more], dim=1))

    rng = np.random.default_rng(0)
    examples = [
        {
            "image": rng.uniform(0, 100, (1, 3, 16, 32)).astype(np.float32),
            "more": rng.normal(size=(1, 3, 16, 32)).astype(np.float32),
        }
        for _ in range(4)
    ]
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    write_onnx(Three(), {name: torch.from_numpy(x) for name, x in examples[0].items()}, "out", path)
    return path, examples


def run(path, inputs):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def test_all_convolutions_except_the_first_are_quantised(network, tmp_path):
    path, examples = network
    quantized = tmp_path / "model.int8.onnx"
    write_int8(path, quantized, examples[:3])
    graph = onnx.load(quantized).graph
    producers = {output: node for node in graph.node for output in node.output}
    inputs = [producers.get(node.input[0]) for node in graph.node if node.op_type == "Conv"]
    assert [producer and producer.op_type for producer in inputs] == [None, "DequantizeLinear", "DequantizeLinear"]
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    quantised_weights = [w for w in weights.values() if w.dtype == np.int8 and w.ndim == 4]
    assert len(quantised_weights) == 2 and all(np.abs(w.astype(int)).max() <= 64 for w in quantised_weights), "7 bits"


def test_depthwise_convolutions_stay_in_fp32(tmp_path):
    separable = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, padding=1, groups=8),
        torch.nn.Conv2d(8, 8, 1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, padding=1, groups=2),
    )
    image = np.random.default_rng(0).uniform(size=(1, 3, 16, 32)).astype(np.float32)
    write_onnx(separable, {"image": torch.from_numpy(image)}, "out", tmp_path / "model.onnx")
    write_int8(tmp_path / "model.onnx", tmp_path / "model.int8.onnx", [{"image": image}])
    graph = onnx.load(tmp_path / "model.int8.onnx").graph
    producers = {output: node for node in graph.node for output in node.output}
    weights = [producers.get(node.input[1]) for node in graph.node if node.op_type == "Conv"]
    assert [producer is not None for producer in weights] == [False, False, True, True]  # others are in fp32


def test_outputs_are_close_for_new_inputs(network, tmp_path):
    path, examples = network
    quantized = tmp_path / "model.int8.onnx"
    write_int8(path, quantized, examples[:3])
    before, after = run(path, examples[3]), run(quantized, examples[3])
    assert 0 < np.abs(after - before).max() < 0.1 * np.abs(before).max()
