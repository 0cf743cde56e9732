"""CameraInfo conversion, compared with OpenCV."""

from __future__ import annotations

import numpy as np
import pytest

from xmodelkd_ros.bags.bag import message_class
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.messages.camera_info import to_camera

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

HEADER = message_class("std_msgs/msg/Header")(message_class("builtin_interfaces/msg/Time")(0, 0), "camera")


def camera_info(distortion: list[float], focal_length: float = 500.0, **changes):
    k = np.array([focal_length, 0, 320, 0, focal_length, 180, 0, 0, 1], np.float64)
    fields = {
        "height": 360,
        "width": 640,
        "distortion_model": "plumb_bob",
        "d": np.array(distortion),
        "k": k,
        "r": np.eye(3).ravel(),
        "p": np.zeros(12),
        "binning_x": 0,
        "binning_y": 0,
        "roi": message_class("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False),
    }
    return message_class("sensor_msgs/msg/CameraInfo")(header=HEADER, **{**fields, **changes})


XYZ = np.random.default_rng(0).uniform([-3, -2, 2], [3, 2, 20], (500, 3))
P = np.array([450.0, 0, 310, 0, 0, 450, 170, 0, 0, 0, 1, 0])
DISTORTION = [-0.2, 0.05, 1e-3, -1e-3, 0.0]


def test_calibration_gives_a_camera():
    camera = to_camera(camera_info([0.0] * 5), "front", np.eye(4))
    pixels, inside = camera.project(np.array([[0.0, 0, 2], [1, 0, 2], [0, 0, -2]]))
    np.testing.assert_allclose(pixels[:2], [[320, 180], [570, 180]])
    assert inside.tolist() == [True, True, False]


def test_raw_camera_has_distortion():
    info = camera_info(DISTORTION)
    pixels, inside = to_camera(info, "front", np.eye(4)).project(XYZ)
    expected = cv2.projectPoints(XYZ, np.zeros(3), np.zeros(3), info.k.reshape(3, 3), info.d)[0][:, 0]
    assert inside.sum() > 100
    np.testing.assert_allclose(pixels[inside], expected[inside], atol=1e-6)


def test_rectified_camera_uses_the_projection_matrix():
    """Compared with OpenCV's rectification; the right camera of a pair has a baseline."""
    rotation, _ = cv2.Rodrigues(np.array([0.02, -0.03, 0.01]))
    p = np.array([[450.0, 0, 310, 0], [0, 450, 170, 0], [0, 0, 1, 0]])
    info = camera_info(DISTORTION, r=rotation.ravel(), p=p.ravel())
    raw = to_camera(info, "front", np.eye(4)).project(XYZ)[0]
    camera = to_camera(info, "front", np.eye(4), rectified=True)
    pixels, inside = camera.project(XYZ)
    expected = cv2.undistortPoints(raw[:, None], info.k.reshape(3, 3), info.d, R=rotation, P=p)[:, 0]
    assert inside.sum() > 100
    np.testing.assert_allclose(pixels[inside], expected[inside], atol=0.01)
    right = camera_info(DISTORTION, p=(p + np.array([[0, 0, 0, -450 * 0.12], [0] * 4, [0] * 4])).ravel())
    shifted = to_camera(right, "right", np.eye(4), rectified=True)
    np.testing.assert_allclose(shifted.project(np.array([[0.12, 0, 5]]))[0], [[310, 170]])


def test_applies_region_of_interest_and_binning():
    """Pixel (u, v) of the full image is ((u + 0.5 - x) / 2 - 0.5, …) in a region starting at x, binned by 2."""
    roi = message_class("sensor_msgs/msg/RegionOfInterest")(100, 40, 200, 400, False)
    assert (roi.x_offset, roi.y_offset, roi.height, roi.width) == (100, 40, 200, 400)
    whole = to_camera(camera_info(DISTORTION), "front", np.eye(4)).project(XYZ)[0]
    part = to_camera(camera_info(DISTORTION, roi=roi, binning_x=2, binning_y=4), "front", np.eye(4))
    assert (part.width, part.height) == (200, 50)
    expected = (whole + 0.5 - [100, 40]) / [2, 4] - 0.5
    np.testing.assert_allclose(part.project(XYZ)[0], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("info", "rectified", "message"),
    [
        (camera_info([], focal_length=0.0), False, "'front' is not calibrated: its CameraInfo has k = "),
        (camera_info([]), True, "'front' is not calibrated: its CameraInfo has p = "),
        (camera_info([], focal_length=np.nan), False, "'front' is not calibrated"),
        (camera_info([], k=np.array([500.0, 0, 320, 0, 500, 180, 1, 0, 1])), False, "'front' is not calibrated"),
        (camera_info([], p=P, r=np.zeros(9)), True, "'front' is not rectified: its CameraInfo has r = "),
        (camera_info([], p=P, r=np.full(9, np.nan)), True, "'front' is not rectified"),
        (camera_info([], p=np.array([*P[:3], np.nan, *P[4:]])), True, "numbers that are not finite"),
        (camera_info([], width=0, height=0), False, "'front' has images of 0x0 pixels; calibrate it"),
        (camera_info([], height=0), False, "'front' has images of 640x0 pixels"),
        (camera_info([], binning_x=1000), False, "'front' has images of 0x360 pixels"),
        (camera_info([0.1, 0.0]), False, "camera 'front': distortion .* does not fit 'plumb_bob'"),
        (camera_info([0.1], distortion_model="martian"), False, "camera 'front': distortion model 'martian'"),
    ],
)
def test_rejects_invalid_calibrations(info, rectified, message):
    with pytest.raises(ConfigError, match=message):
        to_camera(info, "front", np.eye(4), rectified)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("field", ["k", "r"])
def test_overflow_raises_an_error_without_warnings(field):
    info = camera_info([], p=P, **{field: np.full(9, 1e308)})
    with pytest.raises(ConfigError, match=f"CameraInfo has {field} = .1e.308, "):
        to_camera(info, "front", np.eye(4), rectified=field == "r")
