"""Subscription with QoS adapted to the publishers and a count of lost messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from xmodelkd_ros.node.lost_messages import LostMessageCounter
from xmodelkd_ros.node.parameter_definition import start_values

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

DEPTH = 5
"""Queue depth of the subscription."""
_DISCOVERY_PERIOD_S = 0.1
_PASSES_INFO = hasattr(Subscription, "CallbackType")
"""Whether rclpy passes the information on a message to callbacks that take it; not on Humble."""
_POLICIES = {"best_effort": ReliabilityPolicy.BEST_EFFORT, "reliable": ReliabilityPolicy.RELIABLE}


class AdaptiveSubscription:
    """Subscribes to a topic, reliably if every publisher offers that.

    Best effort matches any driver. But a driver without a DDS profile for large messages sends them in fragments, and
    losing one fragment under best effort loses the whole message. So the subscription is reliable where all publishers
    offer it. Publishers are checked periodically, because drivers come and go.

    Args:
        node: node that subscribes.
        message_type: class of the messages.
        topic: name of the topic.
        on_message: callback for each message.
        on_lost: callback for the number of newly detected messages that were published but not received.
        reliability: ``auto`` for the above unless a QoS override sets it, or ``best_effort`` or ``reliable``.
        latched: whether to subscribe transient local if every publisher offers that.

    Attributes:
        silent_since_s: monotonic time of the last message, or of the last change of publishers if later.
        heard: whether a message has arrived since then.
    """

    def __init__(
        self,
        node: Node,
        message_type: Any,
        topic: str,
        on_message: Callable[[Any], None],
        on_lost: Callable[[int], None] | None = None,
        reliability: str = "auto",
        latched: bool = False,
    ) -> None:
        self._node, self._message_type, self._name = node, message_type, topic
        self._on_received, self._on_lost = on_message, on_lost
        self._lost = LostMessageCounter()
        self.topic = node.resolve_topic_name(topic)
        module = message_type.__module__.split(".")
        self.type_name = f"{module[0]}/{module[1]}/{message_type.__name__}"
        self._latched = latched
        # Reliability is a parameter of its own, unless a QoS override sets it.
        policies = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH]
        if reliability == "auto" and f"qos_overrides.{self.topic}.subscription.reliability" in start_values(node):
            policies.append(QoSPolicyKind.RELIABILITY)
        self._overridable = QoSOverridingOptions(policies)
        self._adapts = reliability == "auto" and QoSPolicyKind.RELIABILITY not in policies
        self._reliability = _POLICIES.get(reliability, ReliabilityPolicy.BEST_EFFORT)
        self._durability = DurabilityPolicy.VOLATILE
        self._publishers: frozenset[bytes] = frozenset()
        self.silent_since_s, self.heard = time.monotonic(), False
        self._adapt()
        self._subscribe()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_DISCOVERY_PERIOD_S, self._match_publishers, clock=steady)

    @property
    def qos(self) -> QoSProfile:
        """The current QoS."""
        profile: QoSProfile = self._subscription.qos_profile
        return profile

    def destroy(self) -> None:
        """Remove the subscription."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)

    def _on_message(self, msg: Any, info: Mapping[str, Any]) -> None:
        self.silent_since_s, self.heard = time.monotonic(), True
        self._report_lost(self._lost.add_message(info))
        self._on_received(msg)

    def _on_lost_event(self, event: Any) -> None:
        self._report_lost(self._lost.add_event(event.total_count_change))

    def _report_lost(self, count: int) -> None:
        if count and self._on_lost is not None:
            self._on_lost(count)

    def _match_publishers(self) -> None:
        if self._adapt():
            self._node.destroy_subscription(self._subscription)
            self._subscribe()
            reliability = self._reliability.name.lower()
            self._node.get_logger().info(f"subscribed to {self.topic} {reliability}, as its publishers offer")

    def _adapt(self) -> bool:
        """Choose the QoS for the present publishers; returns whether it changed."""
        infos = self._node.get_publishers_info_by_topic(self.topic)
        offered = [info.qos_profile for info in infos if info.topic_type == self.type_name]
        publishers = frozenset(bytes(info.endpoint_gid) for info in infos)
        if publishers - self._publishers:
            self.silent_since_s, self.heard = time.monotonic(), False
        self._publishers = publishers
        if not offered:
            return False
        before = self._reliability, self._durability
        if self._adapts:
            reliable = all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered)
            self._reliability = _POLICIES["reliable" if reliable else "best_effort"]
        if self._latched:
            latched = all(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered)
            self._durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        return before != (self._reliability, self._durability)

    def _subscribe(self) -> None:
        self._subscription = self._node.create_subscription(
            self._message_type,
            self._name,
            self._on_message if _PASSES_INFO else partial(self._on_message, info={}),
            QoSProfile(
                history=HistoryPolicy.KEEP_LAST, depth=DEPTH, reliability=self._reliability, durability=self._durability
            ),
            event_callbacks=SubscriptionEventCallbacks(message_lost=self._on_lost_event),
            qos_overriding_options=self._overridable,
        )
