"""Node, players and recorder as processes, and the errors that they report in one line."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from test.waiting import wait_until
from xmodelkd_ros.bags.bag import POINT_CLOUD_TYPE, BagReader
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.harness import bag_player, recorder
from xmodelkd_ros.harness.dds_domain import reserve_domain
from xmodelkd_ros.messages.clouds import read_field, to_cloud
from xmodelkd_ros.messages.headers import stamp_ns
from xmodelkd_ros.node import segment_node

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30
S = 1_000_000_000
START_S = 1000


class Program:
    """A child process that runs one of the programs."""

    def __init__(self, module, *arguments):
        # Another domain than that of the tests within this process.
        domain = reserve_domain(os.environ["ROS_DOMAIN_ID"])
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"xmodelkd_ros.{module}", *map(str, arguments)],
            env={**os.environ, "ROS_DOMAIN_ID": domain, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stderr = ""

    def wait_for(self, text):
        """Read stderr until a line contains the text."""
        for line in self.process.stderr:
            self.stderr += line
            if text in line:
                return
        pytest.fail(f"no line with '{text}': {self.stderr}")

    def end(self, number=None):
        """Exit code and stderr, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=DEADLINE_S)
        assert stdout == ""
        return self.process.returncode, self.stderr + stderr


class Programs:
    """Starts programs, and kills those that still run at the end."""

    def __init__(self):
        self.started = []

    def __call__(self, *arguments):
        self.started.append(Program(*arguments))
        return self.started[-1]

    def kill(self):
        for program in self.started:
            if program.process.poll() is None:
                program.process.kill()
            program.process.communicate()


@pytest.fixture
def run():
    """Starts a program by its module and arguments."""
    programs = Programs()
    yield programs
    programs.kill()


@pytest.fixture(scope="module")
def bag(tmp_path_factory, sweep):
    """Twelve sweeps of different sizes at 5 Hz, and a latched text."""
    path = tmp_path_factory.mktemp("bags") / "drive"
    with BagWriter(path) as writer:
        writer.add_topic("/top/points", POINT_CLOUD_TYPE)
        writer.add_topic("/note", "std_msgs/msg/String", latched=True)
        writer.write_raw("/note", START_S * S, serialize_message(String(data="hello")))
        for i in range(12):
            stamp = START_S + 0.1 + i / 5
            msg = sweep(300 + 100 * i, stamp=stamp)
            writer.write_raw("/top/points", round(stamp * S) + 5_000_000, serialize_message(msg))
    return path


def missing(package):
    """Skips a test of the message about a package that is not installed."""
    return pytest.mark.skipif(find_spec(package) is not None, reason=f"{package} is installed")


def node_arguments(model, *more):
    # Without comparing back ends, which would take seconds.
    return (
        *("--ros-args", "-p", f"model:={model}", "-p", "backend:=onnxruntime"),
        *("-r", "points:=/top/points", *more),
    )


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def rows(path, *topics):
    return [row for row in lines(path) if row.get("topic") in topics]


def assert_clean(result):
    code, stderr = result
    assert code == 0, stderr
    assert "Traceback" not in stderr


# --- playback ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drive(bag, height_model, tmp_path_factory):
    """Folder of logs and bags of a drive, played at twice its speed with ``/clock``, labelled and recorded."""
    folder, run = tmp_path_factory.mktemp("drive"), Programs()
    received = folder / "received.jsonl"
    try:
        topics = ("/segmenter/labels", "/segmenter/status", "/diagnostics")
        outputs = run("harness.recorder", "--topics", *topics, "--out", folder / "out.mcap", "--log", received)
        clock = run("harness.recorder", "--topics", "/clock", "--out", folder / "clock.mcap")
        node = run("node.segment_node", *node_arguments(height_model, "-p", "use_sim_time:=true"))
        wait_until(lambda: {"event": "ready"} in lines(received))
        subscribers = ("--wait-for-subscribers", "/top/points:1", "/clock:2")
        player = run("harness.bag_player", bag, "--clock", "--rate", "2", *subscribers, "--log", folder / "sent.jsonl")
        assert_clean(player.end())
        wait_until(lambda: len(rows(received, "/segmenter/labels")) >= 12 and rows(received, "/diagnostics"))
        for program in (node, outputs, clock):
            assert_clean(program.end(signal.SIGINT))
    finally:
        run.kill()
    return folder


def test_every_sweep_of_a_bag_is_labelled(drive, bag):
    sent, labels = lines(drive / "sent.jsonl"), rows(drive / "received.jsonl", "/segmenter/labels")
    key = ("stamp_ns", "points")
    assert [[row[k] for k in key] for row in sent] == [
        [round((START_S + 0.1 + i / 5) * S), 300 + 100 * i] for i in range(12)
    ]
    assert [[row[k] for k in key] for row in labels] == [[row[k] for k in key] for row in sent]
    assert all(b["monotonic_ns"] > a["monotonic_ns"] for a, b in zip(sent, labels, strict=True))
    with BagReader(drive / "out.mcap") as recorded, BagReader(bag) as played:
        points = [deserialize_message(m.data, PointCloud2) for m in played.raw(["/top/points"])]
        labelled = [m.message for m in recorded.messages(["/segmenter/labels"])]
        status = [deserialize_message(m.data, DiagnosticArray) for m in recorded.raw(["/segmenter/status"])]
    for before, after in zip(points, labelled, strict=True):
        np.testing.assert_array_equal(read_field(after, "label"), np.where(to_cloud(before).xyz[:, 2] > 0, 9, 4))
    assert [stamp_ns(s.header.stamp) for s in status] == [row["stamp_ns"] for row in sent]


def test_clock_follows_the_bag(drive):
    with BagReader(drive / "clock.mcap") as recorded:
        messages = [(m.log_time_ns, stamp_ns(m.message.clock)) for m in recorded.messages()]
    arrival, clock = np.array(messages).T
    assert clock[0] == START_S * S  # log time of the first message
    assert clock[-1] == round((START_S + 0.1 + 11 / 5) * S) + 5_000_000  # log time of the last message
    assert np.diff(clock).min() >= 0
    assert len(clock) > 20, "between the messages too"
    assert (clock[-1] - clock[0]) / (arrival[-1] - arrival[0]) == pytest.approx(2, rel=0.2)


def test_two_nodes_in_two_namespaces_label_two_lidars(run, height_model, sweep, tmp_path):
    bag, log, out = tmp_path / "drive", tmp_path / "log.jsonl", tmp_path / "out.mcap"
    sizes = {"front": [300 + 10 * i for i in range(8)], "rear": [500 + 10 * i for i in range(8)]}
    with BagWriter(bag) as writer:
        for name, points in sizes.items():
            writer.add_topic(f"/{name}/points", POINT_CLOUD_TYPE)
            for i, count in enumerate(points):
                msg = sweep(count, stamp=START_S + i / 5, frame_id=f"lidar_{name}")
                writer.write_raw(f"/{name}/points", round((START_S + i / 5) * S), serialize_message(msg))
    topics = [f"/{name}/segmenter/labels" for name in sizes]
    recorder = run("harness.recorder", "--topics", *topics, "/diagnostics", "--out", out, "--log", log)
    model = ("--ros-args", "-p", f"model:={height_model}", "-p", "backend:=onnxruntime")
    nodes = [run("node.segment_node", *model, "-r", f"__ns:=/{name}") for name in sizes]
    wait_until(lambda: {"event": "ready"} in lines(log))
    topics_and_counts = [f"/{name}/points:1" for name in sizes]
    assert_clean(run("harness.bag_player", bag, "--wait-for-subscribers", *topics_and_counts).end())
    wait_until(lambda: len(rows(log, *topics)) >= 16 and len(rows(log, "/diagnostics")) >= 4)
    for program in (*nodes, recorder):
        assert_clean(program.end(signal.SIGINT))
    for topic, points in zip(topics, sizes.values(), strict=True):
        assert [row["points"] for row in rows(log, topic)] == points
    with BagReader(out) as recorded:
        names = {m.message.status[0].name for m in recorded.messages(["/diagnostics"])}
    assert names == {"front/segmenter: segmentation", "rear/segmenter: segmentation"}


def test_latched_topics_stay_latched(run, bag, tmp_path):
    log = tmp_path / "log.jsonl"
    player = run("harness.bag_player", bag, "--topics", "/note", "/top/points", "--loop", "--rate", "10")
    recorder = run("harness.recorder", "--topics", "/note", "--out", tmp_path / "out", "--log", log)
    wait_until(lambda: len(lines(log)) > 1)
    assert lines(log)[1] == {
        "topic": "/note",
        "stamp_ns": None,
        "points": None,
        "monotonic_ns": lines(log)[1]["monotonic_ns"],
    }
    assert_clean(player.end(signal.SIGTERM))
    assert_clean(recorder.end(signal.SIGTERM))
    with BagReader(tmp_path / "out") as recorded:
        assert recorded.topics["/note"].latched


def test_build_only_loads_the_models_and_ends(run, height_model):
    code, stderr = run("node.segment_node", "--build-only", *node_arguments(height_model)).end()
    assert (code, "configured: model " in stderr, "active" in stderr) == (0, True, False)


# --- shutdown ---------------------------------------------------------------------------------------------------------


def test_signals_end_the_programs_while_sweeps_are_processed(run, bag, height_model, tmp_path):
    numbers, log = {"a": signal.SIGINT, "b": signal.SIGTERM}, tmp_path / "log.jsonl"
    nodes = {name: run("node.segment_node", *node_arguments(height_model, "-r", f"__ns:=/{name}")) for name in numbers}
    topics = [f"/{name}/segmenter/labels" for name in numbers]
    recorders = {name: run("harness.recorder", "--topics", *topics, "--log", log) for name in ("a",)}
    recorders["b"] = run("harness.recorder", "--topics", topics[1])
    run("harness.bag_player", bag, "--loop", "--rate", "20")
    wait_until(lambda: all(len(rows(log, topic)) > 5 for topic in topics))
    for name, number in numbers.items():
        nodes[name].process.send_signal(number)  # a terminal and ros2 launch both send it
        assert_clean(nodes[name].end(number))
    for name, number in numbers.items():
        assert_clean(recorders[name].end(number))


def test_programs_end_while_they_wait(run, bag, height_model, tmp_path):
    node = run("node.segment_node", *node_arguments(height_model, "-p", "autostart:=false"))
    recorder = run("harness.recorder", "--topics", "/never", "--log", tmp_path / "recorder")
    player = run("harness.bag_player", bag, "--wait-for-subscribers", "/never:1", "--log", tmp_path / "player")
    node.wait_for("waiting to be configured")
    wait_until(lambda: (tmp_path / "recorder").exists() and (tmp_path / "player").exists())
    for program in (node, recorder, player):
        assert_clean(program.end(signal.SIGINT))


# --- errors -----------------------------------------------------------------------------------------------------------


def main_of(program, capfd, *arguments):
    """Exit code and stderr of a program that runs in this process, which is faster than starting one."""
    code = program.main([program.__name__, *map(str, arguments)])
    return code, capfd.readouterr().err


@pytest.mark.usefixtures("restored_signals")
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["model:=/nowhere"], "no model '/nowhere': neither a folder with a model.json nor"),
        (["model:=3"], "Trying to set parameter 'model' to '3' of type 'INTEGER', expecting type 'STRING'"),
        (["model:=teacher"], "is a teacher; set teacher_model to it"),
        (["mode:=teacher"], "mode is teacher and cameras is empty; name the cameras"),
        (["mode:=both"], "mode is 'both'; it must be one of student, teacher"),
        (["cameras:=[front, front]"], "cameras is ['front', 'front']; give each a unique name"),
        pytest.param(
            ["cameras:=[front]"],
            "cameras.front.extrinsic is empty and tf2_ros is not installed; set it",
            marks=missing("tf2_ros"),
        ),
        (
            ["cameras:=[front]", "cameras.front.image_topic:='bad topic!'"],
            "cameras.front.image_topic 'bad topic!' is no valid topic name: failed to resolve name: topic name must",
        ),
        (
            ["cameras:=[a, b]", "cameras.a.image_topic:=/cam", "cameras.b.image_topic:=//cam"],
            "cameras.b.image_topic '//cam' is no valid topic name",
        ),
        (
            ["cameras:=[a, b]", "cameras.a.image_topic:=/cams/front", "cameras.b.image_topic:=/cams/rear"],
            "two cameras share one info_topic: /cams/camera_info, /cams/camera_info; give each its own",
        ),
        (
            ["cameras:=[front]", "cameras.front.extrinsic:=[0.0, 0.0, 0.0, 1.57, 0.0, 3.14, 0.0]"],
            "give x y z qx qy qz qw with a quaternion of length 1",
        ),
        (["cameras:=[front]", "cameras.front.extrinsic:=[1.0]"], "cameras.front.extrinsic is [1.0]; give x y z qx"),
        (["cameras:=[front]", "teacher_model:=student"], "is a student; set model to it"),
        pytest.param(
            ["sync.policy:=approximate"],
            "sync.policy is approximate and message_filters is not installed",
            marks=missing("message_filters"),
        ),
        (["sensor:=/nowhere.json"], "no sensor '/nowhere.json': neither a file nor a known LiDAR"),
        (["missing_intensity:=maybe"], "missing_intensity is 'maybe'; it must be one of auto, reject, fill"),
        (["filter.drop_classes:=[tree]"], "label set 'drive13' has no class 'tree'; it has car, "),
        (["projection_extrinsic:=[1.0, 2.0]"], "projection_extrinsic is [1.0, 2.0]; give x y z qx qy qz qw"),
        (["qos_overrides./top/points.subscription.history:=maybe"], "Unexpected QoS override"),
        (
            ["points_reliability:=perhaps"],
            "points_reliability is 'perhaps'; it must be one of auto, best_effort, reliable",
        ),
    ],
)
def test_node_rejects_parameters_in_one_line(height_model, capfd, parameters, message):
    overrides = [argument for p in parameters for argument in ("-p", p)]
    code, stderr = main_of(segment_node, capfd, *node_arguments(height_model, *overrides))
    assert code == 1
    (line,) = [line for line in stderr.splitlines() if "[INFO]" not in line]
    assert message in line


@pytest.mark.usefixtures("restored_signals")
def test_node_warns_about_unknown_parameters(height_model, capfd):
    nearest = {
        "sync.slopp": "The nearest is sync.slop",
        "sync.slope": "The nearest is sync.slop",
        "slop": "The nearest is sync.slop",
        "modle": "The nearest is model",
        "Mode": "The nearest is mode",
        "outputs.label_set": "The nearest is output.label_set",
        "label_set": "The nearest is output.label_set",
        "filter.dropclasses": "The nearest is filter.drop_classes",
        "filter.mode.drop_classes": "The nearest is filter.drop_classes",
        "cameras.front.image_topics": "The nearest is cameras.front.image_topic",
        "cameras.frnt.extrinsic": "Parameter cameras names front, not frnt",
        "camera.front.image_topic": "The nearest is cameras.front.image_topic",
    }
    known = ["cameras:=[front]", "use_sim_time:=false", "qos_overrides./points.subscription.depth:=3"]
    known += ["start_type_description_service:=false"]
    foreign = ["vehicle.wheel_base:=2.0", "is_publish_debug_mask:=true"]
    given = [f"{name}:=0.1" for name in nearest] + known + foreign
    arguments = [argument for value in given for argument in ("-p", value)]
    _, stderr = main_of(segment_node, capfd, "--build-only", *node_arguments(height_model, *arguments))
    warnings = [line for line in stderr.splitlines() if "unknown" in line or "without effect" in line]
    for name, line in nearest.items():
        (found,) = [w for w in warnings if f"parameter {name} is unknown and has no effect; is it misspelt?" in w]
        assert found.endswith(line)
    (others,) = [line for line in warnings if "without effect" in line]
    assert "similar names: is_publish_debug_mask, vehicle.wheel_base; 'ros2 param list /segmenter'" in others
    assert len(warnings) == len(nearest) + 1


def test_node_rejects_a_model_that_differs_from_its_json(run, height_model, tmp_path):
    (tmp_path / "model.json").write_bytes((height_model / "model.json").read_bytes())
    (tmp_path / "model.onnx").write_bytes((height_model / "model.onnx").read_bytes() + b" ")
    code, stderr = run("node.segment_node", *node_arguments(tmp_path)).end()
    assert code == 1
    (line,) = stderr.splitlines()
    assert "is not the file that model.json describes: files.fp32.sha256 is" in line


BAG_PLAYER_ERRORS = [
    (["nowhere"], "error: bag nowhere does not exist"),
    (["BAG", "--topics", "/other"], "has no topic '/other'; it has /note, /top/points"),
    (
        ["BAG", "--wait-for-subscribers", "/top/points:1", "--timeout", "0.1"],
        "error: no subscribers within 0.1 s: /top/points has 0 of 1",
    ),
    (["BAG", "--log", "/nowhere/log"], "error: cannot write log /nowhere/log: No such file or directory"),
]


@pytest.mark.usefixtures("restored_signals")
@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        *((bag_player, *case) for case in BAG_PLAYER_ERRORS),
        (recorder, ["--topics", "/a", "--out", "BAG"], "exists already; remove it or choose another"),
    ],
)
def test_player_and_recorder_report_errors_in_one_line(bag, capfd, program, arguments, message):
    code, stderr = main_of(program, capfd, *(bag if a == "BAG" else a for a in arguments))
    assert code == 1
    (line,) = stderr.splitlines()
    assert message in line


BAG_ERROR = "error: bag nowhere does not exist; give the path of a rosbag2 folder or an .mcap file\n"


def test_errors_end_a_process_with_one_line(run):
    assert run("harness.bag_player", "nowhere").end() == (1, BAG_ERROR)


@pytest.mark.parametrize("option", [["--rate", "0"], ["--rate", "fast"], ["--wait-for-subscribers", "/points"]])
def test_player_rejects_invalid_options(capsys, option):
    with pytest.raises(SystemExit) as stopped:
        bag_player.main(["bag_player", "bag", *option])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"bag_player: error: argument {option[0]}: ")
