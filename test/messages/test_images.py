"""Image decoding by OpenCV and rosbags-image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xmodelkd_ros.bags.bag import message_class
from xmodelkd_ros.core.errors import ImageError
from xmodelkd_ros.messages import images

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("rosbags.image", reason="rosbags-image is not installed")

ROOT = Path(__file__).resolve().parents[2]
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
        ("rgba8", np.dstack([RGB, np.full((5, 7), 255, np.uint8)])),
    ],
)
def test_decodes_colour_images(encoding: str, pixels: np.ndarray, padding: int):
    np.testing.assert_array_equal(images.image_to_array(image(encoding, pixels, padding)), RGB)


@pytest.mark.parametrize("padding", [0, 3])
def test_decodes_grey_images(padding: int):
    grey = RGB[:, :, 0]
    decoded = images.image_to_array(image("mono8", grey, padding))
    np.testing.assert_array_equal(decoded, np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_decodes_bayer_patterns(pattern: str):
    """A mosaic of a uniform colour decodes to that colour."""
    colour = {"r": 200, "g": 100, "b": 50}
    tile = np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2)
    decoded = images.image_to_array(image(f"bayer_{pattern}8", np.tile(tile, (4, 4))))
    np.testing.assert_array_equal(decoded[2:-2, 2:-2], np.broadcast_to((200, 100, 50), (4, 4, 3)))


@pytest.mark.parametrize(("encoding", "order"), [("yuv422", "UYVY"), ("yuv422_yuy2", "YUYV")])
def test_decodes_yuv(encoding: str, order: str):
    """A red of Y 81, U 90, V 240 (ITU-R BT.601)."""
    value = {"Y": 81, "U": 90, "V": 240}
    pairs = np.tile(np.array([value[c] for c in order], np.uint8), (4, 4)).reshape(4, 8, 2)
    decoded = images.image_to_array(image(encoding, pairs))
    np.testing.assert_allclose(decoded.astype(int), np.broadcast_to((255, 0, 0), (4, 8, 3)), atol=4)


def test_decodes_png_and_jpeg():
    png = compressed(cv2.imencode(".png", RGB[:, :, ::-1])[1].tobytes(), "png")
    np.testing.assert_array_equal(images.image_to_array(png), RGB)
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    jpeg = compressed(cv2.imencode(".jpg", flat[:, :, ::-1])[1].tobytes())
    np.testing.assert_allclose(images.image_to_array(jpeg).astype(int), flat, atol=4)
    grey = compressed(cv2.imencode(".png", RGB[:, :, 0])[1].tobytes(), "png")
    assert images.image_to_array(grey).shape == (5, 7, 3)


@pytest.mark.parametrize(
    "invalid",
    [
        compressed(b""),
        compressed(b"not a picture"),
        image("rgb8", RGB[:, :2]),
        image("32FC1", np.ones((2, 2), np.float32)),
        image("martian", RGB),
    ],
)
def test_invalid_images_raise_a_one_line_error(invalid):
    if getattr(invalid, "encoding", "") == "rgb8":
        invalid.data = invalid.data[:-1]
    with pytest.raises(ImageError, match=r"^(cannot decode |)image '[^\n]*$"):
        images.image_to_array(invalid)


EMPTY = image("rgb8", RGB)
EMPTY.height = EMPTY.width = EMPTY.step = 0
EMPTY.data = EMPTY.data[:0]


@pytest.mark.parametrize(
    ("unusable", "message"),
    [
        (EMPTY, "image 'rgb8 0x0' is empty; check the camera driver"),
        (image("16UC1", np.ones((2, 2), np.uint16)), "image '16UC1 2x2' is a depth image; use the topic of the"),
        (compressed(b"1", "16UC1; compressedDepth png"), "is a depth image"),
        (image("yuv422", np.ones((2, 3, 2), np.uint8)), "configure the driver to send rgb8, bgr8, mono8 or jpeg"),
    ],
)
def test_errors_state_a_remedy(unusable, message):
    with pytest.raises(ImageError) as error:
        images.image_to_array(unusable)
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300


def test_accepts_missing_padding_in_the_last_row():
    padded = np.zeros((5, 32), np.uint8)
    padded[:, :21] = RGB.reshape(5, 21)
    msg = image("rgb8", RGB)
    msg.step, msg.data = 32, padded.ravel()[: 4 * 32 + 21]
    np.testing.assert_array_equal(images.image_to_array(msg), RGB)


def test_ignores_exif_orientation():
    """The camera was calibrated on pixels as stored."""
    jpeg = cv2.imencode(".jpg", np.full((40, 80, 3), 90, np.uint8))[1].tobytes()
    exif = (
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    )
    tagged = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(tagged, np.uint8), cv2.IMREAD_COLOR).shape == (80, 40, 3), "the tag is valid"
    assert images.image_to_array(compressed(tagged)).shape == (40, 80, 3)


BOMB = """
import resource, struct, sys
from types import SimpleNamespace
import numpy as np
from xmodelkd_ros.messages.images import load_image_decoders, image_to_array
load_image_decoders()
import cv2
jpeg = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
at = jpeg.index(b"\\xff\\xc0") + 5
bomb = jpeg[:at] + struct.pack(">HH", 20_000, 20_000) + jpeg[at + 4 :]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(image_to_array(SimpleNamespace(format="jpeg", data=np.frombuffer(bomb, np.uint8))).shape)
except Exception as error:
    print(repr(error))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_huge_declared_image_size_uses_little_memory():
    """In a separate process: the pixel limit is set when OpenCV is first loaded."""
    done = subprocess.run([sys.executable, "-c", BOMB], cwd=ROOT, capture_output=True, text=True, check=True)
    message, megabytes = done.stdout.splitlines()
    assert message.startswith("ImageError") and "IO_MAX_IMAGE_PIXELS" in message
    assert float(megabytes) < 50


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    monkeypatch.setitem(sys.modules, "rosbags.image", None)
    with pytest.raises(ImageError, match=r"pip install rosbags-image\[opencv\]"):
        images.image_to_array(image("rgb8", RGB))
    with pytest.raises(ImageError, match="rosbags-image"):
        images.load_image_decoders()
    monkeypatch.undo()
    images.load_image_decoders()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImageError, match="pip install opencv-python-headless"):
        images.image_to_array(compressed(b"1"))
