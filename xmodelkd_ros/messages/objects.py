"""Boxes of objects as vision_msgs/Detection3DArray and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xmodelkd_ros.core.object_box import ObjectBox

_DECIMALS = 4


def detections_msg(boxes: Iterable[ObjectBox], header: Any, types: Any) -> Any:
    """Convert boxes to vision_msgs/Detection3DArray, one hypothesis each: name of the class and mean probability.

    Args:
        boxes: the boxes, in the frame of the header.
        header: of the sweep.
        types: module vision_msgs.msg.
    """
    return types.Detection3DArray(header=header, detections=[_detection(box, header, types) for box in boxes])


def _detection(box: ObjectBox, header: Any, types: Any) -> Any:
    detection = types.Detection3D(header=header)
    result = types.ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = box.class_name, box.probability
    for pose in (detection.bbox.center, result.pose.pose):
        pose.position.x, pose.position.y, pose.position.z = box.center
        turn = pose.orientation
        turn.x, turn.y, turn.z, turn.w = box.orientation
    size = detection.bbox.size
    size.x, size.y, size.z = box.size
    detection.results = [result]
    return detection


def box_json(box: ObjectBox) -> dict[str, Any]:
    """A box for JSON: metres, quaternion x, y, z, w."""
    return {
        "class": box.class_name,
        "probability": round(box.probability, _DECIMALS),
        "center": [round(value, _DECIMALS) for value in box.center],
        "orientation": [round(value, _DECIMALS + 2) for value in box.orientation],
        "size": [round(value, _DECIMALS) for value in box.size],
        "points": box.points,
    }
