"""Images and calibration through OpenCV and rosbags-image."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from xmodelkd_ros import messages
from xmodelkd_ros.bag import message_class
from xmodelkd_ros.core.errors import ConfigError

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("rosbags.image", reason="rosbags-image is not installed")

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
HEADER = message_class("std_msgs/msg/Header")(message_class("builtin_interfaces/msg/Time")(0, 0), "camera")


def image(encoding: str, pixels: np.ndarray, padding: int = 0):
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return message_class("sensor_msgs/msg/Image")(
        HEADER, pixels.shape[0], pixels.shape[1], encoding, 0, data.shape[1], data.reshape(-1)
    )


def compressed(data: bytes, kind: str = "jpeg"):
    return message_class("sensor_msgs/msg/CompressedImage")(HEADER, kind, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[:, :, ::-1]),
        ("bgra8", np.dstack([RGB[:, :, ::-1], np.full((5, 7), 255, np.uint8)])),
    ],
)
def test_colour_images_decode_to_rgb(encoding: str, pixels: np.ndarray, padding: int):
    np.testing.assert_array_equal(messages.image_to_array(image(encoding, pixels, padding)), RGB)


@pytest.mark.parametrize("padding", [0, 3])
def test_grey_images_decode_to_rgb(padding: int):
    grey = RGB[:, :, 0]
    decoded = messages.image_to_array(image("mono8", grey, padding))
    np.testing.assert_array_equal(decoded, np.repeat(grey[:, :, None], 3, axis=2))


def test_png_and_jpeg_decode_to_rgb():
    png = compressed(cv2.imencode(".png", RGB[:, :, ::-1])[1].tobytes(), "png")
    np.testing.assert_array_equal(messages.image_to_array(png), RGB)
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    jpeg = compressed(cv2.imencode(".jpg", flat[:, :, ::-1])[1].tobytes())
    np.testing.assert_allclose(messages.image_to_array(jpeg).astype(int), flat, atol=4)
    grey = compressed(cv2.imencode(".png", RGB[:, :, 0])[1].tobytes(), "png")
    assert messages.image_to_array(grey).shape == (5, 7, 3)


@pytest.mark.parametrize(
    "rubbish",
    [
        compressed(b""),
        compressed(b"not a picture"),
        image("rgb8", RGB[:, :2]),
        image("32FC1", np.ones((2, 2), np.float32)),
        image("martian", RGB),
    ],
)
def test_rubbish_is_one_clear_error(rubbish):
    if getattr(rubbish, "encoding", "") == "rgb8":
        rubbish.data = rubbish.data[:-1]
    with pytest.raises(messages.ImageError, match=r"^cannot decode image '[^\n]*$"):
        messages.image_to_array(rubbish)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "rosbags.image", None)
    with pytest.raises(messages.ImageError, match=r"pip install rosbags-image\[opencv\]"):
        messages.image_to_array(image("rgb8", RGB))


def camera_info(distortion: list[float], focal_length: float = 500.0):
    k = np.array([focal_length, 0, 320, 0, focal_length, 180, 0, 0, 1], np.float64)
    roi = message_class("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
    return message_class("sensor_msgs/msg/CameraInfo")(
        HEADER, 360, 640, "plumb_bob", np.array(distortion), k, np.eye(3).ravel(), np.zeros(12), 0, 0, roi
    )


def test_calibration_becomes_a_camera():
    camera = messages.to_camera(camera_info([0.0] * 5), "front", np.eye(4))
    pixels, inside = camera.project(np.array([[0.0, 0, 2], [1, 0, 2], [0, 0, -2]]))
    np.testing.assert_allclose(pixels[:2], [[320, 180], [570, 180]])
    assert inside.tolist() == [True, True, False]


def test_a_camera_with_distortion_or_without_calibration_is_rejected():
    with pytest.raises(ConfigError, match=r"camera 'front' has plumb_bob distortion \[0.1, 0.0\]; give rectified"):
        messages.to_camera(camera_info([0.1, 0.0]), "front", np.eye(4))
    with pytest.raises(ConfigError, match="'front' is not calibrated"):
        messages.to_camera(camera_info([], focal_length=0.0), "front", np.eye(4))
