"""Names of the parameters that override QoS settings."""

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs rclpy")
import rclpy

from xmodelkd_ros.harness.dds_domain import reserve_domain
from xmodelkd_ros.node.segment_node import SegmentNode
from xmodelkd_ros.node.unknown_parameters import qos_warnings

DOCS = (Path(__file__).parents[2] / "docs" / "node.md").read_text(encoding="utf-8")


@pytest.fixture
def node(height_model):
    context = rclpy.Context()
    words = ["-r", "points:=/lidar/top", "-r", "__ns:=/car1", "-p", f"model:={height_model}"]
    words += ["-p", "backend:=onnxruntime", "-p", "qos_overrides./lidar/top.subscription.depth:=3"]
    domain = int(reserve_domain(os.environ.get("ROS_DOMAIN_ID", "0")))
    rclpy.init(args=["--ros-args", *words], context=context, domain_id=domain)
    node = SegmentNode(context=context)
    yield node
    node.close()
    context.try_shutdown()


def test_overrides_that_nothing_takes_are_reported(make_bench, light_model):
    later = "qos_overrides./front/image_raw.subscription.depth"
    unknown = {
        "qos_overrides./point.subscription.depth": "qos_overrides./points.subscription.depth",
        "qos_overrides./points.subscription.histroy": "qos_overrides./points.subscription.history",
        "qos_overrides.points.subscription.depth": "qos_overrides./points.subscription.depth",
    }
    cameras = {"cameras": ["front"], "cameras.front.extrinsic": [0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.5]}
    given = dict.fromkeys([*unknown, later, "qos_overrides./points.subscription.depth"], 7)
    bench = make_bench(teacher_model=str(light_model), **cameras, **given)
    assert bench.node.start()
    lines = qos_warnings(bench.node, ["/front/image_raw"])
    assert len(lines) == len(unknown)
    for name, near in unknown.items():
        assert f"parameter {name} is unknown and has no effect; is it misspelt? The nearest is {near}" in lines


def test_overrides_have_the_name_of_the_topic_after_remapping_as_documented(node):
    assert node.start()
    declared = {name for name in node.list_parameters([], 0).names if name.startswith("qos_overrides.")}
    documented = re.findall(r"`(qos_overrides\.[^`]+)`", DOCS)
    assert len(documented) == 2 and set(documented) <= declared
    assert not any(name.startswith("qos_overrides./points.") for name in declared)
    assert node.get_parameter("qos_overrides./lidar/top.subscription.depth").value == 3
