"""Outputs of the types of vision_msgs, which pip does not have, over DDS."""

import numpy as np
import pytest
from std_msgs.msg import Header

from test.ros import TYPES
from xmodelkd_ros.messages.clouds import truth_to_msg
from xmodelkd_ros.node.qos import latched
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.segmentation.parity_sweep import read_parity_sweep

vision_msgs = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")


def test_boxes_and_label_info_are_published(make_bench):
    bench = make_bench(model="student")
    boxes = bench.listen(vision_msgs.Detection3DArray, "segmenter/objects")
    infos = bench.listen(vision_msgs.LabelInfo, "segmenter/label_info", qos=latched())
    bench.start()
    cloud, _ = read_parity_sweep(0)
    header = Header(frame_id="lidar")
    header.stamp.sec = 7
    labelled = bench.segment(truth_to_msg(cloud, np.zeros(len(cloud), np.uint8), header, TYPES))
    bench.wait(lambda: boxes and infos, "boxes and label info")
    assert boxes[0].header == labelled.header
    cars = [one for one in boxes[0].detections if one.results[0].hypothesis.class_id == "car"]
    assert len(cars) >= 3
    for car in cars:
        assert 0 < car.results[0].hypothesis.score <= 1 and 0 < car.bbox.size.z < 4 and car.bbox.size.x < 12
    assert [entry.class_name for entry in infos[0].class_map] == list(label_map("drive13").names)
