import subprocess
import sys
from pathlib import Path

import pytest

from xmodelkd_ros.core.errors import BackendError
from xmodelkd_ros.harness.dds_profile import PROFILE_VARIABLES
from xmodelkd_ros.harness.processes import ProcessError
from xmodelkd_ros.inference import gpu as gpus
from xmodelkd_ros.inference import tensorrt
from xmodelkd_ros.inference.gpu import Gpu
from xmodelkd_ros.tools import doctor, doctor_round_trip
from xmodelkd_ros.tools.cli import main

ROOT = Path(__file__).parents[2]
OPTIONAL = ("rosbags", "cv2", "yaml", "matplotlib", "tqdm", "onnx", "apsw", "rclpy", "sensor_msgs")
WITHOUT = """
import sys
class Absent:
    modules = set(sys.argv.pop(1).split(","))
    def find_spec(self, name, path=None, target=None):
        if name in self.modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from xmodelkd_ros.tools.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_without(modules, *arguments, path=""):
    """Result of a subcommand in a process in which these modules are not installed."""
    env = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{path}:{ROOT}",
        "HOME": "/dev/null",
        "AMENT_PREFIX_PATH": sys.prefix,
    }
    command = [sys.executable, "-c", WITHOUT, ",".join(modules), *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def table(output):
    """State and text of each row of the doctor's table, whose columns must be aligned."""
    *lines, _ = output.splitlines()
    start = min(
        line.index(f" {state} ") + 1 for line in lines for state in ("ok", "advice", "missing") if f" {state} " in line
    )
    assert all(line[start - 2 : start] == "  " for line in lines), output
    return {line[:start].strip(): (line[start : start + 9].strip(), line[start + 9 :]) for line in lines}


@pytest.mark.usefixtures("own_domain")
def test_complete_installation(height_model, capsys):
    pytest.importorskip("rclpy")
    assert main(["doctor", "--model", str(height_model)]) == 0
    output = capsys.readouterr().out
    rows = table(output)
    assert rows["round trip"][0] in ("ok", "advice")
    assert {rows[name][0] for name in ("python", "rclpy", "onnxruntime", "rosbags", "rosbags.image")} == {"ok"}
    assert output.splitlines()[-1] == "the node can run"


def test_each_missing_library_is_one_line_with_the_command_that_mends_it(height_model):
    result = run_without(OPTIONAL, "doctor", "--model", height_model)
    rows = table(result.stdout)
    assert "Traceback" not in result.stderr
    assert result.stdout.splitlines()[-1] == "the node cannot run: rclpy"
    assert rows["rclpy"][1] == (
        "rclpy is not installed; run 'source /opt/ros/$ROS_DISTRO/setup.bash' or "
        "'pip install ros-kilted-rclpy ros-kilted-rmw-fastrtps-cpp'"
    )
    commands = {"rosbags": "rosbags~=0.11.0", "cv2": "opencv-python-headless", "yaml": "PyYAML", "onnx": "onnx"}
    for module, distribution in commands.items():
        assert rows[module][0] == "advice"
        assert f"is not installed; run 'pip install {distribution}'" in rows[module][1]
    assert rows["model"][0] == "ok"


def test_doctor_runs_without_numpy():
    result = run_without(["numpy"], "doctor")
    rows = table(result.stdout)
    assert (result.returncode, result.stderr) == (1, "")
    assert rows["numpy"] == ("missing", "is not installed; run 'pip install numpy'")
    assert "numpy is not installed" in rows["model"][1]


@pytest.mark.parametrize(
    "code",
    [
        "raise RuntimeError('built for another machine')",
        "raise ImportError('libGL.so.1: cannot open shared object file')",
        "import sys; sys.exit('no licence')",
        "import a_module_that_nobody_has",
        "broken = undefined",
    ],
)
def test_a_damaged_library_is_one_line_too(tmp_path, height_model, code):
    for module in ("rosbags", "matplotlib", "rclpy"):
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text(code)
    result = run_without([], "doctor", "--model", height_model, path=tmp_path)
    rows = table(result.stdout)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "cannot be imported" in rows["rosbags"][1] or "needs a_module_that_nobody_has" in rows["rosbags"][1]
    assert rows["matplotlib"][0] == "advice" and rows["rclpy"][0] == "missing"


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("rosbags", ["evaluate", "BAG", "--model", "student", "--out", "OUT"]),
        ("rosbags", ["replay", "BAG", "--model", "student", "--out", "OUT"]),
        ("rosbags", ["fit-sensor", "BAG"]),
        ("yaml", ["fit-cameras", "BAG"]),
        ("matplotlib", ["evaluate", "BAG", "--model", "student", "--out", "OUT"]),
        ("numpy", ["recover", "BAG", "OUT"]),
    ],
)
def test_a_subcommand_names_the_library_that_it_needs(tmp_path, module, arguments):
    given = [str(tmp_path / word) if word.isupper() else word for word in arguments]
    result = run_without([module], *given)
    assert result.returncode == 1 and result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: {module} is not installed; run 'pip install ")


def test_missing_model(capsys):
    doctor_row = doctor._checked("model", lambda: doctor._model("nothing"))
    assert doctor_row.state == "missing" and "training.export" in doctor_row.text
    assert capsys.readouterr().err == ""


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

    monkeypatch.setattr(gpus, "find_gpu", lambda: gpu)
    monkeypatch.setattr(tensorrt, "installed_version", version)
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

    monkeypatch.setattr(doctor_round_trip, "_send_clouds", fail)
    assert main(["doctor", "--model", str(height_model)]) == 1
    assert "no RMW" in capsys.readouterr().out
