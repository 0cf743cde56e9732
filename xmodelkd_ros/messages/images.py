"""Conversion of Image and CompressedImage messages to RGB arrays."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ImageError, shortened
from xmodelkd_ros.opencv import decode_image, opencv

_MAX_REASON = 160
"""Maximum length of a quoted library error, characters."""
_REMEDY = "configure the driver to send rgb8, bgr8, mono8 or jpeg"

_CHANNELS = {
    **dict.fromkeys(("rgb8", "bgr8", "rgb16", "bgr16"), 3),
    **dict.fromkeys(("rgba8", "bgra8", "rgba16", "bgra16"), 4),
    **dict.fromkeys((f"bayer_{order}{bits}" for order in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)), 1),
    **dict.fromkeys(("mono8", "mono16"), 1),
    **dict.fromkeys(("yuv422", "yuv422_yuy2"), 2),
}
"""Channels of the encodings of sensor_msgs/image_encodings.hpp that say what the channels are."""
_SAME = {"uyvy": "yuv422", "yuyv": "yuv422_yuy2"}
"""Newer names: yuv422 is U Y V Y, yuv422_yuy2 is Y U Y V. Older libraries know only the older names."""
_NUMBERED = re.compile(r"(8U|8S|16U|16S|32S|32F|64F)C\d*")
"""OpenCV's types: 8UC3 may be RGB, BGR, HSV and more. cv_bridge refuses to convert them to RGB, too."""
_DEPTH = ("16UC1", "32FC1")
_VIDEO = ("264", "265", "hevc", "avc", "av1", "vp8", "vp9", "theora", "mpeg", "ffmpeg")
"""Parts of the format of a CompressedImage that a video encoder wrote. mjpeg is recognised by its data."""


def is_depth(msg: Any) -> bool:
    """Whether an Image or CompressedImage is a depth image (REP-118)."""
    if hasattr(msg, "format"):
        return "compresseddepth" in str(msg.format).lower() or str(msg.format).split(";")[0].strip() in _DEPTH
    return msg.encoding in _DEPTH


def check_encoding(msg: Any) -> None:
    """Check the encoding of an Image, or the format of a CompressedImage.

    Raises:
        ImageError: it is a depth image or a packet of a video, or the encoding is unknown.
    """
    if is_depth(msg):
        raise ImageError(f"image '{_kind(msg)}' is a depth image; use the topic of the colour images")
    if hasattr(msg, "format"):
        is_still = bytes(msg.data[:3]) == b"\xff\xd8\xff" or bytes(msg.data[:4]) == b"\x89PNG"
        if not is_still and any(part in str(msg.format).lower().replace(".", "") for part in _VIDEO):
            raise ImageError(f"image '{_kind(msg)}' is a packet of a video; republish the topic as raw or jpeg")
    elif _SAME.get(msg.encoding, msg.encoding) not in _CHANNELS:
        encoding = shortened(msg.encoding)
        why = "does not say what its channels are" if _NUMBERED.fullmatch(encoding) else "is not supported"
        raise ImageError(f"image '{_kind(msg)}': encoding '{encoding}' {why}; {_REMEDY}")


def _check_sizes(msg: Any, row: int) -> None:
    """Check that an Image holds the bytes that its height, step and rows of ``row`` bytes need."""
    if not msg.width or not msg.height:
        raise ImageError(f"image '{_kind(msg)}' is empty; check the camera driver")
    if msg.step < row:
        raise ImageError(f"image '{_kind(msg)}' has step {msg.step}, but a row takes {row} bytes; check the driver")
    # Some drivers omit the padding of the last row; some cameras append a few bytes. A row more is another image.
    if not (msg.height - 1) * msg.step + row <= len(msg.data) < (msg.height + 1) * msg.step:
        raise ImageError(
            f"image '{_kind(msg)}' has {len(msg.data)} bytes, but height {msg.height} x step {msg.step} is "
            f"{msg.height * msg.step}; check the driver"
        )


def image_to_array(msg: Any) -> NDArray[np.uint8]:
    """Decode an Image by cv_bridge, if available, or rosbags-image; a CompressedImage by OpenCV: (H, W, 3) uint8 RGB.

    Both libraries get 8-bit images of encodings that are known here, so that they give the same picture.

    Raises:
        ImageError: decoding fails, the encoding is unknown or not of a colour or grey image, or a library is not
            installed.
    """
    check_encoding(msg)
    # Damaged data raises errors of OpenCV, numpy and the libraries, including AssertionError.
    try:
        pixels = np.ascontiguousarray(_decode_compressed(msg) if hasattr(msg, "format") else _decode_raw(msg))
    except ImageError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and (damaged := _damaged_format(msg)):
            raise ImageError(
                f"cannot decode image '{_kind(msg)}' of {len(msg.data)} bytes: the {damaged} data is damaged; "
                "check the camera driver and the connection"
            ) from error
        reason = " ".join(repr(error).replace("\\n", " ").split())
        raise ImageError(
            f"cannot decode image '{_kind(msg)}' of {len(msg.data)} bytes: {reason[:_MAX_REASON]}; {_REMEDY}"
        ) from error
    if not pixels.size:
        raise ImageError(f"image '{_kind(msg)}' is empty; check the camera driver")
    return pixels


def load_image_decoders() -> None:
    """Load the image decoding libraries in advance, since this is slow.

    Raises:
        ImageError: a library is not installed.
    """
    pixel = SimpleNamespace(encoding="rgb8", height=1, width=1, step=3, is_bigendian=0, data=np.zeros(3, np.uint8))
    image_to_array(pixel)
    opencv()


def _damaged_format(msg: Any) -> str:
    """JPEG or PNG if a CompressedImage that cannot be decoded is one by its data or format; else empty."""
    if not hasattr(msg, "format"):
        return ""
    begin, claimed = bytes(msg.data[:4]), str(msg.format).lower()
    for name, magic, words in (("JPEG", b"\xff\xd8\xff", ("jpeg", "jpg")), ("PNG", b"\x89PNG", ("png",))):
        if begin.startswith(magic) or any(word in claimed for word in words):
            return name
    return ""


def _kind(msg: Any) -> str:
    if hasattr(msg, "format"):
        return shortened(str(msg.format))
    return f"{shortened(msg.encoding)} {msg.width}x{msg.height}"


def _decode_compressed(msg: Any) -> NDArray[np.uint8]:
    encoding = str(msg.format).split(";")[0].strip()
    if encoding.startswith("bayer_"):
        # image_transport compresses the mosaic as if it were grey.
        cv2 = opencv()
        mosaic = cv2.imdecode(np.frombuffer(msg.data, np.uint8), cv2.IMREAD_UNCHANGED)
        if mosaic is not None and mosaic.ndim == 2:
            if encoding not in _CHANNELS:
                raise ImageError(f"image '{_kind(msg)}': encoding '{shortened(encoding)}' is not supported; {_REMEDY}")
            eight_bit = f"{encoding.removesuffix('8').removesuffix('16')}8"
            return _raw_decoder()(_packed(eight_bit, mosaic.shape, _eight_bit(mosaic)))
    return decode_image(msg.data)


def _decode_raw(msg: Any) -> NDArray[np.uint8]:
    """Decode an Image of a known encoding."""
    encoding = _SAME.get(msg.encoding, msg.encoding)
    row = int(msg.width) * _CHANNELS[encoding] * (2 if encoding.endswith("16") else 1)
    _check_sizes(msg, row)
    data: NDArray[np.uint8] = np.frombuffer(msg.data, np.uint8)
    missing = msg.height * msg.step - len(data)
    if missing > 0:
        data = np.concatenate([data, np.zeros(missing, np.uint8)])
    rows = np.ascontiguousarray(data[: msg.height * msg.step].reshape(msg.height, msg.step)[:, :row])
    if encoding.endswith("16"):
        rows = _eight_bit(rows.view(">u2" if msg.is_bigendian else "<u2"))
        encoding = f"{encoding[:-2]}8"
    return _raw_decoder()(_packed(encoding, (msg.height, msg.width), rows))


def _eight_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    """16-bit values scaled to 8 bits, 65535 to 255, as cv_bridge rounds them; 8-bit ones as they are."""
    if values.dtype.itemsize == 1:
        return np.asarray(values, np.uint8)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _packed(encoding: str, shape: tuple[int, ...], rows: NDArray[np.uint8]) -> Any:
    """An Image without row padding, which the decoding libraries do not fully support."""
    height, width = shape
    return SimpleNamespace(
        encoding=encoding, height=height, width=width, step=rows.size // height, is_bigendian=0, data=rows.reshape(-1)
    )


def _raw_decoder() -> Callable[[Any], NDArray[np.uint8]]:
    opencv()  # before other libraries load it without the pixel limit
    bridge = _cv_bridge()
    if bridge is not None:
        return lambda msg: np.asarray(bridge.imgmsg_to_cv2(msg, "rgb8"))
    try:
        from rosbags.image import image_to_cvimage
    except ImportError as error:
        raise ImageError(
            f"images need cv_bridge with numpy 1, or rosbags-image and OpenCV ({error}); "
            "pip install rosbags-image[opencv]"
        ) from error
    return lambda msg: np.asarray(image_to_cvimage(msg, "rgb8"))


def _cv_bridge() -> Any:
    """The CvBridge of a ROS installation; None if missing or incompatible with numpy."""
    if int(np.__version__.split(".")[0]) > 1:
        return None  # ROS packages are compiled for numpy 1 and crash at the first image with numpy 2
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    return CvBridge()
