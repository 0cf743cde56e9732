"""Publishing ``/clock``, for programs that play what was recorded."""

from __future__ import annotations

from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from xmodelkd_ros.messages.headers import stamp_from_ns
from xmodelkd_ros.messages.topics import CLOCK
from xmodelkd_ros.node.qos import reliable

CLOCK_PERIOD_S = 0.01
"""How often it is to be shown."""


class SimClock:
    """Publishes ``/clock``."""

    def __init__(self, node: Node) -> None:
        self._publisher = node.create_publisher(Clock, CLOCK, reliable(1))

    def show(self, now_ns: int) -> None:
        """Say what time it is, in nanoseconds."""
        message = Clock()
        message.clock = stamp_from_ns(now_ns, type(message.clock))
        self._publisher.publish(message)
