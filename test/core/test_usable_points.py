"""Usable points: one definition for the network's input, the node's counters and the offline scores."""

import numpy as np
import pytest

from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.projection import NO_PIXEL, ProjectionSpec, RangeProjector
from xmodelkd_ros.core.usable_points import checked_ego_box, checked_min_range, is_labelled, usable_mask, without_box

BOX = (-2.0, -1.0, -1.5, 2.5, 1.0, 0.5)
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


def test_a_cloud_without_the_box_keeps_its_length_and_the_original():
    xyz = np.array([[1, 0, 0], [5, 0, 0]], np.float32)
    xyz.flags.writeable = False
    cloud = PointCloud(xyz)
    masked = without_box(cloud, BOX)
    assert np.isnan(masked.xyz[:, 0]).tolist() == [True, False]
    assert np.isfinite(cloud.xyz).all()
    assert without_box(cloud, ()) is cloud


@pytest.mark.parametrize("none", [(), (0.0,) * 6])
def test_no_box(none):
    assert checked_ego_box(none) == ()


@pytest.mark.parametrize(
    "values",
    [(1.0,), BOX[:5], (*BOX, 1.0), (*BOX[3:], *BOX[:3]), (0, 0, 0, 1, 1, 0), (np.nan, *BOX[1:]), (*BOX[:5], np.inf)],
)
def test_rejects_a_box_that_is_not_two_corners(values):
    with pytest.raises(ConfigError, match=r"ego_box is \[.*minimum corner, then"):
        checked_ego_box(values)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, 1000.0])
def test_rejects_an_invalid_minimum_range(value):
    with pytest.raises(ConfigError, match=r"min_range is .*from 0"):
        checked_min_range(value)
