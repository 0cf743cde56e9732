"""The policy for SROS 2 that is shipped names what the node has in the ROS graph, and nothing else."""

import gc
import xml.etree.ElementTree as ElementTree
from contextlib import suppress

import pytest

from xmodelkd_ros.resources import find_config

OF_OTHER_INSTALLATIONS = {"/segmenter/label_info", "/tf", "/tf_static"}
"""What the node has where vision_msgs and tf2_ros are installed."""
CAMERA = {
    "cameras": ["front_camera"],
    "cameras.front_camera.image_topic": "/front_camera/image",
    "cameras.front_camera.compressed": True,
    "cameras.front_camera.extrinsic": [0.0, 0.0, 0.0, -0.5, 0.5, -0.5, 0.5],
}


def allowed(kind, access):
    """Full names of the topics or services that the policy allows for an access."""
    (profile,) = ElementTree.parse(find_config("security/segmenter.policy.xml")).getroot().iter("profile")
    node, namespace = profile.attrib["node"], profile.attrib["ns"]
    names = [
        name.text for group in profile.iter(f"{kind}s") if group.get(access) == "ALLOW" for name in group.iter(kind)
    ]
    assert len(names) == len(set(names))
    return {
        f"/{node}{name[1:]}" if name.startswith("~") else name if name.startswith("/") else f"{namespace}{name}"
        for name in names
    }


@pytest.fixture
def graph(make_bench, light_model):
    """Asks for what the running node has of a kind, once all that is expected has been discovered."""
    gc.collect()  # destroyed nodes of earlier tests stay in the graph as long as rclpy's objects, which are in cycles
    bench = make_bench(use_sim_time=True, teacher_model=str(light_model), mode="teacher", **CAMERA).start()

    def names(of, expected):
        asked = getattr(bench.probe, f"get_{of}_names_and_types_by_node")

        def found():
            return {name for name, _ in asked("segmenter", "/")} - OF_OTHER_INSTALLATIONS

        with suppress(AssertionError):  # the test says what is missing
            bench.wait(lambda: found() >= expected)
        return found()

    return names


def test_the_policy_allows_what_the_running_node_has_and_nothing_else(graph):
    for kind, access, of in (
        ("topic", "publish", "publisher"),
        ("topic", "subscribe", "subscriber"),
        ("service", "reply", "service"),
    ):
        expected = allowed(kind, access) - OF_OTHER_INSTALLATIONS
        assert graph(of, expected) == expected, (kind, access)
    assert allowed("service", "request") == set(), "it asks nobody"
