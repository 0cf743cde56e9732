import tracemalloc

import numpy as np
import pytest

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ImageError
from xmodelkd_ros.core.transforms import transform
from xmodelkd_ros.core.visibility import NO_CAMERA, CameraFrame, PointVisibility, SweepImages, visible_points

CAMERA = CameraModel("front", 640, 384, np.array([[400.0, 0, 320], [0, 400.0, 192], [0, 0, 1]]), np.eye(4))


def test_image_coordinates_span_minus_one_to_one():
    corners = np.array([[-0.5, -0.5, 1.0], [639.4999, 383.4999, 1.0], [319.5, 191.5, 1.0]])
    xyz = corners @ np.linalg.inv(CAMERA.intrinsic).T * 5
    index, uv = visible_points(CAMERA, xyz)
    assert index.tolist() == [0, 1, 2]
    np.testing.assert_allclose(uv, [(-1, -1), (1, 1), (0, 0)], atol=1e-3)


def test_points_behind_others_are_occluded():
    xyz = np.array([[0.0, 0, 5], [0.0, 0, 9], [0.0, 0, 5.2], [2.0, 0, 9], [0, 0, -5]])
    assert visible_points(CAMERA, xyz)[0].tolist() == [0, 2, 3]


LOWER = np.array([[0.0, -1, 0, 0], [0, 0, -1, -0.6], [1, 0, 0, 0], [0, 0, 0, 1]])
"""Optical frame of a camera that looks ahead from 0.6 m below a LiDAR (x forward, y left, z up)."""


@pytest.mark.parametrize(("gap", "hides"), [(2.0, True), (8.0, False)], ids=["wall", "beams far apart"])
def test_surfaces_hide_points_between_their_beams(gap, hides):
    """A wall that the LiDAR looks over hides what lies behind it from a camera further down."""
    azimuth, beams = np.radians(np.arange(-10, 10, 0.3)), np.radians([-3.0, -3 - gap, -3 - 2 * gap])
    azimuth, elevation = (grid.ravel() for grid in np.meshgrid(azimuth, beams))
    wall = np.stack([5 * np.ones_like(azimuth), 5 * np.tan(azimuth), 5 * np.tan(elevation) / np.cos(azimuth)], axis=1)
    camera = CameraModel("lower", 640, 384, CAMERA.intrinsic, LOWER)
    rows = np.sort(camera.project(wall)[0][[33, 33 + len(wall) // 3, 33 + 2 * len(wall) // 3], 1])
    middle = rows[:2].mean()
    behind = np.array([[20.0, y, -0.6 - 20 * (middle - 192) / 400] for y in (-1, 0, 1)])
    np.testing.assert_allclose(camera.project(behind)[0][:, 1], middle)
    index = visible_points(camera, np.vstack([wall, behind]))[0]
    assert (index < len(wall)).sum() == len(wall)
    assert (index >= len(wall)).sum() == (0 if hides else 3)


def test_ground_is_not_hidden_by_nearer_ground():
    x, y = (grid.ravel() for grid in np.meshgrid(np.geomspace(4, 30, 40), np.linspace(-3, 3, 25)))
    ground = np.stack([x, y, np.full_like(x, -1.8)], axis=1)
    camera = CameraModel("lower", 640, 384, CAMERA.intrinsic, LOWER)
    _, inside = camera.project(ground)
    assert len(visible_points(camera, ground)[0]) > 0.97 * inside.sum()


@pytest.mark.parametrize(("width", "height"), [(1, 2_000_000), (2_000_000, 1), (1, 1), (2**32 - 1, 2**32 - 1)])
def test_depth_buffer_is_small_for_any_image_size(width, height):
    intrinsic = np.array([[width, 0, width / 2], [0, height, height / 2], [0, 0, 1]], np.float64)
    xyz = np.random.default_rng(0).uniform([-0.5, -0.5, 1], [0.5, 0.5, 1], (500, 3))
    tracemalloc.start()
    index, _ = visible_points(CameraModel("odd", width, height, intrinsic, np.eye(4)), xyz)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(index) > 50 and peak < 1_000_000


def test_cameras_are_ordered_by_distance_from_the_image_centre():
    aside = CameraModel("aside", 640, 384, CAMERA.intrinsic, np.eye(4))
    xyz = np.array([[0.0, 0, 5], [3.0, 0, 5], [0, 0, -5]])
    views = PointVisibility.find(3, [(0, CAMERA, xyz), (4, aside, xyz - [1.0, 0, 0])])
    assert views.camera.tolist() == [[0, 4], [4, 0], [NO_CAMERA, NO_CAMERA]]
    np.testing.assert_allclose(views.uv[0, 1], [-80 / 320 + 1 / 640, 1 / 384], atol=1e-6)
    assert (views.uv[2] == 0).all()


def test_without_images_no_point_is_visible():
    assert (PointVisibility.find(5, []).camera == NO_CAMERA).all()
    assert PointVisibility.find(0, [(0, CAMERA, np.zeros((0, 3)))]).camera.shape == (0, 2)


def image(width=640, height=384):
    return np.zeros((height, width, 3), np.uint8)


def test_images_keep_their_camera_index():
    images = SweepImages.from_frames(
        np.array([[0.0, 0, 5], [np.nan, 0, 5], [np.inf, 0, 0]], np.float32), [None, CameraFrame(CAMERA, image())]
    )
    assert [pixels is None for pixels in images.pixels] == [True, False]
    assert images.views.camera.tolist() == [[1, NO_CAMERA], [NO_CAMERA] * 2, [NO_CAMERA] * 2]


@pytest.mark.filterwarnings("error")
def test_invalid_points_are_not_visible_and_raise_no_warning():
    bits = np.array([0x7F800001, 0xFF800001, 0x7F800000, 0x7F7FFFFF], np.uint32)  # NaN that signal, infinity, 3e38
    xyz = np.repeat(bits.view(np.float32)[:, None], 3, axis=1)
    assert (SweepImages.from_frames(xyz, [CameraFrame(CAMERA, image())]).views.camera[:3] == NO_CAMERA).all()


def test_ego_motion_is_compensated():
    """The camera faces +z; after half a metre a point at 5 m and 1 m aside is at 4.5 m."""
    point = np.array([[1.0, 0, 5]])
    driven = CameraFrame(CAMERA, image(), transform((0, 0, -0.5), (0, 0, 0, 1)))
    (at_stamp,), (at_shutter,) = (
        SweepImages.from_frames(point, [camera_frame]).views.uv[:, 0, 0]
        for camera_frame in (CameraFrame(CAMERA, image()), driven)
    )
    assert (at_stamp + 1) * 320 - 0.5 == pytest.approx(320 + 400 / 5)
    assert (at_shutter + 1) * 320 - 0.5 == pytest.approx(320 + 400 / 4.5)


def test_rejects_images_with_another_aspect_ratio():
    CameraFrame(CAMERA, image(320, 192))
    with pytest.raises(ImageError, match="'front' is 640x480, but the camera is calibrated for 640x384"):
        CameraFrame(CAMERA, image(640, 480))
