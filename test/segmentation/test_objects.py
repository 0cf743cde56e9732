"""Boxes around road users, on shapes whose boxes are known."""

import numpy as np
import pytest

from test.street import CAR, CARS, street
from xmodelkd_ros.core.cloud import Segmentation
from xmodelkd_ros.core.ground import leveling_rotation
from xmodelkd_ros.core.sensor import SensorSpec
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.resources import label_map
from xmodelkd_ros.segmentation.objects import object_boxes

LABELS = label_map("drive13")
HEIGHT = 1.8


def segmentation(label, probability=0.9):
    label = np.asarray(label, np.uint8)
    return Segmentation(label, np.full(len(label), probability, np.float32), np.zeros(len(label), np.float32))


def ids(*names):
    return np.array([LABELS.id_of(name) for name in names], np.uint8)


def boxes_of(xyz, names, **arguments):
    return object_boxes(np.asarray(xyz, np.float32), segmentation(ids(*names)), LABELS, **arguments)


def in_level_frame(box, roll, pitch):
    """(4, 4) pose of a box in the level frame of its sensor."""
    leveling = np.eye(4)
    leveling[:3, :3] = leveling_rotation(roll, pitch)
    return leveling @ transform(box.center, box.orientation)


@pytest.mark.parametrize(("roll", "pitch"), [(0, 0), (0, 10), (4, -8), (180, 0), (178, 7)])
def test_boxes_stand_on_the_ground_around_what_is_seen_of_cars(roll, pitch):
    cloud = street(HEIGHT, roll, pitch, beams=(15, -25, 128), columns=1800)
    label = np.where(cloud.intensity < 1.5 * CAR, LABELS.id_of("car"), LABELS.id_of("road"))
    sensor = SensorSpec("any", tuple(np.linspace(15, -25, 128)), roll_deg=roll, pitch_deg=pitch)
    boxes = object_boxes(cloud.xyz, segmentation(label), LABELS, sensor)
    assert len(boxes) >= len(CARS)
    for x, y, length, width, tall in CARS:
        poses = [in_level_frame(box, roll, pitch) for box in boxes]
        within = [k for k, pose in enumerate(poses) if (np.abs(pose[:2, 3] - (x, y)) < (length / 2, width / 2)).all()]
        largest = max(within, key=lambda k: boxes[k].points)  # others: parts seen beyond something else
        box, pose = boxes[largest], poses[largest]
        assert box.class_name == "car" and box.probability == pytest.approx(0.9) and box.points >= 15
        along_x = abs(pose[0, 0]) > 0.7
        seen = box.size if along_x else (box.size[1], box.size[0], box.size[2])
        assert abs(pose[:2, :2]).max() > np.cos(np.radians(3.1)), "sides along the street"
        assert pose[2, 2] == pytest.approx(1, abs=1e-6), "upright"
        assert (np.array(seen) <= np.array([length, width, tall]) + 0.2).all()
        assert seen[1] >= width - 0.4 or seen[0] >= length - 0.4, "at least one whole side is seen"
        reach = np.abs(pose[:2, 3] - (x, y)) + np.array(seen[:2]) / 2
        assert (reach <= np.array([length, width]) / 2 + 0.2).all(), "within the car"


def test_a_vehicle_with_divided_labels_is_one_object_of_the_class_of_most_points():
    across = np.linspace(-1, 1, 30)
    back = np.stack([np.full(30, 8.0), across, np.full(30, -1.0)], 1)
    [box] = boxes_of(back, ["truck"] * 20 + ["car"] * 10)
    assert box.class_name == "truck" and box.points == 30
    assert box.size == pytest.approx((2, 0, 0), abs=1e-5) and box.center == pytest.approx((8, 0, -1), abs=1e-5)


def test_persons_side_by_side_are_two():
    rng = np.random.default_rng(0)
    crowd = [rng.uniform(-0.2, 0.2, (20, 3)) + np.array([5, y, -1]) for y in (-0.6, 0.6)]
    boxes = boxes_of(np.concatenate(crowd), ["person"] * 40)
    assert sorted(round(box.center[1], 1) for box in boxes) == [-0.6, 0.6]


def test_few_points_and_other_classes_are_no_objects():
    assert boxes_of([(5.0, 0.1 * k, 0.0) for k in range(14)], ["car"] * 14) == []
    assert boxes_of([(5.0, 0.1 * k, 0.0) for k in range(40)], ["building"] * 40) == []
    assert boxes_of(np.zeros((0, 3)), []) == []


def test_boxes_of_other_label_sets():
    names = ["bicyclist"] * 10
    other = label_map("semantickitti19")
    label = [other.id_of(name) for name in names]
    xyz = np.array([(5.0, 0.1 * k, 0.0) for k in range(10)], np.float32)
    [box] = object_boxes(xyz, segmentation(label), other)
    assert box.class_name == "bicyclist"
