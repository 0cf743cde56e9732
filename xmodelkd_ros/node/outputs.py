"""Publishers of the node, and the options of its output."""

from __future__ import annotations

from dataclasses import dataclass
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
from xmodelkd_ros.core.labels import LabelMap, LabelTranslation, ids_of
from xmodelkd_ros.messages.clouds import (
    AUTOWARE_LABEL_FIELD,
    LABEL_FIELD,
    MessageTypes,
    colored_to_msg,
    filter_msg,
    labels_to_msg,
)
from xmodelkd_ros.messages.headers import label_info_json
from xmodelkd_ros.messages.topics import DIAGNOSTICS, LABEL_INFO_JSON, LABELS, STATUS
from xmodelkd_ros.node.parameters import AUTOWARE, LABEL_SETS, NATIVE, Parameters
from xmodelkd_ros.node.qos import latched, reliable
from xmodelkd_ros.resources import label_map, translation

_TYPES = MessageTypes(PointCloud2, PointField)


@dataclass(frozen=True, eq=False)
class OutputOptions:
    """Options of the published labels.

    Attributes:
        labels: label set of the output.
        translation: from the model's label set to that, or None for the model's own.
        label_field: name of the label field in the labelled cloud.
        drop_ids: class ids whose points the filtered cloud omits.
        not_dropped: names in ``filter.drop_classes`` that only another label set has.
    """

    labels: LabelMap
    translation: LabelTranslation | None
    label_field: str
    drop_ids: tuple[int, ...]
    not_dropped: tuple[str, ...]

    @classmethod
    def of(cls, parameters: Parameters, model_labels: LabelMap, strict: bool = False) -> OutputOptions:
        """Resolve the names of label set and classes.

        Args:
            parameters: label set and classes to drop.
            model_labels: the model's own label set.
            strict: whether names of classes that only another label set has are an error too. Otherwise they are
                ignored, so that the label set can be changed without the classes.

        Raises:
            LabelError: the label set lacks a class, or there is no translation to it.
        """
        native, names = parameters.label_set == NATIVE, parameters.drop_classes
        labels = model_labels if native else label_map(parameters.label_set)
        unknown = [] if strict else [name for name in names if not labels.has_class(name)]
        others = [model_labels, *map(label_map, LABEL_SETS[1:])] if unknown else []
        ignored = tuple(name for name in unknown if any(other.has_class(name) for other in others))
        drop_ids = ids_of(labels, (name for name in names if name not in ignored))
        to_labels = None if native else translation(model_labels, labels)
        field = AUTOWARE_LABEL_FIELD if parameters.label_set == AUTOWARE else LABEL_FIELD
        return cls(labels, to_labels, field, drop_ids, ignored)


class Outputs:
    """Publishers of labelled sweeps, label sets, status and diagnostics; topics are relative to the node's name."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publishers: list[Publisher] = []
        self._announced: LabelMap | None = None
        try:
            self._create_all()
        except Exception:  # an invalid QoS override
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
        """Publish the label set of the output if it changed."""
        if options.labels == self._announced:
            return
        self._announced = options.labels
        self._label_info_json.publish(String(data=label_info_json(options.labels)))
        if self._vision is not None:
            message = label_info(options.labels, self._vision)
            message.header.stamp = self._node.get_clock().now().to_msg()
            self._label_info.publish(message)

    def publish(self, msg: Any, cloud: PointCloud, segmentation: Segmentation, options: OutputOptions) -> None:
        """Publish a labelled sweep, and the colored and filtered clouds if they have subscribers."""
        self._labels.publish(labels_to_msg(cloud, segmentation, msg.header, _TYPES, options.label_field))
        if self._colored.get_subscription_count():
            self._colored.publish(colored_to_msg(cloud, segmentation.label, options.labels, msg.header, _TYPES))
        if self._filtered.get_subscription_count():
            drop = np.zeros(256, np.bool_)
            drop[list(options.drop_ids)] = True
            self._filtered.publish(filter_msg(msg, ~drop[segmentation.label]))

    def status(self, array: DiagnosticArray) -> None:
        """Publish the status of a sweep."""
        self._status.publish(array)

    def diagnostics(self, array: DiagnosticArray) -> None:
        """Publish the state of the node."""
        self._diagnostics.publish(array)

    def destroy(self) -> None:
        """Remove the publishers."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
        self._publishers.clear()


def _vision_types() -> Any:
    """Module vision_msgs.msg if it is installed and has LabelInfo (Iron and later; not with pip), otherwise None."""
    try:
        import vision_msgs.msg
    except ImportError:
        return None
    return vision_msgs.msg if hasattr(vision_msgs.msg, "LabelInfo") else None


def label_info(labels: LabelMap, types: Any) -> Any:
    """Convert a label set to vision_msgs/LabelInfo."""
    return types.LabelInfo(class_map=[types.VisionClass(class_id=c.id, class_name=c.name) for c in labels.classes])
