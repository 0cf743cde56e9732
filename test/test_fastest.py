import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

from xmodelkd_ros import fastest as module
from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.fastest import fastest
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.pipeline import SegmentationPipeline

MODEL = ["a hash", "fp32"]


class Sleeper:
    """Stands in for a model in some library: so long for a sweep, and labels of its own."""

    def __init__(self, seconds, label=0):
        self.seconds, self.label, self.loaded = seconds, label, 0

    def segment(self, cloud, into=None, pictures=()):
        time.sleep(self.seconds)
        return SimpleNamespace(stages_ms={"project": 1000.0, "infer": self.seconds * 1e3})

    def logits(self, cloud, pictures=()):
        found = np.zeros((2, len(cloud)), np.float32)
        found[self.label] = 1
        return found, np.ones(len(cloud), np.bool_)


@pytest.fixture
def models(monkeypatch):
    """One for each library, both installed."""
    monkeypatch.setattr(module, "_is_installed", lambda name: True)
    monkeypatch.setattr(module, "_version", lambda name: f"{name} 1")
    return {"onnxruntime": Sleeper(0.01), "openvino": Sleeper(0.001)}


@pytest.fixture
def choose(models, tmp_path):
    def choose(model=MODEL, cameras=0):
        def load(name):
            models[name].loaded += 1
            return models[name]

        return fastest(load, model, tmp_path / "kept", cameras, least=0.995)

    return choose


def test_the_faster_one_is_taken_and_remembered(models, choose):
    choice = choose()
    assert choice.pipeline is models["openvino"]
    assert choice.reason == "openvino 1 ms a sweep, onnxruntime 10 ms a sweep, measured now"
    models["openvino"].seconds = 0.1  # it is not measured again
    choice = choose()
    assert choice.pipeline is models["openvino"]
    assert choice.reason == "openvino 1 ms a sweep, onnxruntime 10 ms a sweep, measured before"
    assert models["onnxruntime"].loaded == 1, "the slower one is not even loaded"


@pytest.mark.parametrize("change", ["model", "library", "processor", "cores"])
def test_what_changed_is_measured_again(models, choose, monkeypatch, change):
    choose()
    models["openvino"].seconds = 0.1
    if change == "library":
        monkeypatch.setattr(module, "_version", lambda name: f"{name} 2")
    if change == "processor":
        monkeypatch.setattr(module, "cpu_name", lambda: "a faster one")
    if change == "cores":
        monkeypatch.setattr(module, "cores", lambda: 99)
    assert choose(["another"] if change == "model" else MODEL).pipeline is models["onnxruntime"]


def test_one_that_labels_otherwise_is_not_taken_however_fast(models, choose):
    models["openvino"].label = 1
    choice = choose()
    assert choice.pipeline is models["onnxruntime"]
    assert "openvino not used: it gives only 0.0% of a stored sweep's points the same label" in choice.reason


@pytest.mark.parametrize("fails", ["load", "run"])
def test_one_that_does_not_take_the_model_is_left_out(models, choose, fails, monkeypatch):
    def refuse(*_):
        raise BackendError("no")

    if fails == "load":
        models["openvino"].loaded = Refusing()
    else:
        monkeypatch.setattr(models["openvino"], "logits", refuse)
    choice = choose()
    assert choice.pipeline is models["onnxruntime"]
    assert choice.reason == "onnxruntime 10 ms a sweep, openvino not used: no, measured now"


class Refusing:
    def __add__(self, _):
        raise BackendError("no")


def test_a_note_that_is_torn_or_names_another_library_is_measured_again(models, choose, tmp_path):
    choose()
    (note,) = (tmp_path / "kept").iterdir()
    for text in ("{", "[]", json.dumps({"library": "abacus", "reason": ""}), json.dumps({"library": "openvino"})):
        note.write_text(text)
        choice = choose()
        assert choice.pipeline is models["openvino"] and choice.reason.endswith("measured now")


def test_without_a_place_to_keep_it_it_is_measured_each_time(models, choose, tmp_path):
    (tmp_path / "kept").write_text("a file")
    for _ in range(2):
        choice = choose()
        assert choice.pipeline is models["openvino"] and choice.reason.endswith("measured now")


@pytest.mark.parametrize("installed", [("onnxruntime",), ("openvino",), ()])
def test_with_one_library_or_none_nothing_is_measured(models, choose, tmp_path, monkeypatch, installed):
    monkeypatch.setattr(module, "_is_installed", lambda name: name in installed)
    expected = installed[0] if installed else "onnxruntime"  # whose loader says how to install it
    choice = choose()
    assert choice.pipeline is models[expected]
    assert choice.reason == f"{expected} is the only library installed"
    assert not (tmp_path / "kept").exists()


def test_a_folder_of_the_same_name_is_no_library(monkeypatch, tmp_path):
    (tmp_path / "abacus").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not module._is_installed("abacus") and not module._is_installed("no_such_library")
    assert module._is_installed("onnxruntime")
    assert module._version("json").startswith("json 2"), "of no distribution of this name"


@pytest.mark.parametrize("model", ["height_model", "light_model"])
def test_a_real_model_runs_with_either_library(model, request, tmp_path):
    pytest.importorskip("openvino")
    pipeline = SegmentationPipeline.load(request.getfixturevalue(model), "auto", engines=EngineCache(tmp_path))
    assert pipeline.backend.name in module.LIBRARIES
    assert all(f"{name} " in pipeline.choice for name in module.LIBRARIES)
    assert "not used" not in pipeline.choice
    assert SegmentationPipeline.load(request.getfixturevalue(model), "onnxruntime").choice == ""
