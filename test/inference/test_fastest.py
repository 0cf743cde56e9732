import json
import time

import numpy as np
import pytest

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.model_spec import ModelSpec, TensorSpec
from xmodelkd_ros.inference import fastest
from xmodelkd_ros.inference.backend import load_networks
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.inference.fastest import FastestLoader


class Sleeper:
    """Stands in for a library: it takes a network and so long for a run."""

    inputs = (TensorSpec("image", (1, 2), "float32"),)

    def __init__(self, seconds):
        self.seconds, self.loaded = seconds, 0

    def __call__(self, path, precision):
        self.loaded += 1
        return self

    def infer(self, inputs):
        assert inputs["image"].shape == (1, 2)
        time.sleep(self.seconds)
        return {}


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a network")
    return path


@pytest.fixture
def two(monkeypatch):
    """Two libraries that are installed, whatever they do here."""
    monkeypatch.setattr(fastest, "find_spec", lambda name: name in ("onnx", "numpy"))
    return {"onnx": Sleeper(0.01), "numpy": Sleeper(0.001), "missing": Sleeper(0)}


def test_the_faster_one_is_taken_and_remembered(two, network, tmp_path):
    load = FastestLoader(two, tmp_path / "kept")
    assert load(network, "fp32") is two["numpy"]
    assert two["missing"].loaded == 0
    (reason,) = load.reasons
    assert reason.startswith("model.onnx: numpy ") and reason.endswith(" ms, measured now") and ", onnx 1" in reason
    again = FastestLoader(two, tmp_path / "kept")
    two["numpy"].seconds = 0.1  # it is not measured again
    assert again(network, "fp32") is two["numpy"]
    assert again.reasons[0].endswith("measured before")
    assert two["onnx"].loaded == 1, "the slower one is not even loaded"


@pytest.mark.parametrize("change", ["network", "precision", "processor"])
def test_what_changed_is_measured_again(two, network, tmp_path, monkeypatch, change):
    FastestLoader(two, tmp_path / "kept")(network, "fp32")
    two["numpy"].seconds = 0.1
    if change == "network":
        network.write_bytes(b"another")
    if change == "processor":
        monkeypatch.setattr(fastest, "cpu_name", lambda: "a faster one")
    load = FastestLoader(two, tmp_path / "kept")
    assert load(network, "int8" if change == "precision" else "fp32") is two["onnx"]


def test_a_note_that_is_torn_or_names_another_library_is_measured_again(two, network, tmp_path):
    FastestLoader(two, tmp_path / "kept")(network, "fp32")
    (note,) = (tmp_path / "kept").iterdir()
    for text in ("{", "[]", json.dumps({"abacus": 0.1}), json.dumps({"onnx": "soon"})):
        note.write_text(text)
        load = FastestLoader(two, tmp_path / "kept")
        assert load(network, "fp32") is two["numpy"]
        assert load.reasons[0].endswith("measured now")


def test_without_a_place_to_keep_it_it_is_measured_each_time(two, network, tmp_path):
    (tmp_path / "kept").write_text("a file")
    for _ in range(2):
        load = FastestLoader(two, tmp_path / "kept")
        assert load(network, "fp32") is two["numpy"]
        assert load.reasons[0].endswith("measured now")


def test_a_library_that_does_not_take_the_network_is_left_out(two, network, tmp_path):
    def refuses(path, precision):
        raise BackendError("no")

    load = FastestLoader({**two, "numpy": refuses}, tmp_path / "kept")
    assert load(network, "fp16") is two["onnx"]
    assert load.reasons == ["model.onnx: onnx, the only one that takes it in fp16"]
    with pytest.raises(BackendError):
        FastestLoader({"onnx": refuses, "numpy": two["numpy"]}, tmp_path / "kept")(network, "fp32")


def test_with_one_library_nothing_is_measured(two, network, tmp_path, monkeypatch):
    monkeypatch.setattr(fastest, "find_spec", lambda name: name == "onnx")
    load = FastestLoader(two, tmp_path / "kept")
    assert load(network, "fp32") is two["onnx"]
    assert load.reasons == ["model.onnx: onnx, the only one installed"]
    assert not (tmp_path / "kept").exists()


def test_a_real_network_runs_with_either_library(height_model, tmp_path):
    pytest.importorskip("openvino")
    spec = ModelSpec.read(height_model)
    networks = load_networks(spec, height_model, engines=EngineCache(tmp_path))
    assert networks.network.name in ("onnxruntime", "openvino")
    assert "onnxruntime " in networks.reasons[0] and "openvino " in networks.reasons[0]
    zeros = {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in spec.inputs}
    assert networks.network.infer(zeros)["logits"].shape == spec.outputs[0].shape
    assert load_networks(spec, height_model, "onnxruntime").reasons == ()
