import os
import subprocess
import sys
from pathlib import Path

import pytest

from xmodelkd_ros import resources
from xmodelkd_ros.core.errors import ConfigError, LabelError, ModelError, SensorError
from xmodelkd_ros.core.sensor import SensorSpec

pytestmark = pytest.mark.usefixtures("installed_first")

CLONE = Path(__file__).parents[1]


def test_finds_models_by_path(height_model):
    assert resources.find_model(str(height_model)) == height_model


def test_prefers_the_installed_package(tmp_path, monkeypatch, height_model):
    share = tmp_path / "share" / "xmodelkd_ros" / "models"
    share.mkdir(parents=True)
    (share / "height").symlink_to(height_model)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert resources.find_model("height") == share / "height"


def test_training_prefers_the_clone_to_an_older_installed_copy(tmp_path):
    share = tmp_path / "share" / "xmodelkd_ros"
    (share / "models" / "student").mkdir(parents=True)
    (share / "models" / "student" / "model.json").write_text("old")
    (share / "models" / "only_installed").mkdir()
    (share / "models" / "only_installed" / "model.json").write_text("{}")
    (share / "config" / "labels").mkdir(parents=True)
    (share / "config" / "labels" / "drive13.json").write_text("old")
    code = (
        "import training; from xmodelkd_ros import resources as r; "
        "print(r.find_model('student'), r.find_model('only_installed'), r.label_map('drive13').name)"
    )
    env = {**os.environ, "AMENT_PREFIX_PATH": str(tmp_path), "PYTHONPATH": str(CLONE)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    installed = share / "models" / "only_installed"
    assert result.stdout.split() == [str(CLONE / "models" / "student"), str(installed), "drive13"]


def test_falls_back_to_the_source_tree(monkeypatch):
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setattr(resources.sys, "prefix", "/nowhere")
    assert resources.find_config("labels/drive13.json") == CLONE / "config" / "labels" / "drive13.json"


def test_missing_resources_are_reported_with_a_remedy(tmp_path):
    with pytest.raises(ModelError, match=r"no model 'nothing'.*training\.export"):
        resources.find_model("nothing")
    with pytest.raises(ModelError, match="no model"):
        resources.find_model(str(tmp_path))
    with pytest.raises(ConfigError, match=r"config/labels/none\.json"):
        resources.find_config("labels/none.json")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("studnet", "did you mean student?"),
        ("Teacher", "did you mean teacher?"),
        ("models/techer", "did you mean teacher?"),
        ("student-undistilled", "did you mean student_undistilled?"),
        ("yolo", "teacher). 'python"),
    ],
)
def test_unknown_model_is_reported_with_the_shipped_ones_and_the_nearest(name, nearest):
    with pytest.raises(ModelError) as error:
        resources.find_model(name)
    assert "ships (student, student_undistilled, student_world, teacher)" in str(error.value)
    assert nearest in str(error.value)


def test_sensors_are_found_by_path_then_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resources.read_sensor("vlp16").beam_elevations_deg[0] == 15
    SensorSpec("own", (1.0, 0.0)).write(tmp_path / "vlp16")
    assert resources.read_sensor("vlp16").name == "own"
    with pytest.raises(
        SensorError,
        match=r"no sensor 'OS1-129': .* in .*config/sensors\); did you mean OS1-128 or OS\S+ or OS\S+\? .*fit-sensor",
    ):
        resources.read_sensor("OS1-129")


@pytest.mark.parametrize("name", ["x" * 300, "no\0file", "~nobody_here/model", "", "a\nb"])
def test_rejects_invalid_file_names(name):
    with pytest.raises(ModelError, match="no model"):
        resources.find_model(name)
    with pytest.raises(LabelError, match=r"no label set .*drive13"):
        resources.label_map(name)
    with pytest.raises(SensorError, match=r"no sensor .*config/sensors"):
        resources.read_sensor(name)
    with pytest.raises(ConfigError, match="the package lacks config"):
        resources.find_config(name or "none")


def test_expands_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert resources.user_path("~/models/x") == Path("/home/somebody/models/x")
    assert resources.user_path("~nobody_here/x") == Path("~nobody_here/x")
