import numpy as np
import pytest

from xmodelkd_ros.core.errors import BackendError, ModelError
from xmodelkd_ros.core.model_spec import ModelSpec, NetworkFile, sha256
from xmodelkd_ros.inference.backend import load_networks
from xmodelkd_ros.inference.onnxruntime import OnnxRuntimeBackend


def test_loads_a_model(height_model):
    backend = load_networks(ModelSpec.read(height_model), height_model).network
    assert (backend.name, backend.precision) == ("onnxruntime", "fp32")
    assert {t.name for t in backend.inputs} == {"image", "points", "pixel"}


@pytest.mark.parametrize(
    ("backend", "precision", "word"),
    [("abacus", "auto", "abacus"), ("auto", "auto", "auto"), ("onnxruntime", "int3", "int3")],
)
def test_rejects_unknown_back_ends_and_precisions(height_model, backend, precision, word):
    with pytest.raises(BackendError, match=word):
        load_networks(ModelSpec.read(height_model), height_model, backend, precision)


def test_damaged_network_is_a_one_line_error(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\x08\x09 this is no network")
    with pytest.raises(BackendError, match=r"cannot load .*model\.onnx") as error:
        OnnxRuntimeBackend(tmp_path / "model.onnx", "fp32")
    assert "\n" not in str(error.value)


def test_rejects_networks_with_another_shape(height_model, tmp_path):
    import onnx

    network = onnx.load(height_model / "model.onnx")
    network.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 64
    network.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 32
    onnx.save(network, tmp_path / "model.onnx")
    spec = ModelSpec.read(height_model)
    object.__setattr__(spec, "files", {"fp32": NetworkFile("model.onnx", sha256(tmp_path / "model.onnx"))})
    with pytest.raises(ModelError, match="image"):
        load_networks(spec, tmp_path)


def test_wrong_inputs_raise_backend_error(height_model):
    backend = load_networks(ModelSpec.read(height_model), height_model).network
    with pytest.raises(BackendError, match="onnxruntime failed"):
        backend.infer({"image": np.zeros((1, 1), np.float32)})
