"""The shipped SROS 2 policy allows exactly the topics and services of the node."""

import gc
import xml.etree.ElementTree as ElementTree
from contextlib import suppress

import pytest

from xmodelkd_ros.resources import find_config

OPTIONAL = {"/segmenter/label_info", "/segmenter/objects", "/tf", "/tf_static"}
"""Topics of the node if vision_msgs and tf2_ros are installed."""
CAMERA = {
    "cameras": ["front_camera"],
    "cameras.front_camera.image_topic": "/front_camera/image",
    "cameras.front_camera.compressed": True,
    "cameras.front_camera.extrinsic": [0.0, 0.0, 0.0, -0.5, 0.5, -0.5, 0.5],
    "filters.static.drop": ["car"],
}


def allowed(kind, access):
    """Full names of the topics or services with an access that the policy allows."""
    (profile,) = ElementTree.parse(find_config("security/segmenter.policy.xml")).getroot().iter("profile")
    node, namespace = profile.attrib["node"], profile.attrib["ns"]
    names = [
        name.text for group in profile.iter(f"{kind}s") if group.get(access) == "ALLOW" for name in group.iter(kind)
    ]
    assert len(names) == len(set(names))
    names = [name.replace("~/filtered/*", "~/filtered/static") for name in names]
    return {
        f"/{node}{name[1:]}" if name.startswith("~") else name if name.startswith("/") else f"{namespace}{name}"
        for name in names
    }


@pytest.fixture
def graph(make_bench, light_model):
    """Function that returns the node's names of a kind, once all expected ones are discovered."""
    gc.collect()  # rclpy's objects of earlier tests, which are in cycles, keep destroyed nodes in the graph
    bench = make_bench(use_sim_time=True, teacher_model=str(light_model), mode="teacher", **CAMERA).start()

    def names(of, expected):
        query = getattr(bench.probe, f"get_{of}_names_and_types_by_node")

        def discovered():
            return {name for name, _ in query("segmenter", "/")} - OPTIONAL

        with suppress(AssertionError):  # the test reports what is missing
            bench.wait(lambda: discovered() >= expected)
        return discovered()

    return names


def test_policy_allows_exactly_the_names_of_the_running_node(graph):
    for kind, access, of in (
        ("topic", "publish", "publisher"),
        ("topic", "subscribe", "subscriber"),
        ("service", "reply", "service"),
    ):
        expected = allowed(kind, access) - OPTIONAL
        assert graph(of, expected) == expected, (kind, access)
    assert allowed("service", "request") == set(), "the node has no clients"
