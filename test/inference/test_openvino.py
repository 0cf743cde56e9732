import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.core.model_spec import sha256
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.inference.openvino import OpenVinoBackend
from xmodelkd_ros.resources import find_model
from xmodelkd_ros.segmentation.backend_selection import select_backend
from xmodelkd_ros.segmentation.parity_sweep import equal_labels, read_parity_sweep
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

pytest.importorskip("openvino")


@pytest.mark.parametrize("model", ["student", "teacher"])
def test_labels_of_a_real_sweep_equal_onnx_runtime(model):
    folder = find_model(model)
    one, other = SegmentationPipeline.load(folder, "openvino"), SegmentationPipeline.load(folder, "onnxruntime")
    assert (one.backend.name, one.backend.precision) == ("openvino", "fp32")
    assert equal_labels(one, other, one.spec.cameras) > 0.999


@pytest.fixture(scope="module")
def int8_model(tmp_path_factory):
    """Folder of the shipped student with an int8 network, made with the ranges of one sweep."""
    int8 = pytest.importorskip("training.deploy.int8")
    folder = Path(shutil.copytree(find_model("student"), tmp_path_factory.mktemp("models") / "int8"))
    pipeline, inputs = SegmentationPipeline.load(folder, "onnxruntime"), []
    infer = pipeline.backend.infer
    pipeline.backend.infer = lambda given: inputs.append({k: v.copy() for k, v in given.items()}) or infer(given)
    pipeline.segment(read_parity_sweep(0)[0])
    int8.write_int8(folder / "model.onnx", folder / "model.int8.onnx", inputs)
    spec = json.loads((folder / "model.json").read_text())
    spec["files"]["int8"] = {"file": "model.int8.onnx", "sha256": sha256(folder / "model.int8.onnx")}
    (folder / "model.json").write_text(json.dumps(spec))
    return folder


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_int8_labels_of_a_real_sweep_nearly_equal_fp32(int8_model, library):
    one = SegmentationPipeline.load(int8_model, library, "int8")
    other = SegmentationPipeline.load(int8_model, "onnxruntime")
    assert (one.backend.name, one.backend.precision) == (library, "int8")
    assert 0.9 < equal_labels(one, other, one.spec.cameras) < 1


def test_auto_compares_both_libraries_in_int8(int8_model, tmp_path):
    choice = select_backend(int8_model, "auto", "int8", EngineCache(tmp_path))
    chosen = SegmentationPipeline.load(int8_model, choice.backend, "int8")
    assert chosen.backend.precision == "int8" and choice.reason


def test_runs_are_independent(height_model):
    backend = OpenVinoBackend(height_model / "model.onnx", "fp32")
    rng = np.random.default_rng(0)
    inputs = {t.name: rng.integers(0, 4, t.shape).astype(t.dtype) for t in backend.inputs}
    first = backend.infer(inputs)["logits"].copy()
    backend.infer({name: value * 0 for name, value in inputs.items()})
    np.testing.assert_array_equal(backend.infer(inputs)["logits"], first)


def test_errors_are_one_line(tmp_path, height_model):
    (tmp_path / "model.onnx").write_bytes(b"\x08\x09 this is no network")
    with pytest.raises(BackendError, match=r"openvino cannot load .*model\.onnx: ") as error:
        OpenVinoBackend(tmp_path / "model.onnx", "fp32")
    assert "\n" not in str(error.value)
    with pytest.raises(BackendError, match="backend openvino has no precision fp16; choose fp32"):
        OpenVinoBackend(height_model / "model.onnx", "fp16")
    with pytest.raises(BackendError, match="openvino failed: "):
        OpenVinoBackend(height_model / "model.onnx", "fp32").infer({"image": np.zeros((1, 2), np.float32)})


def test_signals_are_handled_after_networks_were_dropped_in_another_thread(height_model):
    """OpenVINO frees the loading thread's stack for signal handlers with its last network, if nothing else holds it."""
    program = f"""
import gc, os, signal, threading
from pathlib import Path
from xmodelkd_ros.inference.openvino import OpenVinoBackend

networks = [OpenVinoBackend(Path({str(height_model)!r}) / "model.onnx", "fp32")]
thread = threading.Thread(target=lambda: (networks.clear(), gc.collect()))
thread.start()
thread.join()
signal.signal(signal.SIGCHLD, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGCHLD)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
