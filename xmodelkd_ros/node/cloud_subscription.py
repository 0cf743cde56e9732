"""Subscription to the point clouds, with QoS adapted to the publishers and a count of lost clouds."""

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
"""Queue depth of the subscription."""
_DISCOVERY_PERIOD_S = 0.1
_POLICIES = {"best_effort": ReliabilityPolicy.BEST_EFFORT, "reliable": ReliabilityPolicy.RELIABLE}


class CloudSubscription:
    """Subscribes to ``points``, reliably if every publisher offers that.

    Best effort matches any driver. But a driver without a DDS profile for large clouds sends them in fragments, and
    losing one fragment under best effort loses the whole cloud. So the subscription is reliable where all publishers
    offer it. Publishers are checked periodically, because drivers come and go.

    Args:
        node: node that subscribes.
        reliability: ``auto`` for the above, or ``best_effort`` or ``reliable`` regardless of the publishers.
        on_points: callback for each cloud.
        on_lost: callback for the number of newly detected clouds that were published but not received.
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
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = node.create_timer(_DISCOVERY_PERIOD_S, self._match_publishers, clock=steady)

    @property
    def topic(self) -> str:
        """Full name of the topic."""
        return str(self._subscription.topic_name)

    def destroy(self) -> None:
        """Remove the subscription."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)

    def _on_message(self, msg: Any, info: Mapping[str, Any]) -> None:
        self._report_lost(self._lost.add_message(info))
        self._on_points(msg)

    def _on_lost_event(self, event: Any) -> None:
        self._report_lost(self._lost.add_event(event.total_count_change))

    def _report_lost(self, count: int) -> None:
        if count:
            self._on_lost(count)

    def _match_publishers(self) -> None:
        """Subscribe again if the publishers' reliability requires a different QoS."""
        offered = [info.qos_profile.reliability for info in self._node.get_publishers_info_by_topic(self.topic)]
        if not offered:
            return
        all_reliable = all(reliability == ReliabilityPolicy.RELIABLE for reliability in offered)
        matching = ReliabilityPolicy.RELIABLE if all_reliable else ReliabilityPolicy.BEST_EFFORT
        if matching != self._reliability:
            self._node.destroy_subscription(self._subscription)
            self._subscribe(matching)
            self._node.get_logger().info(f"subscribed to {self.topic} {matching.name.lower()}, as its publishers offer")

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        self._reliability = reliability
        self._subscription = self._node.create_subscription(
            PointCloud2,
            "points",
            self._on_message,
            QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=DEPTH, reliability=reliability),
            event_callbacks=SubscriptionEventCallbacks(message_lost=self._on_lost_event),
            # Reliability has a parameter of its own.
            qos_overriding_options=QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)),
        )
