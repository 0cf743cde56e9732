import numpy as np

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.views import NO_CAMERA, Views, visible

CAMERA = CameraModel("front", 640, 384, np.array([[400.0, 0, 320], [0, 400.0, 192], [0, 0, 1]]), np.eye(4))


def test_places_run_from_edge_to_edge():
    corners = np.array([[-0.5, -0.5, 1.0], [639.4999, 383.4999, 1.0], [319.5, 191.5, 1.0]])
    xyz = corners @ np.linalg.inv(CAMERA.intrinsic).T * 5
    uv, seen = visible(CAMERA, xyz)
    assert seen.all()
    np.testing.assert_allclose(uv, [(-1, -1), (1, 1), (0, 0)], atol=1e-3)


def test_a_point_behind_another_one_is_hidden_and_one_beside_it_is_not():
    xyz = np.array([[0.0, 0, 5], [0.0, 0, 9], [0.0, 0, 5.2], [2.0, 0, 9], [0, 0, -5]])
    assert visible(CAMERA, xyz)[1].tolist() == [True, False, True, True, False]


def test_of_two_cameras_the_one_that_has_a_point_nearer_its_middle_comes_first():
    aside = CameraModel("aside", 640, 384, CAMERA.intrinsic, np.eye(4))
    xyz = np.array([[0.0, 0, 5], [3.0, 0, 5], [0, 0, -5]])
    views = Views.find(3, [(0, CAMERA, xyz), (4, aside, xyz - [1.0, 0, 0])])
    assert views.camera.tolist() == [[0, 4], [4, 0], [NO_CAMERA, NO_CAMERA]]
    np.testing.assert_allclose(views.uv[0, 1], [-80 / 320 + 1 / 640, 1 / 384], atol=1e-6)
    assert (views.uv[2] == 0).all()


def test_without_pictures_nothing_is_seen():
    assert (Views.find(5, []).camera == NO_CAMERA).all()
    assert Views.find(0, [(0, CAMERA, np.zeros((0, 3)))]).camera.shape == (0, 2)
