"""Inputs of the launch files: parameter files, and how a bag's topics reach the node."""

import os
from pathlib import Path

import pytest

from test.example_bags import CLOUD_TYPE, START_NS, TEXT_TYPE, sweep, text
from xmodelkd_ros.bags.bag import message_class
from xmodelkd_ros.bags.bag_writer import BagWriter
from xmodelkd_ros.core.errors import BagError, ConfigError
from xmodelkd_ros.harness import launch_inputs
from xmodelkd_ros.harness.dds_domain import reserve_domain
from xmodelkd_ros.harness.launch_inputs import (
    absolute_namespace,
    camera_inputs,
    misspelt_arguments,
    playback,
    read_parameters,
)

ROOT = Path(__file__).parents[2]


def bag_with(path, clouds, others=()):
    with BagWriter(path) as bag:
        for topic in clouds:
            bag.add_topic(topic, CLOUD_TYPE)
            bag.write(topic, START_NS, sweep(0, 10))
        for topic in others:
            bag.add_topic(topic, TEXT_TYPE)
            bag.write(topic, START_NS, text("x"))
    return path


@pytest.mark.parametrize(
    ("given", "pushed", "expected"),
    [
        ("", "", ""),
        ("/", "", ""),
        ("car1", "", "/car1"),
        ("/car1/", "/fleet", "/car1"),
        ("lidar", "/car1", "/car1/lidar"),
    ],
)
def test_namespaces_are_made_absolute(given, pushed, expected):
    assert absolute_namespace(given, pushed) == expected


@pytest.mark.parametrize(
    ("name", "namespace", "taken"),
    [
        ("/**", "/car1", True),
        ("**", "", True),
        ("/**/segmenter", "/fleet/car1", True),
        ("/*/segmenter", "/car1", True),
        ("/*/segmenter", "", False),
        ("/*", "", True),
        ("/*", "/car1", False),
        ("segmenter", "", True),
        ("/segmenter", "", True),
        ("segmenter", "/car1", False),
        ("/car1/segmenter", "/car1", True),
        ("/other_node", "", False),
        ("/car1/**", "/car1", True),
    ],
)
def test_parameters_for_another_node_have_no_effect_and_this_is_said(tmp_path, name, namespace, taken):
    file = tmp_path / "p.yaml"
    file.write_text(f'"{name}":\n  ros__parameters:\n    sync: {{slop: 0.1}}\n')
    values, warnings = read_parameters("params_file", str(file), namespace)
    assert values == ({"sync.slop": 0.1} if taken else {})
    assert taken == (warnings == [])
    if not taken:
        assert f"the node is {namespace}/segmenter" in warnings[0] and "no effect" in warnings[0]


def test_node_names_may_be_nested(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("car1:\n  segmenter:\n    ros__parameters: {mode: teacher}\n")
    assert read_parameters("params_file", str(file), "/car1") == ({"mode": "teacher"}, [])


@pytest.mark.parametrize("content", ["", "# nothing\n", "/**:\n  ros__parameters: {}\n", "/**:\n  ros__parameters:\n"])
def test_a_file_without_parameters_is_reported(tmp_path, content):
    file = tmp_path / "p.yaml"
    file.write_text(content)
    values, [warning] = read_parameters("cameras_file", str(file), "")
    assert values == {} and warning == f"cameras_file:={file} sets no parameter"


@pytest.mark.parametrize(
    "content",
    [b"a: [", b"\xff\xfe\x00", b"/**:\n\tx: 1\n", b"- 1\n", b"words", b"/**:\n  mode: teacher\n", b"a: 1\n---\nb: 2\n"],
)
def test_a_file_that_is_no_parameter_file_is_an_error_of_one_line(tmp_path, content):
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="params_file:=") as error:
        read_parameters("params_file", str(file), "")
    assert "\n" not in str(error.value)


def test_files_are_found_or_refused(tmp_path, monkeypatch):
    file = tmp_path / "mine.yaml"
    file.touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert launch_inputs.existing_file("params_file", "~/mine.yaml") == str(file)
    assert os.path.samefile(launch_inputs.existing_file("params_file", "mine.yaml"), file)
    with pytest.raises(ConfigError, match=r"params_file:=no\.yaml does not exist"):
        launch_inputs.existing_file("params_file", "no.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        launch_inputs.existing_file("params_file", str(tmp_path))


@pytest.mark.parametrize(
    ("clouds", "namespace", "points_topic", "expected"),
    [
        (["/points"], "", "points", ("/points", {})),
        (["/points"], "/car1", "points", ("/points", {"/points": "/car1/points"})),
        (["/points", "/car1/points"], "/car1", "points", ("/car1/points", {})),
        (["/hesai/pandar"], "", "points", ("/hesai/pandar", {"/hesai/pandar": "/points"})),
        (["/hesai/pandar"], "/car1", "/top/points", ("/hesai/pandar", {"/hesai/pandar": "/top/points"})),
        (["/left", "/right"], "", "/right", ("/right", {})),
        (["/left", "/right"], "/car1", "right", ("/right", {"/right": "/car1/right"})),
        (["/points", "/car1/segmenter/labels"], "/car1", "points", ("/points", {"/points": "/car1/points"})),
    ],
)
def test_the_player_reaches_the_input_of_the_node(tmp_path, clouds, namespace, points_topic, expected):
    found = playback(bag_with(tmp_path / "bag", clouds), namespace, points_topic)
    assert (found.points, found.renamed) == expected
    rules = [word for old, new in found.renamed.items() for word in ("--ros-args", "-r", f"{old}:={new}")]
    assert found.arguments()[-2 - len(rules) :] == ["--wait-for-subscribers", f"{found.points}:1", *rules]


def test_one_of_several_clouds_must_be_named(tmp_path):
    bag = bag_with(tmp_path / "bag", ["/left", "/right"])
    with pytest.raises(BagError, match=r"several PointCloud2 topics and none is /points.*/left \(1 sweeps\), /right"):
        playback(bag, "", "points")
    with pytest.raises(BagError, match="no PointCloud2 topic"):
        playback(bag_with(tmp_path / "text", [], ["/words"]), "", "points")
    with pytest.raises(BagError, match="does not exist"):
        playback(tmp_path / "nothing", "", "points")


def test_outputs_of_an_earlier_run_are_not_played(tmp_path):
    bag = bag_with(tmp_path / "bag", ["/points", "/segmenter/labels"], ["/segmenter/label_info_json", "/tf"])
    found = playback(bag, "", "points")
    assert found.left_out == ["/segmenter/labels", "/segmenter/label_info_json"]
    assert found.arguments() == ["--topics", "/points", "/tf", "--wait-for-subscribers", "/points:1"]
    assert "/segmenter/labels, /segmenter/label_info_json" in found.notes()[-1]


def test_cameras_follow_the_namespace_and_tf_stays_global(tmp_path):
    parameters = {
        "cameras": ["front", "left", "rear"],
        "cameras.front.compressed": True,
        "cameras.left.image_topic": "/left/image",
        "cameras.rear.image_topic": "rear/image",
        "cameras.rear.info_topic": "rear/info",
    }
    topics = ["/front/image_raw/compressed", "/front/camera_info", "/left/image", "/left/camera_info", "/tf"]
    bag = bag_with(tmp_path / "bag", ["/points"], [*topics, "/rear/image", "/rear/info"])
    found = playback(bag, "/car1", "points", [t for pair in camera_inputs(parameters).values() for t in pair])
    assert found.renamed == {
        old: f"/car1{old}"
        for old in ("/points", "/front/image_raw/compressed", "/front/camera_info", "/rear/image", "/rear/info")
    }


def test_misspelt_launch_arguments_are_named():
    known = ["model", "mode", "sensor", "params_file", "points_topic"]
    given = ["modle:=x", "Mode:=teacher", "sensor_file:=VLP-16", "model:=y", "vehicle:=car1", "--flag"]
    lines = misspelt_arguments(given, known)
    assert [line.split()[2] for line in lines] == ["modle", "Mode", "sensor_file"]
    assert [line.split()[-1] for line in lines] == ["model", "mode", "sensor"]


@pytest.mark.parametrize("values", [{"camera_names": ["front"]}, {"camera_names": [""], "cameras": "front"}])
def test_cameras_may_be_named_as_in_a_dump_of_the_node(values):
    assert camera_inputs(values) == {"front": ("front/image_raw", "front/camera_info")}


def test_shipped_camera_file_names_the_topics_of_its_cameras():
    values, warnings = read_parameters("cameras_file", str(ROOT / "config" / "cameras.param.yaml"), "")
    assert warnings == [] and values["cameras"] == ["front", "left"]
    assert camera_inputs(values)["front"] == ("/front_camera/image_raw/compressed", "/front_camera/camera_info")


def test_a_recorded_clock_is_played_instead_of_one_made_from_log_times(tmp_path):
    pytest.importorskip("rclpy", reason="needs rclpy")
    import rclpy
    from rclpy.node import Node

    from xmodelkd_ros.bags.bag import BagReader
    from xmodelkd_ros.harness.bag_player import BagPlayer
    from xmodelkd_ros.harness.sweep_log import SweepLog

    path = tmp_path / "bag"
    with BagWriter(path) as bag:
        bag.add_topic("/clock", "rosgraph_msgs/msg/Clock")
        bag.add_topic("/points", CLOUD_TYPE)
        time = message_class("builtin_interfaces/msg/Time")(sec=100, nanosec=0)
        bag.write("/clock", START_NS, message_class("rosgraph_msgs/msg/Clock")(clock=time))
        bag.write("/points", START_NS, sweep(0, 10))
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=int(reserve_domain(os.environ.get("ROS_DOMAIN_ID", "0"))))
    node = Node("player", context=context)
    with BagReader(path) as reader, SweepLog(None) as log:
        BagPlayer(node, reader, [], True, log)
        assert node.count_publishers("/clock") == 1
        node.destroy_node()
        second = Node("second", context=context)
        BagPlayer(second, reader, ["/points"], True, log)
        assert second.count_publishers("/clock") == 1
        second.destroy_node()
    context.try_shutdown()
