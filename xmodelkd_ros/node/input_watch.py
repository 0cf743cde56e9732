"""Why nothing arrives on a topic: no publisher, another type, incompatible QoS, or a transport that fails."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible

from xmodelkd_ros.core.errors import listed
from xmodelkd_ros.messages.topics import SEGMENTER
from xmodelkd_ros.node.adaptive_subscription import AdaptiveSubscription

_SILENT_S = 3.0
"""Time without a message from a publisher after which that is a problem."""
_NO_PUBLISHER_S = 5.0
"""Time without a publisher after which that is a problem: drivers may start later than the node."""

_CLOUD_SOURCES = {
    "CustomMsg": "set xfer_format to 0 in the Livox driver",
    "VelodyneScan": "start velodyne_pointcloud's velodyne_transform_node, which publishes velodyne_points",
    "PacketMsg": "start ouster_ros's os_cloud, which publishes points",
    "PandarScan": "let the Hesai driver publish points",
    "UdpFrame": "set send_point_cloud_ros to true in the Hesai driver",
    "RslidarPacket": "set send_point_cloud_ros to true in the RoboSense driver",
    "RslidarScan": "set send_point_cloud_ros to true in the RoboSense driver",
    "NebulaPackets": "start Nebula's driver, which publishes the points of its packets",
    "PointCloud": "convert it to PointCloud2 (point_cloud_converter)",
    "LaserScan": "a scan in one plane cannot be labelled",
}
"""What to do where a topic has another type than PointCloud2, by the type's short name."""
_CONVERSIONS = {
    "PointCloud2": _CLOUD_SOURCES,
    "Image": {"CompressedImage": "set the camera's parameter compressed to true"},
    "CompressedImage": {"Image": "set the camera's parameter compressed to false"},
}
"""The same, by the short name of the type that the subscription has."""


def silence(node: Node, subscription: AdaptiveSubscription, setting: str) -> str:
    """One line on why nothing arrives on a topic, and the remedy; empty while something does or may yet arrive.

    Args:
        node: node that subscribes.
        subscription: its subscription.
        setting: what to change if the topic is the wrong one, such as ``set points_topic``.
    """
    silent_s = time.monotonic() - subscription.silent_since_s
    if silent_s < _SILENT_S:
        return ""
    publishers = node.get_publishers_info_by_topic(subscription.topic)
    fitting = [info for info in publishers if info.topic_type == subscription.type_name]
    if fitting:
        return _silent_publishers(subscription, fitting, silent_s)
    if publishers:
        return _other_type(subscription, sorted({info.topic_type for info in publishers}), setting)
    return _no_publisher(node, subscription, setting) if silent_s >= _NO_PUBLISHER_S else ""


def _silent_publishers(subscription: AdaptiveSubscription, publishers: Iterable[Any], silent_s: float) -> str:
    topic, names = subscription.topic, listed(sorted({_name(info) for info in publishers}))
    for info in publishers:
        compatibility, reason = qos_check_compatible(info.qos_profile, subscription.qos)
        if compatibility == QoSCompatibility.ERROR:
            detail = " ".join(reason.replace("ERROR:", "").split()).rstrip(";.")
            return (
                f"QoS of {topic} is incompatible with its publisher {_name(info)} ({detail}); set "
                "points_reliability to auto, and remove QoS overrides of this subscription"
            )
    if subscription.heard:
        return f"{topic} has a publisher ({names}), which has sent nothing for {silent_s:.0f} s"
    is_info = subscription.type_name.endswith("/CameraInfo")
    once = ", or sent its only message before this node started (publish it latched)" if is_info else ""
    return (
        f"{topic} has a publisher ({names}), but nothing has arrived from it for {silent_s:.0f} s: it sends nothing "
        f"('ros2 topic hz {topic}' where it runs tells){once}, or its data does not get here; between containers, "
        "start both with --ipc=host or set FASTDDS_BUILTIN_TRANSPORTS=UDPv4 for both; between machines, open the "
        "firewall for UDP"
    )


def _name(publisher: Any) -> str:
    """Name of a publisher's node; some middlewares tell it late or never."""
    return "of unknown name" if "UNKNOWN" in publisher.node_name else str(publisher.node_name)


def _other_type(subscription: AdaptiveSubscription, types: list[str], setting: str) -> str:
    advice = [text for text in (_conversion(subscription, name) for name in types) if text]
    remedy = advice[0] if advice else f"{setting} to another topic"
    return f"{subscription.topic} is {listed(types)}, not {subscription.type_name}; {remedy}"


def _conversion(subscription: AdaptiveSubscription, type_name: str) -> str:
    """What to do to get the subscription's type from a source of another one; empty if that is not known."""
    wanted, given = (name.rpartition("/")[2] for name in (subscription.type_name, type_name))
    return _CONVERSIONS.get(wanted, {}).get(given, "")


def _no_publisher(node: Node, subscription: AdaptiveSubscription, setting: str) -> str:
    outputs = (f"{node.get_fully_qualified_name()}/", f"/{SEGMENTER}/")  # of this node and of others
    topics = {
        name: types
        for name, types in node.get_topic_names_and_types()
        if not any(part in name for part in outputs) and node.count_publishers(name)
    }
    fitting = [name for name, types in topics.items() if subscription.type_name in types]
    beginning = f"nobody publishes {subscription.topic}"
    convertible = {
        name: f"{name} ({types[0]}): {text}"
        for name, types in sorted(topics.items())
        if (text := _conversion(subscription, types[0]))
    }
    # image_transport publishes NAME and NAME/compressed.
    other_form = (f"{subscription.topic}/compressed", subscription.topic.removesuffix("/compressed"))
    same_image = [text for name, text in convertible.items() if name in other_form]
    if same_image:
        return f"{beginning}, but there is {same_image[0]}"
    if fitting:
        fitting.sort(key=lambda name: -SequenceMatcher(None, name, subscription.topic).ratio())
        return f"{beginning}; topics with {subscription.type_name}: {listed(fitting)}; {setting} to one of them"
    if convertible:
        return f"{beginning}, and no topic has {subscription.type_name}; {listed(convertible.values())}"
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    return (
        f"{beginning}, and no topic has {subscription.type_name}; start the driver, or check that it has this node's "
        f"ROS_DOMAIN_ID ({domain}), RMW_IMPLEMENTATION and discovery range (ROS_AUTOMATIC_DISCOVERY_RANGE, "
        "ROS_LOCALHOST_ONLY)"
    )
