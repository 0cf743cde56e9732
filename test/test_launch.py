"""Launch files: arguments and the processes they start."""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("launch_ros.actions", reason="launch and launch_ros come with a ROS installation, not with pip")

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.utilities import perform_substitutions
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage

from xmodelkd_ros.harness.dds_profile import PROFILE_VARIABLES
from xmodelkd_ros.inference.backend import BACKENDS
from xmodelkd_ros.tools import cli

ROOT = Path(__file__).resolve().parents[1]
NAME = "xmodelkd_ros"


@pytest.fixture
def share(tmp_path, monkeypatch):
    """The package's share folder in an ament index of this test, with the files of the repository."""
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / NAME).touch()
    (tmp_path / "share" / NAME).symlink_to(ROOT)
    before = os.environ.get("AMENT_PREFIX_PATH", sys.prefix)
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join([str(tmp_path), before]))
    for name in (*PROFILE_VARIABLES, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "share" / NAME


def load(name):
    """Load a launch file as a module."""
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), ROOT / "launch" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launched(name, **given):
    """Module, context and actions of a launch file with these arguments."""
    module, context = load(name), LaunchContext()
    context.launch_configurations.update(given)
    for action in module.generate_launch_description().entities:
        if isinstance(action, DeclareLaunchArgument):
            action.execute(context)
    return module, context, module.start(context)


def command_line(context, process):
    """Command line of a process."""
    return [perform_substitutions(context, word) for word in process.cmd]


def nodes(actions):
    return {action.node_executable: action for action in actions if isinstance(action, Node)}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (
            "segment.launch.py",
            "model teacher_model mode backend points_topic params_file sensor rviz bag use_sim_time namespace "
            "autostart build_only dds_profile",
        ),
        ("evaluate.launch.py", "bag out model backend points_topic label_set rate"),
    ],
)
def test_arguments_have_descriptions(share, name, arguments):
    declared = load(name).generate_launch_description().get_launch_arguments()
    assert [a.name for a in declared] == arguments.split()
    assert all(len(a.description) > 10 for a in declared)


@pytest.mark.parametrize("name", ["segment.launch.py", "evaluate.launch.py"])
def test_backend_choices_are_complete(share, name):
    [backend] = [a for a in load(name).generate_launch_description().get_launch_arguments() if a.name == "backend"]
    assert [choice for choice in backend.choices if choice] == list(BACKENDS)


def test_starts_only_the_node_by_default(share):
    _, _, actions = launched("segment.launch.py")
    assert set(nodes(actions)) == {"segment_node"}
    assert [type(a) for a in actions if isinstance(a, ExecuteProcess)] == [Node]


def test_build_only_starts_only_the_node(share):
    _, context, actions = launched("segment.launch.py", build_only="true", bag="drive.mcap", rviz="true")
    (process,) = actions
    assert process.node_executable == "segment_node"
    assert [perform_substitutions(context, word) for word in process.cmd[1:2]] == ["--build-only"]
    _, context, (process, *_) = launched("segment.launch.py")
    assert [perform_substitutions(context, word) for word in process.cmd[1:2]] == ["--ros-args"]


def test_omitted_arguments_override_nothing(share):
    module, context, _ = launched("segment.launch.py")
    assert module.overrides(context.launch_configurations) == {}
    assert context.launch_configurations["params_file"] == str(share / "config" / "segment.param.yaml")


def test_given_arguments_override_parameters(share):
    given = {"model": "7", "teacher_model": "8", "mode": "teacher", "backend": "onnxruntime", "sensor": "/s.json"}
    module, context, _ = launched("segment.launch.py", **given, autostart="false")
    overrides = module.overrides(context.launch_configurations)
    assert {name: overrides[name].evaluate(context) for name in given} == given, "values stay strings"
    assert overrides["autostart"] is False


@pytest.mark.parametrize(
    ("bag", "given", "expected"),
    [("", "", False), ("drive.mcap", "", True), ("drive.mcap", "false", False), ("", "true", True)],
)
def test_sim_time_defaults_to_true_with_a_bag(share, bag, given, expected):
    module, context, _ = launched("segment.launch.py", bag=bag, use_sim_time=given)
    assert module.sim_time(context.launch_configurations) is expected


@pytest.mark.parametrize(
    ("namespace", "topic", "expected"),
    [("", "points", "/points:1"), ("car", "points", "/car/points:1"), ("/car", "/lidar/top", "/lidar/top:1")],
)
def test_player_waits_for_the_node(share, namespace, topic, expected):
    _, context, actions = launched("segment.launch.py", bag="drive.mcap", namespace=namespace, points_topic=topic)
    [player] = [a for a in actions if isinstance(a, ExecuteProcess) and not isinstance(a, Node)]
    _, *command = command_line(context, player)
    assert command == ["-m", f"{NAME}.harness.bag_player", "drive.mcap", "--clock", "--wait-for-subscribers", expected]


def test_starts_rviz_on_request(share):
    _, _, actions = launched("segment.launch.py", rviz="true")
    assert set(nodes(actions)) == {"segment_node", "rviz2"}


@pytest.mark.parametrize(
    ("distro", "variable"), [("humble", 1), ("jazzy", 1), ("kilted", 0)], ids=["humble", "jazzy", "kilted"]
)
def test_uses_the_shipped_dds_profile(share, monkeypatch, distro, variable):
    monkeypatch.setenv("ROS_DISTRO", distro)
    module, context, _ = launched("segment.launch.py")
    profile = str(share / "config" / "fastdds_large_clouds.xml")
    assert module.environment(context.launch_configurations) == {PROFILE_VARIABLES[variable]: profile}


@pytest.mark.parametrize("variable", PROFILE_VARIABLES)
def test_keeps_the_dds_profile_of_the_environment(share, monkeypatch, variable):
    monkeypatch.setenv(variable, "/mine.xml")
    module, context, _ = launched("segment.launch.py")
    assert set(module.environment(context.launch_configurations).values()) == {"/mine.xml"}


def test_dds_profile_none(share):
    module, context, _ = launched("segment.launch.py", dds_profile="none")
    assert module.environment(context.launch_configurations) == {}


@pytest.mark.parametrize(
    ("returncode", "is_shutdown", "expected"),
    [(-11, False, True), (-2, True, False), (1, False, False), (0, False, False)],
)
def test_restarts_only_after_a_crash(share, returncode, is_shutdown, expected):
    module, context, _ = launched("segment.launch.py")
    event = SimpleNamespace(returncode=returncode, process_name="segment_node-1")
    actions = module.restart(event, SimpleNamespace(is_shutdown=is_shutdown), context.launch_configurations)
    assert bool(actions) is expected


def test_evaluate_passes_arguments_to_replay(share, tmp_path, capsys):
    given = {"bag": "no.mcap", "out": str(tmp_path), "points_topic": "/lidar", "label_set": "pandaset9", "rate": "0.5"}
    module, context, _ = launched("evaluate.launch.py", **given)
    program, *command = module.command(context.launch_configurations)
    assert isinstance(program, ExecutableInPackage)
    assert command[:2] == ["replay", "no.mcap"]
    assert dict(zip(command[2::2], command[3::2], strict=True)) == {
        "--model": "student",
        "--backend": "auto",
        "--points-topic": "/lidar",
        "--label-set": "pandaset9",
        "--rate": "0.5",
        "--out": str(tmp_path),
    }
    # The program accepts the options and fails on the missing bag; an unknown option would raise SystemExit.
    assert cli.main(command) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_evaluate_fails_if_replay_does(share):
    module = load("evaluate.launch.py")
    module.fail_with(SimpleNamespace(returncode=0), None)
    with pytest.raises(RuntimeError, match="exit code 3"):
        module.fail_with(SimpleNamespace(returncode=3), None)
