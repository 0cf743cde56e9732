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


class CvBridgeDouble:
    """Stand-in for cv_bridge of Humble, which pip lacks: the encodings it knows, and its OpenCV conversions."""

    CODES = {  # noqa: RUF012
        "rgb8": (3, None),
        "bgr8": (3, cv2.COLOR_BGR2RGB),
        "rgba8": (4, cv2.COLOR_RGBA2RGB),
        "bgra8": (4, cv2.COLOR_BGRA2RGB),
        "mono8": (1, cv2.COLOR_GRAY2RGB),
        "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
        "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
        "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
        "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
        "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
        "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    }

    def imgmsg_to_cv2(self, msg, desired_encoding):
        assert desired_encoding == "rgb8"
        channels, code = self.CODES[msg.encoding]
        pixels = np.ndarray((msg.height, msg.step // channels, channels), np.uint8, msg.data)[:, : msg.width]
        return pixels if code is None else cv2.cvtColor(pixels, code)


@pytest.fixture(params=["rosbags-image", "cv_bridge"], autouse=True)
def library(request, monkeypatch):
    """Each test runs with both libraries."""
    if request.param == "cv_bridge":
        monkeypatch.setattr(images, "_cv_bridge", CvBridgeDouble)
    return request.param


def mosaic(pattern: str, dtype: type = np.uint8, scale: int = 1) -> np.ndarray:
    """A Bayer mosaic of the colour (200, 100, 50)."""
    colour = {"r": 200, "g": 100, "b": 50}
    return np.tile(np.array([colour[c] * scale for c in pattern], dtype).reshape(2, 2), (4, 4))


GREY, DEEP = RGB[:, :, 0], RGB.astype(np.uint16) * 257
ALPHA = np.full((5, 7, 1), 65535, np.uint16)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("rgb16", DEEP, RGB),
        ("bgr16", DEEP[:, :, ::-1], RGB),
        ("rgba16", np.dstack([DEEP, ALPHA]), RGB),
        ("bgra16", np.dstack([DEEP[:, :, ::-1], ALPHA]), RGB),
        ("mono16", DEEP[:, :, 0], np.repeat(GREY[:, :, None], 3, axis=2)),
    ],
)
def test_16_bit_images_are_scaled_to_8(encoding, pixels, expected, padding, big_endian):
    message = image(encoding, pixels.astype(">u2" if big_endian else "<u2"), padding)
    message.is_bigendian = int(big_endian)
    np.testing.assert_array_equal(images.image_to_array(message), expected)


@pytest.mark.parametrize(
    "encoding",
    [
        *("nv12", "nv21", "nv24", "NV12", "yuv420", "i420", "yv12", "yuv444", "p010", "bayer_rggb10", "bayer_rggb12p"),
        *("8UC1", "8UC2", "8UC3", "8UC4", "8UC", "16UC3", "16SC1", "32FC3", "64FC1", "RGB8", "rgb", "bgr", "jpeg"),
        *("hsv8", "mono", "mono12", "yuv422p", "", "martian"),
    ],
)
def test_unknown_encodings_are_refused_by_name(encoding):
    """None is guessed, not even one with the right number of bytes."""
    with pytest.raises(ImageError, match=rf"^image '{encoding} 4x6': encoding '{encoding}' (is not|does not)") as error:
        images.image_to_array(image(encoding, np.zeros((6, 4, 3), np.uint8)))
    assert "configure the driver to send rgb8, bgr8, mono8 or jpeg" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 20}, "has step 20, but a row takes 21 bytes"),
        ({"step": 0}, "has step 0, but a row takes 21 bytes"),
        ({"step": 32}, "has 105 bytes, but height 5 x step 32 is 160"),
        ({"height": 6}, "has 105 bytes, but height 6 x step 21 is 126"),
        ({"height": 4}, "has 105 bytes, but height 4 x step 21 is 84"),
        ({"width": 8}, "has step 21, but a row takes 24 bytes"),
        ({"encoding": "rgba8"}, "has step 21, but a row takes 28 bytes"),
        ({"encoding": "rgb16"}, "has step 21, but a row takes 42 bytes"),
        ({"data": np.zeros(0, np.uint8)}, "has 0 bytes, but height 5 x step 21 is 105"),
    ],
)
def test_wrong_sizes_are_refused(changes, message):
    wrong = image("rgb8", RGB)
    for name, value in changes.items():
        setattr(wrong, name, value)
    with pytest.raises(ImageError, match=message):
        images.image_to_array(wrong)


def test_a_few_bytes_after_the_last_row_do_not_matter():
    message = image("rgb8", RGB)
    message.data = np.concatenate([message.data, np.ones(8, np.uint8)])
    np.testing.assert_array_equal(images.image_to_array(message), RGB)


@pytest.mark.parametrize("kind", ["h264", "H.264", "h265", "hevc", "av1", "vp9", "theora", "hevc;nv12;bgr8;yuv420p"])
def test_video_packets_are_refused_by_name(kind):
    with pytest.raises(ImageError, match=f"^image '{kind}' is a packet of a video; republish the topic as raw or jpeg"):
        images.image_to_array(compressed(b"\x00\x00\x00\x01\x67" + bytes(100), kind))


PNG = cv2.imencode(".png", RGB[:, :, ::-1])[1].tobytes()


@pytest.mark.parametrize(
    "kind", ["png", "PNG", "", "jpeg", "rgb8; png compressed bgr8", "bgr8; png compressed ", "h264"]
)
def test_still_images_are_known_by_their_data(kind):
    np.testing.assert_array_equal(images.image_to_array(compressed(PNG, kind)), RGB)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_compressed_mosaics_are_turned_into_colour(pattern, bits):
    """image_transport compresses Bayer images as they are; 'bayer_rggb8; jpeg compressed bgr8' holds colour."""
    grey = mosaic(pattern) if bits == 8 else mosaic(pattern, np.uint16, 257)
    kind = f"bayer_{pattern}{bits}; png compressed "
    decoded = images.image_to_array(compressed(cv2.imencode(".png", grey)[1].tobytes(), kind))
    np.testing.assert_array_equal(decoded[2:-2, 2:-2], np.broadcast_to((200, 100, 50), (4, 4, 3)))
    colour = images.image_to_array(compressed(PNG, kind.replace("png compressed ", "jpeg compressed bgr8")))
    np.testing.assert_array_equal(colour, RGB)


def test_compressed_mosaics_of_unknown_encodings_are_refused_by_name():
    grey = cv2.imencode(".png", mosaic("rggb", np.uint16, 16))[1].tobytes()
    with pytest.raises(ImageError, match="'bayer_rggb12; png compressed ': encoding 'bayer_rggb12' is not supported"):
        images.image_to_array(compressed(grey, "bayer_rggb12; png compressed "))


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
@pytest.mark.parametrize("bits", [8, 16])
def test_decodes_bayer_patterns(pattern: str, bits: int):
    """A mosaic of a uniform colour decodes to that colour."""
    pixels = mosaic(pattern) if bits == 8 else mosaic(pattern, np.uint16, 257)
    decoded = images.image_to_array(image(f"bayer_{pattern}{bits}", pixels))
    np.testing.assert_array_equal(decoded[2:-2, 2:-2], np.broadcast_to((200, 100, 50), (4, 4, 3)))


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "UYVY"), ("uyvy", "UYVY"), ("yuv422_yuy2", "YUYV"), ("yuyv", "YUYV")]
)
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
        (compressed(PNG, "32FC1; compresseddepth"), "is a depth image"),
        (compressed(PNG, "16UC1; png compressed "), "is a depth image"),
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


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch, library: str):
    if library == "cv_bridge":
        return  # as if it were not installed
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


JPEG = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    ("data", "kind", "name"),
    [
        (JPEG[:20] + bytes(200), "jpeg", "JPEG"),
        (JPEG[:12], "jpeg", "JPEG"),
        (bytes(len(JPEG)), "rgb8; jpeg compressed bgr8", "JPEG"),
        (JPEG[:20], "", "JPEG"),
        (PNG[:30], "png", "PNG"),
        (b"", "jpg", "JPEG"),
    ],
)
def test_damaged_jpeg_and_png_images_are_called_damaged(data, kind, name):
    with pytest.raises(ImageError) as error:
        images.image_to_array(compressed(data, kind))
    remedy = "check the camera driver and the connection"
    expected = f"cannot decode image '{kind}' of {len(data)} bytes: the {name} data is damaged; {remedy}"
    assert str(error.value) == expected
