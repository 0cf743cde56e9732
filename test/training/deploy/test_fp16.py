"""Conversion of networks to fp16, for GPUs."""

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
    """A shipped model with fp16 networks added."""
    folder = tmp_path_factory.mktemp("half") / request.param
    shutil.copytree(find_model(request.param), folder)
    spec = ModelSpec.read(folder)
    branch = spec.image_branch
    if branch is not None:
        branch = replace(branch, files=with_fp16(branch.files, folder))
    replace(spec, files=with_fp16(spec.files, folder), image_branch=branch).write(folder)
    return folder


def with_fp16(files, folder):
    out = folder / files["fp32"].file.replace(".onnx", ".fp16.onnx")
    write_fp16(folder / files["fp32"].file, out)
    return {**files, "fp16": NetworkFile(out.name, sha256(out))}


def test_fp16_gives_the_labels_of_fp32(folder):
    cameras = 6 if folder.name == "teacher" else 0
    fp16, fp32 = SegmentationPipeline.load(folder, precision="fp16"), SegmentationPipeline.load(folder)
    assert fp16.backend.precision == "fp16"
    assert equal_labels(fp16, fp32, cameras=cameras) > 0.995
    sizes = [file.stat().st_size for file in (folder / "model.fp16.onnx", folder / "model.onnx")]
    assert sizes[0] < 0.6 * sizes[1]


def test_sampling_positions_stay_in_fp32(folder):
    graph = onnx.load(folder / "model.fp16.onnx").graph
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "GridSample":
            tensor, kinds = node.input[1], []
            while tensor in producers:
                kinds.append(producers[tensor].op_type)
                tensor = producers[tensor].input[0]
            assert tensor == "places" and "Cast" not in kinds


def test_tensorrt_builds_fp16_networks_of_half_the_size(folder):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    for file in folder.glob("*.fp16.onnx"):
        fp32 = file.with_name(file.name.replace(".fp16", ""))
        assert len(tensorrt.build(fp32)) - len(tensorrt.build(file)) > 0.4 * fp32.stat().st_size
