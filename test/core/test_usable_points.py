"""Usable points: one definition for the network's input, the node's counters and the offline scores."""

import numpy as np
import pytest

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.projection import NO_PIXEL, ProjectionSpec, RangeProjector
from xmodelkd_ros.core.usable_points import is_labelled, usable_mask

POINTS = [
    ([10, 0, 0], True),
    ([0.5, 0, 0], True),
    ([0.4, 0, 0], False),
    ([0, 0, 0], False),
    ([1000, 0, 0], True),
    ([1001, 0, 0], False),
    ([24000, 3000, -2000], False),
    ([np.nan, 1, 1], False),
    ([1, np.inf, 1], False),
    ([3e38, 3e38, 3e38], False),
]


@pytest.mark.parametrize(("point", "usable"), POINTS)
def test_usable_points_are_those_that_get_a_pixel(point, usable):
    xyz = np.array([point, [10, 0, 0]], np.float32)
    assert usable_mask(xyz).tolist() == [usable, True]
    pixels = RangeProjector(ProjectionSpec((1.0, -1.0), 16)).project(PointCloud(xyz)).pixel
    assert (pixels != NO_PIXEL).tolist() == [usable, True]


def test_points_inside_the_ego_box_are_not_usable():
    xyz = np.array([[1, 1, 0], [3, 1, 0], [1, 1, 3], [-1, -1, -1], [np.nan, 0, 0]], np.float32)
    assert usable_mask(xyz, ego_box=(-2, -2, -2, 2, 2, 2)).tolist() == [False, True, True, False, False]
    assert usable_mask(xyz, ego_box=(0,) * 6).tolist() == [True, True, True, True, False], "six zeros: no box"


def test_sweep_without_usable_points_counts_as_labelled():
    for xyz in (np.zeros((0, 3)), np.zeros((5, 3)), np.full((5, 3), np.nan)):
        assert is_labelled(usable_mask(xyz.astype(np.float32)), np.full(len(xyz), 255, np.uint8))
