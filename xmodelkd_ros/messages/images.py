"""Conversion of Image and CompressedImage messages to RGB arrays."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ImageError, shortened
from xmodelkd_ros.opencv import decode_image, opencv

_MAX_REASON = 160
"""Maximum length of a quoted library error, characters."""


def is_depth(msg: Any) -> bool:
    """Whether an Image or CompressedImage is a depth image (REP-118)."""
    if hasattr(msg, "format"):
        return "compressedDepth" in str(msg.format)
    return msg.encoding in ("16UC1", "32FC1")


def image_to_array(msg: Any) -> NDArray[np.uint8]:
    """Decode an Image by cv_bridge, if available, or rosbags-image; a CompressedImage by OpenCV: (H, W, 3) uint8 RGB.

    Raises:
        ImageError: decoding fails, the encoding is not colour or grey, or a library is not installed.
    """
    # Damaged data raises errors of OpenCV, numpy and the libraries, including AssertionError.
    kind = shortened(msg.format) if hasattr(msg, "format") else f"{shortened(msg.encoding)} {msg.width}x{msg.height}"
    if is_depth(msg):
        raise ImageError(f"image '{kind}' is a depth image; use the topic of the colour images")
    try:
        pixels = np.ascontiguousarray(decode_image(msg.data) if hasattr(msg, "format") else _raw_decoder()(msg))
    except ImageError:
        raise
    except Exception as error:
        reason = " ".join(repr(error).replace("\\n", " ").split())
        raise ImageError(
            f"cannot decode image '{kind}' of {len(msg.data)} bytes: {reason[:_MAX_REASON]}; configure the driver "
            "to send rgb8, bgr8, mono8 or jpeg"
        ) from error
    if not pixels.size:
        raise ImageError(f"image '{kind}' is empty; check the camera driver")
    return pixels


def load_image_decoders() -> None:
    """Load the image decoding libraries in advance, since this is slow.

    Raises:
        ImageError: a library is not installed.
    """
    pixel = SimpleNamespace(encoding="rgb8", height=1, width=1, step=3, is_bigendian=0, data=np.zeros(3, np.uint8))
    image_to_array(pixel)
    opencv()


def _raw_decoder() -> Callable[[Any], NDArray[np.uint8]]:
    opencv()  # before other libraries load it without the pixel limit
    bridge = _cv_bridge()
    if bridge is not None:

        def decode(msg: Any) -> NDArray[np.uint8]:
            packed = _without_padding(msg, *bridge.encoding_to_dtype_with_channels(msg.encoding))
            return np.asarray(bridge.imgmsg_to_cv2(packed, "rgb8"))

        return decode
    try:
        from rosbags.image import image_to_cvimage
        from rosbags.image.image import to_cvtype
    except ImportError as error:
        raise ImageError(
            f"images need cv_bridge with numpy 1, or rosbags-image and OpenCV ({error}); "
            "pip install rosbags-image[opencv]"
        ) from error
    return lambda msg: np.asarray(image_to_cvimage(_without_padding(msg, *to_cvtype(msg.encoding)[2:]), "rgb8"))


def _cv_bridge() -> Any:
    """The CvBridge of a ROS installation; None if missing or incompatible with numpy."""
    if int(np.__version__.split(".")[0]) > 1:
        return None  # ROS packages are compiled for numpy 1 and crash at the first image with numpy 2
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    return CvBridge()


def _without_padding(msg: Any, dtype: str, channels: int) -> Any:
    """The image without row padding, which the decoding libraries do not fully support."""
    row_size = msg.width * channels * np.dtype(dtype).itemsize
    if msg.step <= row_size:
        return msg
    data: NDArray[np.uint8] = np.frombuffer(msg.data, np.uint8)
    if len(data) == msg.height * msg.step - (msg.step - row_size):  # some drivers omit the padding of the last row
        data = np.concatenate([data, np.zeros(msg.step - row_size, np.uint8)])
    rows = data[: msg.height * msg.step].reshape(msg.height, msg.step)
    return SimpleNamespace(
        encoding=msg.encoding,
        width=msg.width,
        height=msg.height,
        step=row_size,
        is_bigendian=msg.is_bigendian,
        data=np.ascontiguousarray(rows[:, :row_size]),
    )
