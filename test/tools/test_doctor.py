import pytest

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.harness.dds_profile import PROFILE_VARIABLES
from xmodelkd_ros.harness.processes import ProcessError
from xmodelkd_ros.inference.gpu import Gpu
from xmodelkd_ros.tools import doctor
from xmodelkd_ros.tools.cli import main


@pytest.mark.usefixtures("own_domain")
def test_complete_installation(height_model, capsys):
    pytest.importorskip("rclpy")
    assert main(["doctor", "--model", str(height_model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    states = {line[:16].strip(): line[16:25].strip() for line in lines[:-1]}
    assert states["round trip"] in ("ok", "advice")
    assert states["python"] == states["rclpy"] == states["onnxruntime"] == "ok"
    assert lines[-1] == "the node can run"


def test_missing_model_and_missing_ros(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert main(["doctor", "--model", "nothing"]) == 1
    captured = capsys.readouterr()
    assert "pip install xmodelkd_ros[ros-pip]" in captured.out
    assert "training.export" in captured.out
    assert captured.out.splitlines()[-1] == "the node cannot run: rclpy, model"
    assert captured.err == ""


@pytest.mark.parametrize(
    ("gpu", "library", "state", "text"),
    [
        (None, "", "ok", "none: networks run on the CPU"),
        (Gpu("Orin", "8.7", "12.6"), "tensorrt 10.3", "ok", "Orin, tensorrt 10.3"),
        (Gpu("Orin", "8.7", "12.6"), "", "advice", "Orin is not used: TensorRT is not installed"),
    ],
)
def test_gpu(monkeypatch, gpu, library, state, text):
    def version():
        if not library:
            raise BackendError("TensorRT is not installed")
        return library

    monkeypatch.setattr(doctor, "find_gpu", lambda: gpu)
    monkeypatch.setattr(doctor, "installed_version", version)
    assert (doctor._gpu().state, doctor._gpu().text) == (state, text)


def test_dds_profile(monkeypatch, tmp_path):
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert doctor._profile().state == "advice"
    assert "fastdds_large_clouds.xml" in doctor._profile().text
    monkeypatch.setenv(PROFILE_VARIABLES[1], str(tmp_path / "gone.xml"))
    assert "does not exist" in doctor._profile().text
    (tmp_path / "gone.xml").touch()
    assert doctor._profile().state == "ok"


def test_cache_folder_without_write_permission(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert (doctor._cache().state, doctor._cache().text) == ("ok", str(tmp_path / "cache" / "xmodelkd_ros" / "engines"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    check = doctor._cache()
    assert check.state == "advice"
    assert check.text.startswith(
        f"cannot write to {tmp_path}/file/xmodelkd_ros/engines: Not a directory: back ends are"
    )
    assert check.text.endswith("; set engine_cache_dir")


def test_failed_round_trip_means_the_node_cannot_run(monkeypatch, height_model, capsys):
    def fail(folder):
        raise ProcessError("recorder ended with exit code 1: no RMW")

    monkeypatch.setattr(doctor, "_send_clouds", fail)
    assert main(["doctor", "--model", str(height_model)]) == 1
    assert "no RMW" in capsys.readouterr().out
