"""Boxes as messages and as JSON."""

from types import SimpleNamespace

import pytest

from xmodelkd_ros.core.object_box import ObjectBox
from xmodelkd_ros.messages.objects import box_json, detections_msg

BOX = ObjectBox("car", 0.87654321, (1.0, 2.0, 3.0), (0.0, 0.0, 0.6, 0.8), (4.0, 2.0, 1.5), 120)


def _pose():
    return SimpleNamespace(position=SimpleNamespace(), orientation=SimpleNamespace())


class Detection3D(SimpleNamespace):
    def __init__(self, header):
        super().__init__(header=header, bbox=SimpleNamespace(center=_pose(), size=SimpleNamespace()), results=[])


def _hypothesis():
    return SimpleNamespace(hypothesis=SimpleNamespace(), pose=SimpleNamespace(pose=_pose()))


TYPES = SimpleNamespace(Detection3D=Detection3D, Detection3DArray=SimpleNamespace, ObjectHypothesisWithPose=_hypothesis)
"""Stand-ins for vision_msgs.msg, which pip does not have."""


def test_message_has_box_and_hypothesis():
    message = detections_msg([BOX], "header", TYPES)
    assert message.header == "header"
    [detection] = message.detections
    [result] = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("car", BOX.probability)
    center = detection.bbox.center
    assert (center.position.x, center.position.y, center.position.z) == BOX.center
    assert (center.orientation.x, center.orientation.y, center.orientation.z, center.orientation.w) == BOX.orientation
    assert (detection.bbox.size.x, detection.bbox.size.y, detection.bbox.size.z) == BOX.size
    assert result.pose.pose == center


def test_real_message():
    msg = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")
    from std_msgs.msg import Header

    message = detections_msg([BOX], Header(frame_id="lidar"), msg)
    assert message.detections[0].results[0].hypothesis.class_id == "car"
    assert message.detections[0].bbox.size.x == 4.0


def test_json_rounds():
    assert box_json(BOX)["probability"] == 0.8765 and box_json(BOX)["orientation"] == [0.0, 0.0, 0.6, 0.8]
