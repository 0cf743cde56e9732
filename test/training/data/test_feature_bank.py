import numpy as np
import pytest

from training.data.augment import joined
from training.data.feature_bank import NO_DROPOUT, ImageFeatures, PointFeatureBank, mean_view
from training.data.sweeps import Sweep, with_point_ids
from xmodelkd_ros.core.cloud import PointCloud
from xmodelkd_ros.core.projection import ProjectionSpec, RangeProjector
from xmodelkd_ros.core.visibility import NO_CAMERA


def sweep(count, label=0):
    xyz = np.column_stack([np.arange(1.0, count + 1), np.zeros(count), np.zeros(count)]).astype(np.float32)
    return Sweep(PointCloud(xyz, np.zeros(count, np.float32)), np.full(count, label, np.uint8))


@pytest.fixture
def feature_bank():
    """Three points: visible in cameras 0 and 1, in camera 2, and in none."""
    features = np.array([[[2.0], [4.0]], [[6.0], [0.0]], [[0.0], [0.0]]], np.float16)
    camera = np.array([[0, 1], [2, NO_CAMERA], [NO_CAMERA, NO_CAMERA]], np.int8)
    return PointFeatureBank(ImageFeatures.join([ImageFeatures(features, camera)], 1))


def test_views_return_the_features_of_each_camera(feature_bank):
    views = feature_bank.views(np.array([[0, 1], [2, 3]], np.int32), NO_DROPOUT)
    expected = [[(0, 0), (0, 0)], [(2, 1), (4, 1)], [(6, 1), (0, 0)], [(0, 0), (0, 0)]]
    np.testing.assert_array_equal(views.reshape(4, 2, 2), expected)
    np.testing.assert_array_equal(mean_view(views.reshape(4, 2, 2)), [(0, 0), (3, 1), (6, 1), (0, 0)])


def test_dropped_cameras_have_no_features(feature_bank):
    dropped = np.array([True, False, True, False, False, False])
    views = feature_bank.views(np.array([1, 2], np.int32), dropped)
    np.testing.assert_array_equal(views, [[(0, 0), (4, 1)], [(0, 0), (0, 0)]])
    np.testing.assert_array_equal(mean_view(views), [(4, 1), (0, 0)])


def test_image_has_features_of_nearest_points_only(feature_bank):
    xyz = np.array([[9.0, 0, 0], [5.0, 0, 0], [0, 7.0, 0]], np.float32)  # the second occludes the first
    projection = RangeProjector(ProjectionSpec((0.0,), 4)).project(PointCloud(xyz))
    image = feature_bank.image(np.array([2, 1, 3], np.int32), projection, (1, 4))
    assert image.shape == (2, 1, 4)
    np.testing.assert_array_equal(image[:, 0, projection.pixel[0]], (3, 1))
    assert image[1].sum() == 1
    assert not feature_bank.image(None, projection, (1, 4)).any()


def test_point_ids_follow_their_points():
    (first, second), (other,) = with_point_ids([[sweep(3), sweep(2)], [sweep(4)]], [True, False])
    assert first.point_ids.tolist() == [1, 2, 3] and second.point_ids.tolist() == [4, 5] and other.point_ids is None
    both = joined([first.selected(np.array([True, False, True])), other, second])
    assert both.point_ids.tolist() == [1, 3, 0, 0, 0, 0, 4, 5]
    assert joined([other, other]).point_ids is None
    assert first.with_labels(first.labels).point_ids is first.point_ids
    assert first.with_cloud(first.cloud.xyz, first.cloud.intensity).point_ids is first.point_ids
