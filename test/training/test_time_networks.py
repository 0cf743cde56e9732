import pytest

pytest.importorskip("onnx")
pytest.importorskip("openvino")

from training.time_networks import main


def test_times_are_relative_to_the_first_network(height_model, light_model, capsys):
    files = [str(folder / "model.onnx") for folder in (height_model, light_model)]
    assert main([*files, "--backend", "onnxruntime", "openvino", "--runs", "4"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[:2] for row in rows[1:]] == [
        [f"{folder.name}/model", library]
        for folder in (height_model, light_model)
        for library in ("onnxruntime", "openvino")
    ]
    assert rows[1][-1] == "1.0" and all(float(row[3]) <= float(row[4]) for row in rows[1:])


def test_network_without_fixed_sizes_is_reported_in_one_line(height_model, tmp_path, capsys):
    import onnx

    network = onnx.load(height_model / "model.onnx")
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(network, tmp_path / "free.onnx")
    assert main([str(tmp_path / "free.onnx")]) == 1
    assert "export the network with fixed sizes" in capsys.readouterr().err
    assert main([str(tmp_path / "missing.onnx")]) == 1
    assert capsys.readouterr().err.startswith(f"error: onnxruntime cannot load {tmp_path / 'missing.onnx'}: ")
