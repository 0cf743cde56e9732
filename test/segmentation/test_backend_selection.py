import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.segmentation import backend_selection as module
from xmodelkd_ros.segmentation.backend_selection import BackendChoice, measure, select_backend
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


class Sleeper:
    """Stands in for a model in some library: so long for a sweep, and labels of its own."""

    def __init__(self, seconds, label=0):
        self.seconds, self.label = seconds, label

    def segment(self, cloud, into=None, pictures=()):
        time.sleep(self.seconds)
        return SimpleNamespace(stages_ms={"project": 1000.0, "infer": self.seconds * 1e3})

    def logits(self, cloud, pictures=()):
        found = np.zeros((2, len(cloud)), np.float32)
        found[self.label] = 1
        return found, np.ones(len(cloud), np.bool_)


def refuse(*_):
    raise BackendError("no")


def test_the_faster_one_is_taken():
    models = {"onnxruntime": Sleeper(0.01), "openvino": Sleeper(0.001)}
    assert measure(models.get, 0, 0.995) == ("openvino", "openvino 1 ms a sweep, onnxruntime 10 ms a sweep")
    models["openvino"].seconds = 0.1
    assert measure(models.get, 0, 0.995).backend == "onnxruntime"


def test_one_that_labels_otherwise_is_not_taken_however_fast():
    models = {"onnxruntime": Sleeper(0.01), "openvino": Sleeper(0.001, label=1)}
    backend, reason = measure(models.get, 0, 0.995)
    assert backend == "onnxruntime"
    assert "openvino not used: it gives only 0.0% of a stored sweep's points the same label" in reason


@pytest.mark.parametrize("fails", ["load", "run"])
def test_one_that_does_not_take_the_model_is_left_out(fails, monkeypatch):
    models = {"onnxruntime": Sleeper(0.01), "openvino": Sleeper(0.001)}
    monkeypatch.setattr(models["openvino"], "logits", refuse)
    load = models.get if fails == "run" else lambda name: refuse() if name == "openvino" else models[name]
    assert measure(load, 0, 0.995) == ("onnxruntime", "onnxruntime 10 ms a sweep, openvino not used: no")


QUICK = BackendChoice("openvino", "it is quick")


@pytest.fixture
def choose(monkeypatch, tmp_path):
    """Chooses between two libraries that are installed; ``found`` is what the next measurement finds."""
    monkeypatch.setattr(module, "_is_installed", lambda name: True)
    monkeypatch.setattr(module, "_version", lambda name: f"{name} 1")

    def choose(model=b"{}", precision="fp32", found=QUICK):
        (tmp_path / "model.json").write_bytes(model)
        monkeypatch.setattr(module, "_measured_apart", lambda *_: found)
        return select_backend(tmp_path, precision, tmp_path / "kept", lambda line: None)

    return choose


def test_what_was_measured_is_kept(choose):
    assert choose() == ("openvino", "it is quick, measured now")
    assert choose(found=BackendChoice("onnxruntime", "")) == ("openvino", "it is quick, measured before")


@pytest.mark.parametrize("change", ["model", "precision", "library", "processor", "cores"])
def test_what_changed_is_measured_again(choose, monkeypatch, change):
    choose()
    if change == "library":
        monkeypatch.setattr(module, "_version", lambda name: f"{name} 2")
    if change == "processor":
        monkeypatch.setattr(module, "cpu_name", lambda: "a faster one")
    if change == "cores":
        monkeypatch.setattr(module, "cores", lambda: 99)
    changed = {"model": {"model": b"another"}, "precision": {"precision": "int8"}}.get(change, {})
    assert choose(**changed, found=BackendChoice("onnxruntime", "now")).backend == "onnxruntime"


def test_a_note_that_is_torn_or_names_another_library_is_measured_again(choose, tmp_path):
    choose()
    (note,) = (tmp_path / "kept").iterdir()
    for text in (
        "{",
        "[]",
        "[" * 100_000,
        json.dumps({"backend": "abacus", "reason": ""}),
        json.dumps({"backend": "openvino"}),
    ):
        note.write_text(text)
        assert choose().reason.endswith("measured now")


def test_without_a_place_to_keep_it_it_is_measured_each_time(choose, tmp_path):
    (tmp_path / "kept").write_text("a file")
    told = f"measured now and at every start: cannot write to {tmp_path / 'kept'}: File exists; set engine_cache_dir"
    assert choose().reason.endswith(told)
    assert choose().reason.endswith(told)


@pytest.mark.parametrize("installed", [("onnxruntime",), ("openvino",), ()])
def test_with_one_library_or_none_nothing_is_measured(choose, tmp_path, monkeypatch, installed):
    monkeypatch.setattr(module, "_is_installed", lambda name: name in installed)
    expected = installed[0] if installed else "onnxruntime"  # whose loader says how to install it
    assert choose(found=None) == (expected, f"{expected} is the only library installed")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("program", ["no_such_module", "this"])
def test_where_they_cannot_be_compared_the_reference_is_taken(monkeypatch, tmp_path, program):
    """The program that compares ends with an error, or says something else."""
    monkeypatch.setattr(module, "_is_installed", lambda name: True)
    monkeypatch.setattr(module, "_PROGRAM", program)
    (tmp_path / "model.json").write_text("{}")
    said = []
    backend, reason = select_backend(tmp_path, "fp32", tmp_path / "kept", said.append)
    assert backend == "onnxruntime"
    assert reason.startswith("onnxruntime is the reference, and libraries could not be compared: exit code ")
    assert said == [f"finding out which library runs {tmp_path.name} fastest here: onnxruntime, openvino"]
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
    assert pipeline.choice.endswith("measured now") and "not used" not in pipeline.choice
    assert SegmentationPipeline.load(request.getfixturevalue(model), "onnxruntime").choice == ""
