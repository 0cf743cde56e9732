"""Images and calibration through OpenCV and rosbags-image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xmodelkd_ros.bag import message_class
from xmodelkd_ros.core.errors import ConfigError
from xmodelkd_ros.messages.clouds import clouds as messages

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("rosbags.image", reason="rosbags-image is not installed")

ROOT = Path(__file__).resolve().parents[1]
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
def test_colour_images_decode_to_rgb(encoding: str, pixels: np.ndarray, padding: int):
    np.testing.assert_array_equal(messages.image_to_array(image(encoding, pixels, padding)), RGB)


@pytest.mark.parametrize("padding", [0, 3])
def test_grey_images_decode_to_rgb(padding: int):
    grey = RGB[:, :, 0]
    decoded = messages.image_to_array(image("mono8", grey, padding))
    np.testing.assert_array_equal(decoded, np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_decode_to_rgb(pattern: str):
    """Of one colour all over, each pixel has what its filter lets through."""
    colour = {"r": 200, "g": 100, "b": 50}
    tile = np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2)
    decoded = messages.image_to_array(image(f"bayer_{pattern}8", np.tile(tile, (4, 4))))
    np.testing.assert_array_equal(decoded[2:-2, 2:-2], np.broadcast_to((200, 100, 50), (4, 4, 3)))


@pytest.mark.parametrize(("encoding", "order"), [("yuv422", "UYVY"), ("yuv422_yuy2", "YUYV")])
def test_yuv_decodes_to_rgb(encoding: str, order: str):
    """A red of Y 81, U 90, V 240 (ITU-R BT.601)."""
    value = {"Y": 81, "U": 90, "V": 240}
    pairs = np.tile(np.array([value[c] for c in order], np.uint8), (4, 4)).reshape(4, 8, 2)
    decoded = messages.image_to_array(image(encoding, pairs))
    np.testing.assert_allclose(decoded.astype(int), np.broadcast_to((255, 0, 0), (4, 8, 3)), atol=4)


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
    with pytest.raises(messages.ImageError, match=r"^(cannot decode |)image '[^\n]*$"):
        messages.image_to_array(rubbish)


EMPTY = image("rgb8", RGB)
EMPTY.height = EMPTY.width = EMPTY.step = 0
EMPTY.data = EMPTY.data[:0]


@pytest.mark.parametrize(
    ("useless", "said"),
    [
        (EMPTY, "image 'rgb8 0x0' is empty; look at the camera's driver"),
        (image("16UC1", np.ones((2, 2), np.uint16)), "image '16UC1 2x2' shows distances; name the topic of the"),
        (compressed(b"1", "16UC1; compressedDepth png"), "shows distances"),
        (image("yuv422", np.ones((2, 3, 2), np.uint8)), "have the driver send rgb8, bgr8, mono8 or jpeg"),
    ],
)
def test_an_image_that_shows_nothing_says_what_to_do(useless, said):
    with pytest.raises(messages.ImageError) as error:
        messages.image_to_array(useless)
    assert said in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300


def test_the_last_row_may_lack_its_padding():
    padded = np.zeros((5, 32), np.uint8)
    padded[:, :21] = RGB.reshape(5, 21)
    msg = image("rgb8", RGB)
    msg.step, msg.data = 32, padded.ravel()[: 4 * 32 + 21]
    np.testing.assert_array_equal(messages.image_to_array(msg), RGB)


def test_a_tag_that_turns_an_image_is_not_obeyed():
    """Exif says that its right side is up; the camera was calibrated as it is."""
    jpeg = cv2.imencode(".jpg", np.full((40, 80, 3), 90, np.uint8))[1].tobytes()
    tag = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    turned = jpeg[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (80, 40, 3), "it says so"
    assert messages.image_to_array(compressed(turned)).shape == (40, 80, 3)


BOMB = """
import resource, struct, sys
from types import SimpleNamespace
import numpy as np
from xmodelkd_ros.messages.clouds import check_images, image_to_array
check_images()
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


def test_a_few_bytes_that_say_they_are_a_huge_image_cost_little():
    """In a process of its own: whoever loads OpenCV first sets its limit."""
    done = subprocess.run([sys.executable, "-c", BOMB], cwd=ROOT, capture_output=True, text=True, check=True)
    said, megabytes = done.stdout.splitlines()
    assert said.startswith("ImageError") and "IO_MAX_IMAGE_PIXELS" in said
    assert float(megabytes) < 50


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    monkeypatch.setitem(sys.modules, "rosbags.image", None)
    with pytest.raises(messages.ImageError, match=r"pip install rosbags-image\[opencv\]"):
        messages.image_to_array(image("rgb8", RGB))
    with pytest.raises(messages.ImageError, match="rosbags-image"):
        messages.check_images()
    monkeypatch.undo()
    messages.check_images()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(messages.ImageError, match="pip install opencv-python-headless"):
        messages.image_to_array(compressed(b"1"))


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


def test_calibration_becomes_a_camera():
    camera = messages.to_camera(camera_info([0.0] * 5), "front", np.eye(4))
    pixels, inside = camera.project(np.array([[0.0, 0, 2], [1, 0, 2], [0, 0, -2]]))
    np.testing.assert_allclose(pixels[:2], [[320, 180], [570, 180]])
    assert inside.tolist() == [True, True, False]


def test_a_raw_camera_has_its_lens():
    info = camera_info(DISTORTION)
    pixels, inside = messages.to_camera(info, "front", np.eye(4)).project(XYZ)
    expected = cv2.projectPoints(XYZ, np.zeros(3), np.zeros(3), info.k.reshape(3, 3), info.d)[0][:, 0]
    assert inside.sum() > 100
    np.testing.assert_allclose(pixels[inside], expected[inside], atol=1e-6)


def test_a_rectified_camera_is_seen_by_its_projection_matrix():
    """As OpenCV rectifies what the raw camera shows; the right camera of a pair stands aside."""
    rotation, _ = cv2.Rodrigues(np.array([0.02, -0.03, 0.01]))
    p = np.array([[450.0, 0, 310, 0], [0, 450, 170, 0], [0, 0, 1, 0]])
    info = camera_info(DISTORTION, r=rotation.ravel(), p=p.ravel())
    raw = messages.to_camera(info, "front", np.eye(4)).project(XYZ)[0]
    camera = messages.to_camera(info, "front", np.eye(4), rectified=True)
    pixels, inside = camera.project(XYZ)
    expected = cv2.undistortPoints(raw[:, None], info.k.reshape(3, 3), info.d, R=rotation, P=p)[:, 0]
    assert inside.sum() > 100
    np.testing.assert_allclose(pixels[inside], expected[inside], atol=0.01)
    right = camera_info(DISTORTION, p=(p + np.array([[0, 0, 0, -450 * 0.12], [0] * 4, [0] * 4])).ravel())
    shifted = messages.to_camera(right, "right", np.eye(4), rectified=True)
    np.testing.assert_allclose(shifted.project(np.array([[0.12, 0, 5]]))[0], [[310, 170]])


def test_a_region_of_interest_is_cut_out_and_binned():
    """Pixel (u, v) of the whole image is ((u + 0.5 - x) / 2 - 0.5, …) of a region that begins at x, binned by 2."""
    roi = message_class("sensor_msgs/msg/RegionOfInterest")(100, 40, 200, 400, False)
    assert (roi.x_offset, roi.y_offset, roi.height, roi.width) == (100, 40, 200, 400)
    whole = messages.to_camera(camera_info(DISTORTION), "front", np.eye(4)).project(XYZ)[0]
    part = messages.to_camera(camera_info(DISTORTION, roi=roi, binning_x=2, binning_y=4), "front", np.eye(4))
    assert (part.width, part.height) == (200, 50)
    expected = (whole + 0.5 - [100, 40]) / [2, 4] - 0.5
    np.testing.assert_allclose(part.project(XYZ)[0], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("info", "rectified", "said"),
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
        (camera_info([0.1, 0.0]), False, "camera 'front': distortion .* is not one of 'plumb_bob'"),
        (camera_info([0.1], distortion_model="martian"), False, "camera 'front': distortion model 'martian'"),
    ],
)
def test_a_calibration_that_cannot_be_used_is_rejected(info, rectified, said):
    with pytest.raises(ConfigError, match=said):
        messages.to_camera(info, "front", np.eye(4), rectified)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("field", ["k", "r"])
def test_numbers_that_are_too_large_are_one_error_and_no_warning(field):
    info = camera_info([], p=P, **{field: np.full(9, 1e308)})
    with pytest.raises(ConfigError, match=f"CameraInfo has {field} = .1e.308, "):
        messages.to_camera(info, "front", np.eye(4), rectified=field == "r")
