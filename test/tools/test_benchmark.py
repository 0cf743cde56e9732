import json

import numpy as np
import pytest

from xmodelkd_ros.core.projection import ProjectionSpec, RangeProjector
from xmodelkd_ros.harness.synthetic_sweep import synthetic_sweep
from xmodelkd_ros.inference.cpu import gemm_peak_gflops
from xmodelkd_ros.inference.network_cost import gflop
from xmodelkd_ros.tools.benchmark import Load, _camera
from xmodelkd_ros.tools.cli import main


def test_times_stages_and_counts_operations(height_model, tmp_path, capsys):
    arguments = ["--model", str(height_model), "--points", "5000", "--repeats", "3", "--out", str(tmp_path)]
    assert main(["benchmark", *arguments]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["stages_ms"]) == ["decode", "project", "normalize", "infer", "decide", "encode"]
    assert metrics["sweeps"] == {"input": 3, "output": 3}
    machine = metrics["benchmark"]
    assert machine["points"] == 5000
    assert machine["network_runs"] == 3
    assert machine["network_gflop"] == pytest.approx(2 * 13 * 2 * 2000 / 1e9)
    assert 0 < machine["gemm_peak_share"] < 1
    assert machine["memory_peak_mb"] > 20
    output = capsys.readouterr().out
    assert "project" in output
    assert "GFLOP/s" in output
    assert (tmp_path / "report.html").is_file()


def test_times_teacher_with_images(light_model, height_model, tmp_path, capsys):
    arguments = ["--points", "5000", "--repeats", "2", "--cameras", "2", "--image-size", "320x180"]
    assert main(["benchmark", "--model", str(light_model), *arguments, "--out", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    stages = ["decode", "decode_images", "project", "normalize", "views", "images", "infer", "decide", "encode"]
    assert list(metrics["stages_ms"]) == stages
    assert metrics["modes"] == {"student": 0, "teacher": 2} and metrics["benchmark"]["cameras"] == 2
    assert "5,000 points, 2 images of 320x180, timed" in (tmp_path / "report.html").read_text()
    assert main(["benchmark", "--model", str(height_model), *arguments, "--out", str(tmp_path)]) == 1
    assert "names a student, which takes no images; give --model teacher" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["benchmark", "--model", str(light_model), "--image-size", "320", "--out", str(tmp_path)])
    assert "argument --image-size: '320' is not WIDTHxHEIGHT, such as 1920x1080" in capsys.readouterr().err


def test_cameras_cover_all_directions():
    xyz = np.array([[np.cos(a), np.sin(a), 0.0] for a in np.radians(np.arange(0, 360, 60))]) * 10
    for number in range(6):
        camera = _camera(number, Load(cameras=6))
        pixels, seen = camera.project(xyz)
        assert seen.tolist() == [index == number for index in range(6)]
        np.testing.assert_allclose(pixels[number], [959.5, 539.5])
        left_and_above = camera.project(xyz[[number]] + [0, 0, 1] + 0.1 * np.roll(xyz, -1, 0)[[number]])[0][0]
        assert left_and_above[0] < 959 and left_and_above[1] < 539


@pytest.mark.parametrize("points", [1, 63, 64, 1000, 40_000])
def test_synthetic_sweep_fills_every_row_in_all_directions(points):
    spec = ProjectionSpec(tuple(np.linspace(15, -25, 64).tolist()), 512)
    cloud = synthetic_sweep(spec, points)
    assert len(cloud) == points
    projection = RangeProjector(spec).project(cloud)
    assert (projection.pixel >= 0).all()
    if points == 40_000:
        occupied = (projection.point >= 0).reshape(64, 512)
        assert occupied.any(axis=1).all()
        assert occupied.mean() > 0.9
        assert projection.range.min() > 1
        assert projection.range.max() < 125


def test_operation_count_of_graph(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "conv": rng.normal(size=(8, 2, 3, 3)),  # two groups of 2 of 4 input channels
        "up": rng.normal(size=(8, 5, 2, 2)),
        "gemm": rng.normal(size=(6, 10)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"], group=2, pads=[1, 1, 1, 1], strides=[2, 2]),  # (1, 8, 4, 8)
        helper.make_node("ConvTranspose", ["a", "up"], ["b"], strides=[2, 2]),  # (1, 5, 8, 16)
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "right"], ["d"]),  # (1, 5, 8, 16) x (16, 3)
        helper.make_node("Gemm", ["g", "gemm"], ["e"], transA=1),  # (6, 7) transposed x (6, 10)
    ]
    weights["right"] = rng.normal(size=(16, 3))
    graph = helper.make_graph(
        nodes,
        "work",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 4, 8, 16]), ("g", [6, 7]))],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("d", [1, 5, 8, 3]), ("e", [7, 10]))],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph), tmp_path / "work.onnx")
    by_hand = 8 * 4 * 8 * 2 * 9 + 8 * 4 * 8 * 5 * 4 + 5 * 8 * 3 * 16 + 7 * 10 * 6
    assert gflop(tmp_path / "work.onnx") == pytest.approx(2 * by_hand / 1e9)


def test_gemm_peak_is_plausible():
    assert 0.5 < gemm_peak_gflops(512, 3) < 100_000
