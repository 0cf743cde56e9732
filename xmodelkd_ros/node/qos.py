"""Quality of service of the topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def reliable(depth: int) -> QoSProfile:
    """The QoS of outputs: RViz and recorders ask for reliable; whoever asks for best effort gets it too."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE)


def latched() -> QoSProfile:
    """The QoS of what is said once: a late subscriber still gets the last message."""
    profile = reliable(1)
    profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return profile
