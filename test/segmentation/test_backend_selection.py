import json
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest

from xmodelkd_ros.core.errors import BackendError, ModelError
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.segmentation import backend_selection as module
from xmodelkd_ros.segmentation.backend_selection import BackendChoice, measure, select_backend
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline


class FakePipeline:
    """A pipeline with a given latency that gives every point one label."""

    def __init__(self, seconds, label=0):
        self.seconds, self.label = seconds, label

    def segment(self, cloud, into=None, images=()):
        time.sleep(self.seconds)
        return SimpleNamespace(stages_ms={"project": 1000.0, "infer": self.seconds * 1e3})

    def logits(self, cloud, images=()):
        logits = np.zeros((2, len(cloud)), np.float32)
        logits[self.label] = 1
        return logits, np.ones(len(cloud), np.bool_)


def fail(*_):
    raise BackendError("no")


def test_selects_faster_library():
    pipelines = {"onnxruntime": FakePipeline(0.01), "openvino": FakePipeline(0.001)}
    assert measure(pipelines.get, 0, 0.995) == ("openvino", "openvino 1 ms a sweep, onnxruntime 10 ms a sweep")
    pipelines["openvino"].seconds = 0.1
    assert measure(pipelines.get, 0, 0.995).backend == "onnxruntime"


def test_excludes_faster_library_with_other_labels():
    pipelines = {"onnxruntime": FakePipeline(0.01), "openvino": FakePipeline(0.001, label=1)}
    backend, reason = measure(pipelines.get, 0, 0.995)
    assert backend == "onnxruntime"
    assert "openvino not used: same label as onnxruntime for only 0.0% of a stored sweep's points" in reason


@pytest.mark.parametrize("failing", ["load", "run"])
def test_excludes_library_that_fails(failing, monkeypatch):
    pipelines = {"onnxruntime": FakePipeline(0.01), "openvino": FakePipeline(0.001)}
    monkeypatch.setattr(pipelines["openvino"], "logits", fail)
    load = pipelines.get if failing == "run" else lambda name: fail() if name == "openvino" else pipelines[name]
    assert measure(load, 0, 0.995) == ("onnxruntime", "onnxruntime 10 ms a sweep, openvino not used: no")


OPENVINO = BackendChoice("openvino", "it is quick")


@pytest.fixture
def select(monkeypatch, tmp_path, height_model):
    """Selects between two installed libraries; ``measured`` is the result of a measurement, should one be made."""
    monkeypatch.setattr(module, "_is_installed", lambda name: True)
    monkeypatch.setattr(module, "_version", lambda name: f"{name} 1")

    def select(model="height", precision="fp32", measured=OPENVINO):
        spec = json.loads((height_model / "model.json").read_text())
        (tmp_path / "model.json").write_text(json.dumps({**spec, "name": model}))
        shutil.copy(height_model / "model.onnx", tmp_path)
        monkeypatch.setattr(module, "_measure_in_child", lambda *_: measured)
        return select_backend(tmp_path, "auto", precision, EngineCache(tmp_path / "cache"))

    return select


def test_concrete_backend_is_returned_without_measurement(tmp_path):
    assert select_backend(tmp_path / "missing", "tensorrt") == ("tensorrt", "")


def test_measurement_is_cached(select):
    assert select() == ("openvino", "it is quick, measured now")
    assert select(measured=BackendChoice("onnxruntime", "")) == ("openvino", "it is quick, measured before")


@pytest.mark.parametrize("change", ["model", "precision", "library", "processor", "cores"])
def test_change_invalidates_cache(select, monkeypatch, change):
    select()
    if change == "library":
        monkeypatch.setattr(module, "_version", lambda name: f"{name} 2")
    if change == "processor":
        monkeypatch.setattr(module, "cpu_name", lambda: "a faster one")
    if change == "cores":
        monkeypatch.setattr(module, "cores", lambda: 99)
    changed = {"model": {"model": "another"}, "precision": {"precision": "int8"}}.get(change, {})
    assert select(**changed, measured=BackendChoice("onnxruntime", "now")).backend == "onnxruntime"


def test_invalid_cache_file_is_measured_again(select, tmp_path):
    select()
    (file,) = (tmp_path / "cache").iterdir()
    for text in (
        "{",
        "[]",
        "[" * 100_000,
        json.dumps({"backend": "abacus", "reason": ""}),
        json.dumps({"backend": "openvino"}),
    ):
        file.write_text(text)
        assert select().reason.endswith("measured now")


def test_measures_at_every_start_without_writable_cache(select, tmp_path):
    (tmp_path / "cache").write_text("a file")
    expected = (
        f"measured now and at every start: cannot write to {tmp_path / 'cache'}: File exists; set engine_cache_dir"
    )
    assert select().reason.endswith(expected)
    assert select().reason.endswith(expected)


@pytest.mark.parametrize("installed", [("onnxruntime",), ("openvino",), ()])
def test_one_or_no_library_is_not_measured(select, tmp_path, monkeypatch, installed):
    monkeypatch.setattr(module, "_is_installed", lambda name: name in installed)
    expected = installed[0] if installed else "onnxruntime"  # its loader says how to install it
    assert select(measured=None) == (expected, f"{expected} is the only library installed")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("program", ["no_such_module", "this"])
def test_reference_is_used_if_measurement_fails(monkeypatch, tmp_path, height_model, program):
    """The measuring program ends with an error, or prints something else."""
    monkeypatch.setattr(module, "_is_installed", lambda name: True)
    monkeypatch.setattr(module, "_PROGRAM", program)
    lines = []
    backend, reason = select_backend(height_model, "auto", "fp32", EngineCache(tmp_path / "cache", lines.append))
    assert backend == "onnxruntime"
    assert reason.startswith("onnxruntime is the reference, and libraries could not be compared: exit code ")
    assert lines == [f"measuring which library runs {height_model.name} fastest on this machine: onnxruntime, openvino"]
    assert not (tmp_path / "cache").exists()


def test_measurement_is_announced_on_stderr(monkeypatch, tmp_path, height_model, capsys):
    monkeypatch.setattr(module, "_is_installed", lambda name: True)
    monkeypatch.setattr(module, "_PROGRAM", "no_such_module")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    select_backend(height_model)
    assert capsys.readouterr().err == (
        f"note: measuring which library runs {height_model.name} fastest on this machine: onnxruntime, openvino; "
        "up to five minutes, once\n"
    )


def test_invalid_model_is_an_error_before_measurement(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read .*model\.json"):
        select_backend(tmp_path)


def test_folder_with_library_name_is_not_a_library(monkeypatch, tmp_path):
    (tmp_path / "abacus").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not module._is_installed("abacus") and not module._is_installed("no_such_library")
    assert module._is_installed("onnxruntime")
    assert module._version("json").startswith("json 2"), "no distribution has this name"


@pytest.mark.parametrize("model", ["height_model", "light_model"])
def test_selects_for_real_model(model, request, tmp_path):
    pytest.importorskip("openvino")
    folder = request.getfixturevalue(model)
    choice = select_backend(folder, engines=EngineCache(tmp_path))
    assert choice.backend in module.LIBRARIES
    assert all(f"{name} " in choice.reason for name in module.LIBRARIES)
    assert choice.reason.endswith("measured now") and "not used" not in choice.reason
    assert SegmentationPipeline.load(folder, choice.backend).backend.name == choice.backend
