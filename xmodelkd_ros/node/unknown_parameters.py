"""Parameters that the node does not have: which known one may be meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from rclpy.node import Node

from xmodelkd_ros.core.errors import listed, shortened
from xmodelkd_ros.core.similar_names import nearest_name
from xmodelkd_ros.messages.topics import SEGMENTER
from xmodelkd_ros.node.parameter_definition import start_values

_QOS = "qos_overrides."
_OF_RCLPY = ("use_sim_time", "start_type_description_service", _QOS)
"""Beginnings of the parameters that rclpy declares, some of them later or not in every distribution."""
_CAMERA = re.compile(r"cameras?\.(\w+)\.")


def warnings(node: Node) -> list[str]:
    """A line for each value that the node was started with and no declared parameter takes, so that it has no effect.

    Those that resemble none, as in a file for several nodes, share a line.
    """
    unknown = [name for name in sorted(start_values(node)) if not _is_known(node, name)]
    return _warnings(node, {name: proposal(node, name) for name in unknown})


def qos_warnings(node: Node, later: Iterable[str] = ()) -> list[str]:
    """The same for overrides of QoS policies, which are declared with the topics' publishers and subscriptions.

    Args:
        node: an active node.
        later: topics that it may yet subscribe to.
    """
    declared = [name for name in node.get_parameters_by_prefix("") if name.startswith(_QOS)]
    expected = tuple(f"{_QOS}{topic}.subscription." for topic in later)
    given = [name for name in sorted(start_values(node)) if name.startswith(_QOS)]
    unknown = [name for name in given if not (name in declared or name.startswith(expected))]
    proposals = {name: nearest_name(name, declared) for name in unknown}
    return _warnings(node, {name: f"The nearest is {near}" if near else "" for name, near in proposals.items()})


def _warnings(node: Node, proposals: Mapping[str, str]) -> list[str]:
    """Lines on unknown parameters, by their names with what may be meant."""
    lines = [
        f"parameter {shortened(name)} is unknown and has no effect; is it misspelt? {line}"
        for name, line in proposals.items()
        if line
    ]
    foreign = [name for name, line in proposals.items() if not line]
    if foreign:
        lines.append(
            f"without effect, because {SEGMENTER} has no parameters with these or similar names: {listed(foreign)}; "
            f"'ros2 param list {node.get_fully_qualified_name()}' lists those it has"
        )
    return lines


def proposal(node: Node, name: str) -> str:
    """What the user may have meant by the name of an unknown parameter; empty if no known name is similar."""
    names = list(node.get_parameters_by_prefix(""))  # list_parameters exists from Jazzy on
    camera = _CAMERA.match(name)
    if camera and not any(known.startswith(f"cameras.{camera[1]}.") for known in names):
        cameras = listed(filter(None, node.get_parameter("cameras").value))
        return f"Parameter cameras names {cameras or 'no camera'}, not {shortened(camera[1])}"
    nearest = nearest_name(name, ("cameras", *(known for known in names if not known.startswith(_OF_RCLPY))))
    return f"The nearest is {nearest}" if nearest else ""


def _is_known(node: Node, name: str) -> bool:
    return node.has_parameter(name) or name == "cameras" or name.startswith(_OF_RCLPY)
