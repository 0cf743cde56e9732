import cv2
import numpy as np
import pytest

from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.distortion import DistortionModel
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.core.transforms import inverse, quaternion, transform

K = np.array([[900.0, 0, 640], [0, 910.0, 360], [0, 0, 1]])
# The camera faces the LiDAR's +x: optical x = -y, y = -z, z = x.
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


LENSES = [
    ("plumb_bob", [-0.35, 0.15, 1e-3, -2e-3]),
    ("plumb_bob", [-0.35, 0.15, 1e-3, -2e-3, -0.03]),
    ("rational_polynomial", [0.9, 0.2, -3e-4, 5e-4, 0.01, 1.2, 0.4, 0.05]),
    ("rational_polynomial", [-0.35, 0.15, 1e-3, -2e-3]),
    ("rational_polynomial", [-0.35, 0.15, 1e-3, -2e-3, -0.03]),
    ("rational_polynomial", [0.9, 0.2, -3e-4, 5e-4, 0.01, 1.2, 0.4, 0.05, 2e-3, -1e-3, 3e-3, 5e-4]),
    ("rational_polynomial", [0.9, 0.2, -3e-4, 5e-4, 0.01, 1.2, 0.4, 0.05, 0, 0, 0, 0, 0, 0]),
    ("rational_polynomial", [0.9, 0.2, -3e-4, 5e-4, 0.01, 1.2, 0.4, 0.05, 2e-3, -1e-3, 3e-3, 5e-4, 0.02, -0.04]),
    ("plumb_bob", [0.9, 0.2, -3e-4, 5e-4, 0.01, 1.2, 0.4, 0.05]),
    ("Rational Polynomial", [0.9, 0.2, -3e-4, 5e-4, 0.01, 1.2, 0.4, 0.05]),
]


@pytest.mark.parametrize(("model", "coefficients"), LENSES)
def test_distortion_agrees_with_opencv(model, coefficients):
    xyz = np.random.default_rng(0).uniform([2, -5, -3], [60, 5, 3], (2000, 3))
    camera = CameraModel("front", 1280, 720, K, FORWARD, DistortionModel.from_coefficients(model, coefficients))
    pixels, visible = camera.project(xyz)
    rotation, _ = cv2.Rodrigues(FORWARD[:3, :3])
    expected = cv2.projectPoints(xyz, rotation, FORWARD[:3, 3], K, np.array(coefficients))[0][:, 0]
    assert 500 < visible.sum() < 2000
    np.testing.assert_allclose(pixels[visible], expected[visible], atol=1e-6)


def test_random_thin_prism_and_tilt_agree_with_opencv():
    rng = np.random.default_rng(3)
    rays = np.column_stack([rng.uniform(-0.6, 0.6, (300, 2)), np.ones(300)])
    for count in (4, 5, 8, 12, 14) * 20:
        scale = np.array([0.2, 0.05, 2e-3, 2e-3, 0.02, 0.1, 0.05, 0.01, 3e-3, 3e-3, 3e-3, 3e-3, 0.2, 0.2])[:count]
        coefficients = rng.normal(size=count) * scale
        distortion = DistortionModel.from_coefficients("rational_polynomial", coefficients)
        plane, valid = distortion.distort(rays)
        expected = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), coefficients)[0][:, 0]
        np.testing.assert_allclose(plane, expected, atol=1e-9)
        assert valid[np.hypot(*rays[:, :2].T) < 0.1].all()


def test_rejects_points_where_a_thin_prism_folds_back():
    """x + s2 x^4 with s2 = -0.05 increases up to x = (1 / 0.2)^(1/3) = 1.71, 59.7 degrees."""
    distortion = DistortionModel.from_coefficients("rational_polynomial", [0.0] * 9 + [-0.05, 0, 0])
    assert np.degrees(distortion.max_valid_angle) == pytest.approx(59.7, abs=0.1)


@pytest.mark.parametrize(
    ("model", "coefficients", "same"),
    [
        ("plumb_bob", [-0.3, 0.1, 0, 0, 0, 0, 0], [-0.3, 0.1, 0, 0]),
        ("plumb_bob", [-0.3, 0.1, 0, 0, 0.01] + [0.0] * 12, [-0.3, 0.1, 0, 0, 0.01]),
        ("rational_polynomial", [0.9, 0.2, 0, 0, 0.01, 1.2, 0.4, 0.05, 0, 0], [0.9, 0.2, 0, 0, 0.01, 1.2, 0.4, 0.05]),
        ("equidistant", [0.01, -0.004, 0.002, -0.0005, 0], [0.01, -0.004, 0.002, -0.0005]),
        ("equi", [0.01, -0.004, 0.002, -0.0005], [0.01, -0.004, 0.002, -0.0005]),
        ("kannala_brandt", [0.01, -0.004, 0.002, -0.0005], [0.01, -0.004, 0.002, -0.0005]),
    ],
)
def test_appended_zeros_do_not_count(model, coefficients, same):
    rays = np.random.default_rng(0).normal(size=(50, 3)) + np.array([0, 0, 3])
    plain = {"kannala_brandt": "equidistant", "equi": "equidistant"}.get(model, model)
    for ours, expected in zip(
        DistortionModel.from_coefficients(model, coefficients).distort(rays),
        DistortionModel.from_coefficients(plain, same).distort(rays),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, expected)


def test_fisheye_agrees_with_opencv_and_projects_beyond_90_degrees():
    distortion = DistortionModel.from_coefficients("equidistant", [0.01, -0.004, 0.002, -0.0005])
    intrinsic = np.array([[300.0, 0, 640], [0, 310.0, 360], [0, 0, 1]])
    camera = CameraModel("round", 1280, 720, intrinsic, np.eye(4), distortion)
    xyz = np.random.default_rng(0).normal(size=(2000, 3)) * 10
    pixels, visible = camera.project(xyz)
    ahead = xyz[:, 2] > 1  # OpenCV supports only these
    expected = cv2.fisheye.projectPoints(
        xyz[ahead][:, None], np.zeros(3), np.zeros(3), intrinsic, np.array(distortion.coefficients)
    )[0][:, 0]
    np.testing.assert_allclose(pixels[ahead], expected, atol=1e-6)
    assert camera.project(np.array([[10.0, 0, -0.5]]))[1].all(), "beside the camera and slightly behind"
    assert not camera.project(np.array([[0.0, 0, -10]]))[1].any()
    assert camera.depth(np.array([[3.0, 0, -4]])) == pytest.approx([5])
    assert 0 < visible.sum() < 2000


def test_fisheye_maps_the_optical_axis_to_the_principal_point():
    camera = CameraModel("round", 1280, 720, K, np.eye(4), DistortionModel.from_coefficients("fisheye", [0.0, 0, 0, 0]))
    np.testing.assert_allclose(camera.project(np.array([[0.0, 0, 5]]))[0], [[640, 360]])


def test_rejects_points_where_the_distortion_polynomial_folds_back():
    """x (1 - 0.3 x^2) increases up to x = 1.054, 46.5 degrees; beyond it points would fold back into the image."""
    distortion = DistortionModel.from_coefficients("plumb_bob", [-0.3, 0, 0, 0])
    assert np.degrees(distortion.max_valid_angle) == pytest.approx(46.5, abs=0.1)
    camera = CameraModel("wide", 1280, 720, K, np.eye(4), distortion)
    off_axis = np.array([[1.8, 0, 1.0]])  # 1.8 (1 - 0.3 1.8^2) = 0.05
    pixels, visible = camera.project(off_axis)
    assert 0 < pixels[0, 0] < 1280 and not visible[0]


@pytest.mark.parametrize(
    ("model", "coefficients", "message"),
    [
        ("martian", [0.1], "'martian' is unknown"),
        ("plumb_bob", [0.1, 0.2], "has 4, 5, 8, 12 or 14 finite coefficients"),
        *(("plumb_bob", [0.1] * count, "has 4, 5, 8, 12 or 14 finite coefficients") for count in (6, 7, 9, 13)),
        ("rational_polynomial", [0.1] * 15, "has 4, 5, 8, 12 or 14 finite coefficients"),
        ("rational_polynomial", [0.1] * 12 + [np.nan] * 2, "has 4, 5, 8, 12 or 14 finite coefficients"),
        ("equidistant", [0.1] * 5, "has 4 finite coefficients"),
        ("equidistant", [], "has 4 finite coefficients"),
        ("thin_prism_fisheye", [0.1] * 8, "'thin_prism_fisheye' is unknown"),
        ("double_sphere", [0.1, 0.2], "'double_sphere' is unknown"),
        ("unified", [0.1] * 5, "'unified' is unknown"),
        ("", [0.1] * 5, "'' is unknown"),
        ("equidistant", [np.nan] * 4, "has 4 finite coefficients"),
    ],
)
def test_rejects_unknown_distortion_models(model, coefficients, message):
    with pytest.raises(ConfigError, match=message):
        DistortionModel.from_coefficients(model, coefficients)


@pytest.mark.parametrize("model", ["thin_prism_fisheye", "fisheye", "equidistant"])
def test_a_fisheye_with_zero_coefficients_remains_one(model):
    assert DistortionModel.from_coefficients(model, [0.0] * 8).is_fisheye


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "", "martian", "double_sphere", "unified"])
def test_zero_coefficients_mean_no_distortion(model):
    assert DistortionModel.from_coefficients(model, []) is None
    assert DistortionModel.from_coefficients(model, [0.0] * 5) is None


def test_points_behind_the_camera_are_outside_the_image():
    camera = CameraModel("front", 1280, 720, K, FORWARD)
    assert camera.project(np.array([[-10.0, 0, 0], [10.0, 0, 0]]))[1].tolist() == [False, True]


def test_rejects_zero_focal_length():
    with pytest.raises(ConfigError, match="not calibrated"):
        CameraModel("front", 1280, 720, np.zeros((3, 3)), FORWARD)


def test_transforms_invert_and_convert_to_quaternions():
    rng = np.random.default_rng(1)
    for _ in range(50):
        q = rng.normal(size=4)
        matrix = transform(rng.normal(size=3), q)
        np.testing.assert_allclose(matrix @ inverse(matrix), np.eye(4), atol=1e-12)
        q = q / np.linalg.norm(q) * np.sign(q[3])
        np.testing.assert_allclose(quaternion(matrix[:3, :3]), q, atol=1e-9)
