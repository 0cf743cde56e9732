"""Parameters that the node does not have: which known one may be meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

from rclpy.node import Node

from xmodelkd_ros.core.errors import listed, shortened
from xmodelkd_ros.messages.topics import SEGMENTER
from xmodelkd_ros.node import parameters

_OF_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides.")
"""Beginnings of the parameters that rclpy declares, some of them later or not in every distribution."""
_MIN_SIMILARITY = 0.7
"""Of a name to a misspelt one, from 0 to 1; less similar names are not proposed."""
_CAMERA = re.compile(r"cameras\.(\w+)\.")


def warnings(node: Node) -> list[str]:
    """A line for each value that the node was started with and no declared parameter takes, so that it has no effect.

    Those that resemble none, as in a file for several nodes, share a line.
    """
    unknown = [name for name in sorted(parameters.start_values(node)) if not _is_known(node, name)]
    proposals = {name: proposal(node, name) for name in unknown}
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
    names = node.list_parameters([], 0).names
    camera = _CAMERA.match(name)
    if camera and not any(known.startswith(camera[0]) for known in names):
        cameras = listed(node.get_parameter("camera_names").value)
        return f"Parameter cameras names {cameras or 'no camera'}, not {shortened(camera[1])}"
    nearest = _nearest(name, (known for known in names if not known.startswith(_OF_RCLPY)))
    return f"The nearest is {nearest}" if nearest else ""


def _is_known(node: Node, name: str) -> bool:
    return node.has_parameter(name) or name == "cameras" or name.startswith(_OF_RCLPY)


def _nearest(name: str, known: Iterable[str]) -> str:
    """The most similar name, compared with and without its group; empty if none is similar."""

    def similarity(candidate: str) -> float:
        pairs = ((name, candidate), (name, candidate.rpartition(".")[2]), (name.rpartition(".")[2], candidate))
        return max(_similarity(one.lower(), other.lower()) for one, other in pairs)

    best = max(known, key=similarity, default="")
    return best if best and similarity(best) >= _MIN_SIMILARITY else ""


def _similarity(one: str, other: str) -> float:
    if sorted(one) == sorted(other):  # letters in another order: "modle" is model rather than mode
        return 1.0
    return SequenceMatcher(None, one, other).ratio()
