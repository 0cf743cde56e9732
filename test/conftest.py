"""Fixtures that several test folders share."""

from pathlib import Path

import numpy as np
import pytest

from xmodelkd_ros.core.model_spec import DataSource, ModelSpec, NetworkFile, TensorSpec, sha256
from xmodelkd_ros.core.normalization import ChannelSpec
from xmodelkd_ros.core.projection import ProjectionSpec
from xmodelkd_ros.resources import label_map

HEIGHT, WIDTH, POINTS = 16, 128, 2000
PANDASET = Path(__file__).resolve().parents[2] / "shared" / "pandaset" / "002"


@pytest.fixture(scope="session")
def pandaset():
    """The real sequence, where it is at hand."""
    if not PANDASET.is_dir():
        pytest.skip(f"needs the PandaSet sequence in {PANDASET}")
    return PANDASET


def write_height_model(folder):
    """A real ONNX network in a model folder: points above the sensor are building, below it road.

    It reads every input of the contract, so that a pipeline that mixes them up is caught.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((13, 2), np.float32)
    weights[9, 0], weights[4, 0] = 4.0, -4.0
    constants = {
        "weights": weights,
        "flat": np.array([3, HEIGHT * WIDTH], np.int64),
        "zero": np.zeros(1, np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["table"]),
        helper.make_node("Gather", ["table", "pixel"], ["seen"], axis=1),  # (3, P) of each point's pixel
        helper.make_node("ReduceSum", ["seen"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Transpose", ["points"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["weights", "columns"], ["product"]),
        helper.make_node("Add", ["product", "nothing"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "height",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH]),
            helper.make_tensor_value_info("points", TensorProto.FLOAT, [POINTS, 2]),
            helper.make_tensor_value_info("pixel", TensorProto.INT32, [POINTS]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [13, POINTS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    spec = ModelSpec(
        name="height",
        role="student",
        files={"fp32": NetworkFile("model.onnx", sha256(folder / "model.onnx"))},
        inputs=(
            TensorSpec("image", (1, 3, HEIGHT, WIDTH), "float32"),
            TensorSpec("points", (POINTS, 2), "float32"),
            TensorSpec("pixel", (POINTS,), "int32"),
        ),
        outputs=(TensorSpec("logits", (13, POINTS), "float32"),),
        projection=ProjectionSpec(tuple(np.linspace(15, -25, HEIGHT).tolist()), WIDTH),
        channels=(ChannelSpec("z", 0.0, 1.0), ChannelSpec("intensity", 0.0, 255.0)),
        intensity_range=(0.0, 255.0),
        labels=label_map("drive13"),
        temperature=1.0,
        training_data=(DataSource("nothing", "CC0-1.0", "made by a test"),),
    )
    spec.write(folder)
    return folder


@pytest.fixture(scope="session")
def height_model(tmp_path_factory):
    """Folder of a small real model (see :func:`write_height_model`)."""
    pytest.importorskip("onnx")
    return write_height_model(tmp_path_factory.mktemp("models") / "height")
