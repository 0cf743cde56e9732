"""Publishers of the node, and the options of its output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import String

from xmodelkd_ros.core.cloud import PointCloud, Segmentation
from xmodelkd_ros.core.errors import ImageError, LabelError
from xmodelkd_ros.core.labels import IGNORE, LabelMap, LabelTranslation, ids_of
from xmodelkd_ros.core.object_box import ObjectBox
from xmodelkd_ros.messages.clouds import (
    AUTOWARE_LABEL_FIELD,
    LABEL_FIELD,
    MessageTypes,
    colored_to_msg,
    filter_msg,
    has_field,
    labels_to_msg,
    with_labels,
)
from xmodelkd_ros.messages.headers import Prediction, label_info_json
from xmodelkd_ros.messages.objects import detections_msg
from xmodelkd_ros.messages.topics import DIAGNOSTICS, LABEL_INFO_JSON, LABELS, STATUS
from xmodelkd_ros.node.parameters import AUTOWARE, LABEL_SETS, NATIVE, FilterParameters, Parameters
from xmodelkd_ros.node.qos import latched, reliable
from xmodelkd_ros.opencv import opencv
from xmodelkd_ros.resources import label_map, translation

_TYPES = MessageTypes(PointCloud2, PointField)


@dataclass(frozen=True, eq=False)
class PointFilter:
    """Which points a filtered cloud has.

    Attributes:
        passes: (256,) whether points with a label pass.
        others_pass: whether unlabelled points, and those with a less probable label, pass.
        min_probability: of labels that count.
    """

    passes: NDArray[np.bool_]
    others_pass: bool
    min_probability: float = 0.0

    @classmethod
    def of(cls, parameters: FilterParameters, labels: LabelMap) -> PointFilter:
        """Resolve the names of classes.

        Raises:
            LabelError: the label set lacks a class.
        """
        try:
            ids = ids_of(labels, parameters.keep or parameters.drop)
        except LabelError as error:
            raise LabelError(f"filters.{parameters.name}: {error}") from error
        if not parameters.keep:
            return cls.without(ids, parameters.min_probability)
        passes = np.zeros(256, np.bool_)
        passes[list(ids)] = True
        return cls(passes, False, parameters.min_probability)

    @classmethod
    def without(cls, ids: Iterable[int], min_probability: float = 0.0) -> PointFilter:
        """All points but those with a label among the ids."""
        passes = np.ones(256, np.bool_)
        passes[list(ids)] = False
        return cls(passes, True, min_probability)

    def mask(self, segmentation: Segmentation) -> NDArray[np.bool_]:
        """(N,) which points pass."""
        counts = (segmentation.label != IGNORE) & (segmentation.probability >= np.float32(self.min_probability))
        return np.asarray(np.where(counts, self.passes[segmentation.label], self.others_pass))


@dataclass(frozen=True, eq=False)
class OutputOptions:
    """Options of the published labels.

    Attributes:
        labels: label set of the output.
        translation: from the model's label set to that, or None for the model's own.
        label_field: name of the label field in the labelled cloud; ``predicted_`` and this if the input has it already.
        dropping: the filter of ``filter.drop_classes``.
        not_dropped: names in ``filter.drop_classes`` that only another label set has.
        all_fields: whether the labelled cloud has the input's fields too.
        min_probability: labels of a lower probability become 255.
        filters: the filters by name.
    """

    labels: LabelMap
    translation: LabelTranslation | None
    label_field: str
    dropping: PointFilter
    not_dropped: tuple[str, ...]
    all_fields: bool = False
    min_probability: float = 0.0
    filters: Mapping[str, PointFilter] = field(default_factory=dict)

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
        label_set = AUTOWARE if parameters.layout == AUTOWARE else parameters.label_set
        native, names = label_set == NATIVE, parameters.drop_classes
        labels = model_labels if native else label_map(label_set)
        unknown = [] if strict else [name for name in names if not labels.has_class(name)]
        others = [model_labels, *map(label_map, LABEL_SETS[1:])] if unknown else []
        ignored = tuple(name for name in unknown if any(other.has_class(name) for other in others))
        dropping = PointFilter.without(ids_of(labels, (name for name in names if name not in ignored)))
        to_labels = None if native else translation(model_labels, labels)
        all_fields = parameters.layout == "input"
        label_field = AUTOWARE_LABEL_FIELD if label_set == AUTOWARE and not all_fields else LABEL_FIELD
        filters = {one.name: PointFilter.of(one, labels) for one in parameters.filters}
        return cls(labels, to_labels, label_field, dropping, ignored, all_fields, parameters.min_probability, filters)


class SweepContents(Protocol):
    """What the models know of the points of a sweep."""

    def own_points(self, cloud: PointCloud) -> NDArray[np.bool_] | None:
        """(N,) which points are of the vehicle itself; None: none."""

    def object_boxes(self, cloud: PointCloud, segmentation: Segmentation, labels: LabelMap) -> list[ObjectBox]:
        """Boxes around the road users, in the cloud's frame."""


class Outputs:
    """Publishers of labelled sweeps, label sets, status and diagnostics; topics are relative to the node's name."""

    def __init__(self, node: Node, filters: Iterable[str] = ()) -> None:
        self._node = node
        self._filters: dict[str, Publisher] = dict.fromkeys(filters)
        self._publishers: list[Publisher] = []
        self._announced: LabelMap | None = None
        self._prediction: Prediction | None = None
        try:
            self._create_all()
        except Exception:  # an invalid QoS override
            self.destroy()
            raise

    def _create_all(self) -> None:
        self._labels = self._create(PointCloud2, f"~/{LABELS}", reliable(5))
        self._colored = self._create(PointCloud2, "~/colored", reliable(5))
        self._filtered = self._create(PointCloud2, "~/filtered", reliable(5))
        for name in self._filters:
            self._filters[name] = self._create(PointCloud2, f"~/filtered/{name}", reliable(5))
        self._status = self._create(DiagnosticArray, f"~/{STATUS}", reliable(10))
        self._diagnostics = self._create(DiagnosticArray, DIAGNOSTICS, reliable(10))
        self._label_info_json = self._create(String, f"~/{LABEL_INFO_JSON}", latched())
        self._vision = _vision_types()
        self._has_label_info = hasattr(self._vision, "LabelInfo")  # Iron and later
        if self._has_label_info:
            self._label_info = self._create(self._vision.LabelInfo, "~/label_info", latched())
        self._objects = None if self._vision is None else self._create_objects()

    def _create_objects(self) -> Publisher | None:
        try:
            opencv()  # finds the clusters; loading it takes too long while sweeps arrive
        except ImageError as error:
            self._node.get_logger().warning(f"no ~/objects: {error}")
            return None
        return self._create(self._vision.Detection3DArray, "~/objects", reliable(5))

    def _create(self, message_type: Any, topic: str, qos: QoSProfile) -> Publisher:
        overridable = QoSOverridingOptions.with_default_policies()
        publisher = self._node.create_publisher(message_type, topic, qos, qos_overriding_options=overridable)
        self._publishers.append(publisher)
        return publisher

    def announce(self, labels: LabelMap, prediction: Prediction) -> None:
        """Publish the label set of the output, and what predicts it, if they changed."""
        if (labels, prediction) != (self._announced, self._prediction):
            self._label_info_json.publish(String(data=label_info_json(labels, prediction)))
        if self._has_label_info and labels != self._announced:
            message = label_info(labels, self._vision)
            message.header.stamp = self._node.get_clock().now().to_msg()
            self._label_info.publish(message)
        self._announced, self._prediction = labels, prediction

    def publish(
        self,
        msg: Any,
        cloud: PointCloud,
        segmentation: Segmentation,
        options: OutputOptions,
        contents: SweepContents,
    ) -> int:
        """Publish a labelled sweep, and the colored and filtered clouds and the boxes if they have subscribers.

        Args:
            msg: the input.
            cloud: its points.
            segmentation: their labels.
            options: form of the output.
            contents: finds the vehicle's own points, which are in no filtered cloud, and the boxes.

        Returns:
            Number of labels that became 255 for lack of probability.
        """
        shown = segmentation.without_uncertain(options.min_probability)
        self._labels.publish(self._labelled(msg, cloud, shown, options))
        if self._colored.get_subscription_count():
            self._colored.publish(colored_to_msg(cloud, shown.label, options.labels, msg.header, _TYPES))
        named = [(self._filters[name], point_filter) for name, point_filter in options.filters.items()]
        filters = [(self._filtered, options.dropping), *named]
        wanted = [pair for pair in filters if pair[0].get_subscription_count()]
        own = contents.own_points(cloud) if wanted else None
        for publisher, point_filter in wanted:
            passing = point_filter.mask(segmentation)
            publisher.publish(filter_msg(msg, passing if own is None else passing & ~own))
        if self._objects is not None and self._objects.get_subscription_count():
            boxes = contents.object_boxes(cloud, shown, options.labels)
            self._objects.publish(detections_msg(boxes, msg.header, self._vision))
        return int(np.count_nonzero(shown.label != segmentation.label))

    def _labelled(self, msg: Any, cloud: PointCloud, segmentation: Segmentation, options: OutputOptions) -> Any:
        if not options.all_fields:
            return labels_to_msg(cloud, segmentation, msg.header, _TYPES, options.label_field)
        field = f"predicted_{options.label_field}" if has_field(msg, options.label_field) else options.label_field
        if self._announced is not None and self._prediction is not None:
            self.announce(self._announced, replace(self._prediction, field=field))
        return with_labels(msg, segmentation, _TYPES, field)

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
    """Module vision_msgs.msg; None if it is not installed (there is none for pip)."""
    try:
        import vision_msgs.msg
    except ImportError:
        return None
    return vision_msgs.msg


def label_info(labels: LabelMap, types: Any) -> Any:
    """Convert a label set to vision_msgs/LabelInfo."""
    return types.LabelInfo(class_map=[types.VisionClass(class_id=c.id, class_name=c.name) for c in labels.classes])
