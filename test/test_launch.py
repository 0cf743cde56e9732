"""Launch files: arguments and the processes they start."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

pytest.importorskip("launch_ros.actions", reason="launch and launch_ros come with a ROS installation, not with pip")

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.utilities import perform_substitutions
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage

from test.example_bags import write_bag
from test.waiting import wait_until
from xmodelkd_ros.core.errors import XModelKDError
from xmodelkd_ros.harness.dds_profile import PROFILE_VARIABLES
from xmodelkd_ros.harness.processes import dds_environment
from xmodelkd_ros.inference.backend import BACKENDS
from xmodelkd_ros.tools import cli

LAUNCH = """
import ast, sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
source = PythonLaunchDescriptionSource(sys.argv[1])
service = LaunchService()
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=ast.literal_eval(sys.argv[2]))])
)
sys.exit(service.run())
"""
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


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_bag(tmp_path_factory.mktemp("bags") / "drive")


def launch(share, *arguments):
    """The process of segment.launch.py with these arguments, as under ``ros2 launch``."""
    program = share.parents[1] / "lib" / NAME / "segment_node"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {NAME}.node.segment_node "$@"\n')
    program.chmod(0o755)
    pairs = [tuple(argument.split(":=", 1)) for argument in arguments]
    command = [sys.executable, "-c", LAUNCH, str(ROOT / "launch" / "segment.launch.py"), repr(pairs)]
    env = {**dds_environment(), "ROS_LOG_DIR": str(share.parent / "log"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process):
    """Exit code and output of a launch that ends by itself."""
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def running_in(share):
    """Processes whose environment names this test's installation."""
    prefix = str(share.parents[1]).encode()
    environments = Path("/proc").glob("[0-9]*/environ")
    return [path for path in environments if path.parent.name != str(os.getpid()) and prefix in contents(path)]


def contents(path):
    try:
        return path.read_bytes()
    except OSError:  # of another user, or it has ended
        return b""


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
            "model teacher_model mode backend points_topic params_file cameras_file sensor rviz rviz_frame bag "
            "use_sim_time "
            "namespace autostart build_only dds_profile",
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


def test_build_only_starts_only_the_node(share, drive):
    _, context, actions = launched("segment.launch.py", build_only="true", bag=str(drive), rviz="true")
    [process] = nodes(actions).values()
    assert [type(a) for a in actions if isinstance(a, ExecuteProcess)] == [Node]
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
    ("bag", "given", "expected"), [(False, "", False), (True, "", True), (True, "false", False), (False, "true", True)]
)
def test_sim_time_defaults_to_true_with_a_bag(share, drive, bag, given, expected):
    module, context, _ = launched("segment.launch.py", bag=str(drive) if bag else "", use_sim_time=given)
    assert module.sim_time(context.launch_configurations) is expected


def test_player_follows_the_namespace(share, drive, monkeypatch):
    monkeypatch.setenv("HOME", str(drive.parent))
    _, context, actions = launched("segment.launch.py", bag="~/drive", namespace="car1")
    [player] = [a for a in actions if isinstance(a, ExecuteProcess) and not isinstance(a, Node)]
    _, *command = command_line(context, player)
    assert command[:5] == ["-m", f"{NAME}.harness.bag_player", str(drive), "--clock", "--wait-for-subscribers"]
    assert command[5:] == ["/points:1", "--ros-args", "-r", "/points:=/car1/points"]


@pytest.mark.parametrize("name", ["params_file", "cameras_file", "dds_profile", "bag"])
def test_a_missing_file_is_refused_before_anything_starts(share, name):
    with pytest.raises(XModelKDError, match=r"/no/file.* does not exist"):
        launched("segment.launch.py", **{name: "/no/file"})


def test_rviz_is_looked_for_before_anything_starts(share):
    with pytest.raises(XModelKDError, match=r"rviz2, which is not installed; run 'sudo apt install ros-"):
        launched("segment.launch.py", rviz="true")


def test_starts_rviz_on_request(share):
    (share.parent / "ament_index" / "resource_index" / "packages" / "rviz2").touch()
    _, context, actions = launched("segment.launch.py", rviz="true")
    assert set(nodes(actions)) == {"segment_node", "rviz2"}
    assert rviz_layout(context, actions) == str(share / "config" / "segment.rviz"), "nothing differs"


def rviz_layout(context, actions):
    """Path of the layout that RViz gets."""
    flag, path = (perform_substitutions(context, word) for word in nodes(actions)["rviz2"].cmd[1:3])
    assert flag == "-d"
    return path


def test_rviz_shows_the_frame_and_the_cameras_of_the_vehicle(share, drive, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (share.parent / "ament_index" / "resource_index" / "packages" / "rviz2").touch()
    cameras = str(share / "config" / "cameras.param.yaml")
    given = {"rviz": "true", "bag": str(drive), "cameras_file": cameras, "namespace": "car1"}
    _, context, actions = launched("segment.launch.py", **given)
    manager = yaml.safe_load(Path(rviz_layout(context, actions)).read_text())["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "lidar"
    images = {d["Name"]: d["Topic"]["Value"] for d in manager["Displays"] if d["Class"] == "rviz_default_plugins/Image"}
    assert images["Front"] == "/front_camera/image_raw/compressed" and len(images) == 2
    _, context, actions = launched("segment.launch.py", rviz="true", rviz_frame="map")
    manager = yaml.safe_load(Path(rviz_layout(context, actions)).read_text())["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "map" and len(manager["Displays"]) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model:=nowhere"], "no model 'nowhere'"),
        (["model:=nowhere", "build_only:=true"], "no model 'nowhere'"),
        (["mode:=teacher", "bag:=BAG"], "config/cameras.param.yaml"),
        (["mode:=techer"], 'provided value "techer" is not valid'),
        (["params_file:=/no/file"], "/no/file does not exist"),
    ],
)
def test_every_refusal_ends_the_launch_with_exit_code_1(share, drive, arguments, message):
    given = [argument.replace("BAG", str(drive)) for argument in arguments]
    returncode, output = ended(launch(share, *given))
    assert returncode == 1, output
    assert message in output
    assert running_in(share) == []


def test_a_launch_that_only_builds_ends_with_exit_code_0(share):
    returncode, output = ended(launch(share, "build_only:=true"))
    assert returncode == 0, output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_node_ends_with_the_launch(share, number):
    process = launch(share)
    lines = iter(process.stdout.readline, "")
    assert any("active: labelling" in line for line in lines)
    process.send_signal(number)
    process.communicate(timeout=30)
    wait_until(lambda: running_in(share) == [], "the end of the node", 15)


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
    [(-11, False, True), (-2, True, False), (1, True, False), (0, False, False)],
)
def test_restarts_only_after_a_crash(share, returncode, is_shutdown, expected):
    module, context, _ = launched("segment.launch.py")
    event = SimpleNamespace(returncode=returncode, process_name="segment_node-1")
    actions = module.node_ended(event, SimpleNamespace(is_shutdown=is_shutdown), context.launch_configurations)
    assert bool(actions) is expected


@pytest.mark.parametrize(("returncode", "build_only"), [(1, "false"), (1, "true"), (-9, "true")])
def test_an_error_exit_ends_the_launch(share, returncode, build_only):
    module, context, _ = launched("segment.launch.py", build_only=build_only)
    event = SimpleNamespace(returncode=returncode, process_name="segment_node-1")
    with pytest.raises(RuntimeError, match=f"exit code {returncode}"):
        module.node_ended(event, SimpleNamespace(is_shutdown=False), context.launch_configurations)


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
    module, running = load("evaluate.launch.py"), SimpleNamespace(is_shutdown=False)
    module.fail_with(SimpleNamespace(returncode=0), running)
    module.fail_with(SimpleNamespace(returncode=130), SimpleNamespace(is_shutdown=True))
    with pytest.raises(RuntimeError, match="exit code 3"):
        module.fail_with(SimpleNamespace(returncode=3), running)
