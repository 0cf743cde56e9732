import numpy as np
import pytest

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.inference.engine_cache import EngineCache
from xmodelkd_ros.inference.openvino import OpenVinoBackend
from xmodelkd_ros.resources import find_model
from xmodelkd_ros.segmentation.backend_selection import select_backend
from xmodelkd_ros.segmentation.parity_sweep import equal_labels
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline

pytest.importorskip("openvino")


@pytest.mark.parametrize("model", ["student", "teacher"])
def test_labels_of_a_real_sweep_equal_onnx_runtime(model):
    folder = find_model(model)
    one, other = SegmentationPipeline.load(folder, "openvino"), SegmentationPipeline.load(folder, "onnxruntime")
    assert (one.backend.name, one.backend.precision) == ("openvino", "fp32")
    assert equal_labels(one, other, one.spec.cameras) > 0.999


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_int8_labels_of_a_real_sweep_nearly_equal_fp32(library):
    folder = find_model("teacher")
    one, other = SegmentationPipeline.load(folder, library, "int8"), SegmentationPipeline.load(folder, "onnxruntime")
    assert (one.backend.name, one.backend.precision) == (library, "int8")
    assert 0.98 < equal_labels(one, other, one.spec.cameras) < 1


def test_auto_compares_both_libraries_in_int8(tmp_path):
    choice = select_backend(find_model("teacher"), "auto", "int8", EngineCache(tmp_path))
    chosen = SegmentationPipeline.load(find_model("teacher"), choice.backend, "int8")
    assert "not used" not in choice.reason and chosen.backend.precision == "int8"


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
