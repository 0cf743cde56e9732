"""Everything the node publishes about a sweep."""

from __future__ import annotations

from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import String

from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.labels import LabelMap
from xmodelkd_ros.messages.clouds import MessageTypes, colored_to_msg, filter_msg, labels_to_msg
from xmodelkd_ros.messages.headers import label_info_json
from xmodelkd_ros.messages.topics import DIAGNOSTICS, LABEL_INFO_JSON, LABELS, STATUS
from xmodelkd_ros.node.parameters import OutputOptions
from xmodelkd_ros.node.qos import latched, reliable

_TYPES = MessageTypes(PointCloud2, PointField)


class Outputs:
    """The node's publishers for sweeps and for what their labels mean.

    Args:
        node: publishes; topics are below its name.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publishers: list[Publisher] = []
        self._announced: LabelMap | None = None
        try:
            self._create_all()
        except Exception:  # a QoS override that cannot be used
            self.destroy()
            raise

    def _create_all(self) -> None:
        self._labels = self._create(PointCloud2, f"~/{LABELS}", reliable(5))
        self._colored = self._create(PointCloud2, "~/colored", reliable(5))
        self._filtered = self._create(PointCloud2, "~/filtered", reliable(5))
        self._status = self._create(DiagnosticArray, f"~/{STATUS}", reliable(10))
        self._diagnostics = self._create(DiagnosticArray, DIAGNOSTICS, reliable(10))
        self._label_info_json = self._create(String, f"~/{LABEL_INFO_JSON}", latched())
        self._vision = _vision_types()
        if self._vision is not None:
            self._label_info = self._create(self._vision.LabelInfo, "~/label_info", latched())

    def _create(self, message_type: Any, topic: str, qos: QoSProfile) -> Publisher:
        overridable = QoSOverridingOptions.with_default_policies()
        publisher = self._node.create_publisher(message_type, topic, qos, qos_overriding_options=overridable)
        self._publishers.append(publisher)
        return publisher

    def announce(self, options: OutputOptions) -> None:
        """Say what the numbers in the labelled clouds mean, from now on, if that is not what was said last."""
        if options.labels == self._announced:
            return
        self._announced = options.labels
        self._label_info_json.publish(String(data=label_info_json(options.labels)))
        if self._vision is not None:
            message = label_info(options.labels, self._vision)
            message.header.stamp = self._node.get_clock().now().to_msg()
            self._label_info.publish(message)

    def publish(self, msg: Any, cloud: PointCloud, segmentation: Segmentation, options: OutputOptions) -> None:
        """Publish a labelled sweep, and the colored and filtered one where somebody listens.

        Args:
            msg: the cloud as it came in.
            cloud: the same, decoded, in the frame it came in.
            segmentation: its labels.
            options: of the output.
        """
        self._labels.publish(labels_to_msg(cloud, segmentation, msg.header, _TYPES, options.label_field))
        if self._colored.get_subscription_count():
            self._colored.publish(colored_to_msg(cloud, segmentation.label, options.labels, msg.header, _TYPES))
        if self._filtered.get_subscription_count():
            drop = np.zeros(256, np.bool_)
            drop[list(options.drop_ids)] = True
            self._filtered.publish(filter_msg(msg, ~drop[segmentation.label]))

    def status(self, array: DiagnosticArray) -> None:
        """Publish what happened to a sweep."""
        self._status.publish(array)

    def diagnostics(self, array: DiagnosticArray) -> None:
        """Publish how the node is."""
        self._diagnostics.publish(array)

    def destroy(self) -> None:
        """Take the publishers down."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
        self._publishers.clear()


def _vision_types() -> Any:
    """The module vision_msgs.msg if it is installed and knows LabelInfo (Iron and later; not with pip), or None."""
    try:
        import vision_msgs.msg
    except ImportError:
        return None
    return vision_msgs.msg if hasattr(vision_msgs.msg, "LabelInfo") else None


def label_info(labels: LabelMap, types: Any) -> Any:
    """The label set as vision_msgs/LabelInfo.

    Args:
        labels: the set.
        types: holds the classes ``LabelInfo`` and ``VisionClass``.
    """
    return types.LabelInfo(class_map=[types.VisionClass(class_id=c.id, class_name=c.name) for c in labels.classes])
