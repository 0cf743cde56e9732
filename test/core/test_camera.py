import cv2
import numpy as np
import pytest

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.transforms import inverse, quaternion, transform

K = np.array([[900.0, 0, 640], [0, 910.0, 360], [0, 0, 1]])
# Camera looks along the LiDAR's +x: optical x = -y, y = -z, z = x.
FORWARD = transform((0.1, -0.2, 0.3), (0.5, -0.5, 0.5, 0.5))


def test_projection_agrees_with_opencv():
    rng = np.random.default_rng(0)
    xyz = rng.uniform([2, -5, -3], [60, 5, 3], (500, 3))
    camera = CameraModel("front", 1280, 720, K, FORWARD)
    pixels, visible = camera.project(xyz)
    rotation, _ = cv2.Rodrigues(FORWARD[:3, :3])
    expected = cv2.projectPoints(xyz, rotation, FORWARD[:3, 3], K, None)[0][:, 0]
    np.testing.assert_allclose(pixels, expected, atol=1e-6)
    inside = (expected >= -0.5).all(1) & (expected < [1279.5, 719.5]).all(1)
    np.testing.assert_array_equal(visible, inside)
    assert 0 < visible.sum() < 500


def test_points_behind_the_camera_are_not_seen():
    camera = CameraModel("front", 1280, 720, K, FORWARD)
    assert camera.project(np.array([[-10.0, 0, 0], [10.0, 0, 0]]))[1].tolist() == [False, True]


def test_a_zero_calibration_is_refused():
    with pytest.raises(ConfigError, match="not calibrated"):
        CameraModel("front", 1280, 720, np.zeros((3, 3)), FORWARD)


def test_transforms_invert_and_survive_quaternions():
    rng = np.random.default_rng(1)
    for _ in range(50):
        q = rng.normal(size=4)
        matrix = transform(rng.normal(size=3), q)
        np.testing.assert_allclose(matrix @ inverse(matrix), np.eye(4), atol=1e-12)
        q = q / np.linalg.norm(q) * np.sign(q[3])
        np.testing.assert_allclose(quaternion(matrix[:3, :3]), q, atol=1e-9)
