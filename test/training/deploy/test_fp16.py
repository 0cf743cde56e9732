"""Networks in 16 bits, for GPUs."""

import shutil
from dataclasses import replace

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from training.deploy.fp16 import write_fp16  # noqa: E402
from xmodelkd_ros.core.model_spec import ModelSpec, NetworkFile, sha256  # noqa: E402
from xmodelkd_ros.inference import tensorrt  # noqa: E402
from xmodelkd_ros.resources import find_model  # noqa: E402
from xmodelkd_ros.segmentation.parity_sweep import equal_labels  # noqa: E402
from xmodelkd_ros.segmentation.pipeline import SegmentationPipeline  # noqa: E402


@pytest.fixture(scope="module", params=["student", "teacher"])
def folder(request, tmp_path_factory):
    """A shipped model, with its networks in 16 bits too."""
    folder = tmp_path_factory.mktemp("half") / request.param
    shutil.copytree(find_model(request.param), folder)
    spec = ModelSpec.read(folder)
    branch = spec.image_branch
    if branch is not None:
        branch = replace(branch, files=with_half(branch.files, folder))
    replace(spec, files=with_half(spec.files, folder), image_branch=branch).write(folder)
    return folder


def with_half(files, folder):
    half = folder / files["fp32"].file.replace(".onnx", ".fp16.onnx")
    write_fp16(folder / files["fp32"].file, half)
    return {**files, "fp16": NetworkFile(half.name, sha256(half))}


def test_it_labels_a_real_sweep_as_the_whole_numbers_do(folder):
    encoded_images = folder.name == "teacher"
    half, whole = SegmentationPipeline.load(folder, precision="fp16"), SegmentationPipeline.load(folder)
    assert half.backend.precision == "fp16"
    assert equal_labels(half, whole, cameras=6 if encoded_images else 0) > 0.995
    sizes = [file.stat().st_size for file in (folder / "model.fp16.onnx", folder / "model.onnx")]
    assert sizes[0] < 0.6 * sizes[1]


def test_places_in_images_keep_their_digits(folder):
    graph = onnx.load(folder / "model.fp16.onnx").graph
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "GridSample":
            tensor, kinds = node.input[1], []
            while tensor in makers:
                kinds.append(makers[tensor].op_type)
                tensor = makers[tensor].input[0]
            assert tensor == "places" and "Cast" not in kinds


def test_tensorrt_takes_it(folder):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    for file in folder.glob("*.fp16.onnx"):
        whole = file.with_name(file.name.replace(".fp16", ""))
        assert len(tensorrt.build(whole)) - len(tensorrt.build(file)) > 0.4 * whole.stat().st_size, "weights take half"
