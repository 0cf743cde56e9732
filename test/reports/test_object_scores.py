"""Precision and recall of boxes."""

from dataclasses import replace

import numpy as np
import pytest

from xmodelkd_ros.core.object_box import ObjectBox
from xmodelkd_ros.reports.object_scores import ObjectScores

CAR = ObjectBox("car", 0.9, (10.0, 2.0, -1.0), (0.0, 0.0, 0.0, 1.0), (4.0, 2.0, 1.5), 100)


def turned(box, degrees):
    half = np.radians(degrees) / 2
    return replace(box, orientation=(0.0, 0.0, float(np.sin(half)), float(np.cos(half))))


def scores(predicted, true):
    result = ObjectScores()
    result.add(predicted, true)
    return {name: (one["precision"], one["recall"]) for name, one in result.metrics().items()}


@pytest.mark.parametrize(
    ("predicted", "matches"),
    [
        (CAR, True),
        (turned(CAR, 180), True),
        (turned(replace(CAR, size=(2.0, 4.0, 1.5)), 90), True),
        (turned(CAR, 90), True),  # 4 of 12 square metres: IoU 1/3
        (replace(CAR, center=(12.0, 2.0, -1.0)), True),  # 4 of 12
        (replace(CAR, center=(12.5, 2.0, -1.0)), False),  # 3 of 13
        (replace(CAR, center=(10.0, 2.0, 5.0)), True),  # seen from above
        (replace(CAR, size=(1.1, 2.0, 1.5)), False),
        (replace(CAR, center=(30.0, 2.0, -1.0)), False),
    ],
)
def test_boxes_match_by_their_overlap_seen_from_above(predicted, matches):
    assert scores([predicted], [CAR])["car"] == ((1.0, 1.0) if matches else (0.0, 0.0))


def test_a_box_matches_once_and_only_its_class():
    assert scores([CAR, CAR], [CAR])["car"] == (0.5, 1.0)
    assert scores([CAR], [replace(CAR, class_name="truck")]) == {"car": (0.0, None), "truck": (None, 0.0)}


def test_the_best_pair_is_taken_first():
    beside = replace(CAR, center=(11.0, 2.0, -1.0))
    assert scores([beside, CAR], [CAR, replace(CAR, center=(12.5, 2.0, -1.0))])["car"] == (1.0, 1.0)


def test_no_boxes_no_scores():
    assert scores([], []) == {}
