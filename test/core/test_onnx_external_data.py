"""External tensors are found wherever ONNX allows tensors."""

import numpy as np
import pytest

from xmodelkd_ros.core.onnx_external_data import has_external_data
from xmodelkd_ros.resources import find_model

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def external_tensor(name="w"):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="other.bin")
    return tensor


def graph(nodes=(), weights=()):
    return helper.make_graph(list(nodes), "g", [], [], list(weights))


def constant(**attribute):
    return helper.make_node("Constant", [], ["c"], **attribute)


SPARSE = onnx.SparseTensorProto(values=external_tensor(), dims=[4])
GRAPHS = {
    "weight": graph(weights=[external_tensor()]),
    "constant": graph([constant(value=external_tensor())]),
    "list of tensors": graph([helper.make_node("Odd", [], ["c"], many=[external_tensor(), external_tensor()])]),
    "sparse": graph([constant(sparse_value=SPARSE)]),
    "branch": graph([helper.make_node("If", ["x"], ["y"], then_branch=graph([constant(value=external_tensor())]))]),
}


def model(graph, **more):
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], **more)


@pytest.mark.parametrize("kind", GRAPHS)
def test_finds_external_tensors(kind):
    assert has_external_data(model(GRAPHS[kind]).SerializeToString())


def test_finds_external_tensors_in_functions_and_training_info():
    function = helper.make_function(
        "own", "F", [], ["c"], [constant(value=external_tensor())], [helper.make_opsetid("", 17)]
    )
    assert has_external_data(model(graph(), functions=[function]).SerializeToString())
    trained = model(graph())
    trained.training_info.add().algorithm.CopyFrom(GRAPHS["constant"])
    assert has_external_data(trained.SerializeToString())


def test_finds_tensors_with_a_location_only():
    tensor = external_tensor()
    tensor.ClearField("data_location")
    assert has_external_data(model(graph(weights=[tensor])).SerializeToString())


@pytest.mark.parametrize("name", ["student/model.onnx", "teacher/model.onnx", "teacher/image_branch.onnx"])
def test_shipped_networks_have_no_external_data(name):
    folder, file = name.split("/")
    network = (find_model(folder) / file).read_bytes()
    assert not has_external_data(network)
    named = onnx.load_from_string(network)
    named.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "external_data location"))
    assert not has_external_data(named.SerializeToString()), "names do not matter"


@pytest.mark.parametrize(
    "data", [b"", b"network", b"\x3a\xff\xff\xff\xff\x0f", b"\x80" * 50, b"\x3a\x05abc", bytes(100)]
)
def test_other_data_has_no_external_data(data):
    assert not has_external_data(data)
