"""The subscription to the sweeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2

from xmodelkd_ros.node.lost_sweeps import LostSweepCounter

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

DEPTH = 5
"""Sweeps that wait for the node's callback."""
_LOOK_PERIOD_S = 0.1
_POLICIES = {"best_effort": ReliabilityPolicy.BEST_EFFORT, "reliable": ReliabilityPolicy.RELIABLE}


class CloudSubscription:
    """Subscribes to ``points`` as reliably as every publisher of it offers.

    Best effort is what any driver can serve. But a driver without a DDS profile for large clouds
    sends them in fragments, of which best effort loses some, and with one the whole cloud. So where
    all publishers offer reliable delivery it is taken; they are looked at again and again, because
    drivers come and go.

    Args:
        node: subscribes.
        reliability: ``auto`` for the above, or ``best_effort`` or ``reliable`` whatever is offered.
        on_points: takes each cloud.
        on_lost: takes the number of clouds that were published and did not get here, whenever some are noticed.
    """

    def __init__(
        self, node: Node, reliability: str, on_points: Callable[[Any], None], on_lost: Callable[[int], None]
    ) -> None:
        self._node = node
        self._on_points = on_points
        self._on_lost = on_lost
        self._lost = LostSweepCounter()
        self._subscribe(_POLICIES.get(reliability, ReliabilityPolicy.BEST_EFFORT))
        self._timer = None
        if reliability not in _POLICIES:
            self._timer = node.create_timer(_LOOK_PERIOD_S, self._adapt, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def topic(self) -> str:
        """The topic's full name."""
        return str(self._subscription.topic_name)

    def destroy(self) -> None:
        """Stop taking clouds."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)

    def _take(self, msg: Any, info: Mapping[str, Any]) -> None:
        self._tell(self._lost.received(info))
        self._on_points(msg)

    def _on_event(self, event: Any) -> None:
        self._tell(self._lost.reported(event.total_count_change))

    def _tell(self, lost: int) -> None:
        if lost:
            self._on_lost(lost)

    def _adapt(self) -> None:
        offered = [info.qos_profile.reliability for info in self._node.get_publishers_info_by_topic(self.topic)]
        if not offered:
            return
        all_reliable = all(reliability == ReliabilityPolicy.RELIABLE for reliability in offered)
        wanted = ReliabilityPolicy.RELIABLE if all_reliable else ReliabilityPolicy.BEST_EFFORT
        if wanted != self._reliability:
            self._node.destroy_subscription(self._subscription)
            self._subscribe(wanted)
            self._node.get_logger().info(f"taking {self.topic} {wanted.name.lower()}, as its publishers offer")

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        self._reliability = reliability
        self._subscription = self._node.create_subscription(
            PointCloud2,
            "points",
            self._take,
            QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=DEPTH, reliability=reliability),
            event_callbacks=SubscriptionEventCallbacks(message_lost=self._on_event),
            # Reliability has a parameter of its own.
            qos_overriding_options=QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)),
        )
