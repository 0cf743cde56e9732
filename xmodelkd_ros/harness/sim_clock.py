"""Publisher of ``/clock`` for players."""

from __future__ import annotations

from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from xmodelkd_ros.messages.headers import stamp_from_ns
from xmodelkd_ros.messages.topics import CLOCK
from xmodelkd_ros.node.qos import reliable

CLOCK_PERIOD_S = 0.01
"""Publication period."""


class SimClock:
    """Publishes ``/clock``."""

    def __init__(self, node: Node) -> None:
        self._publisher = node.create_publisher(Clock, CLOCK, reliable(1))

    def publish(self, now_ns: int) -> None:
        """Publish a time in nanoseconds."""
        message = Clock()
        message.clock = stamp_from_ns(now_ns, type(message.clock))
        self._publisher.publish(message)
