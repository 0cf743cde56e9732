"""Image and CompressedImage messages to RGB arrays."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ImageError, shortened
from xmodelkd_ros.opencv import decode_image, opencv

_REASON = 160
"""Characters of a library's error that are passed on."""


def is_depth(msg: Any) -> bool:
    """Whether an Image or a CompressedImage shows distances (REP-118) and not a picture."""
    if hasattr(msg, "format"):
        return "compressedDepth" in str(msg.format)
    return msg.encoding in ("16UC1", "32FC1")


def image_to_array(msg: Any) -> NDArray[np.uint8]:
    """Decode an Image, by cv_bridge where ROS has it and by rosbags-image otherwise, or a CompressedImage, by OpenCV.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the data does not decode, the encoding is not a colour or grey image, or a library is not installed.
    """
    # Broken data surfaces as OpenCV's, numpy's or the libraries' own errors, one of them an AssertionError.
    kind = shortened(msg.format) if hasattr(msg, "format") else f"{shortened(msg.encoding)} {msg.width}x{msg.height}"
    if is_depth(msg):
        raise ImageError(f"image '{kind}' shows distances; name the topic of the camera's pictures")
    try:
        pixels = np.ascontiguousarray(decode_image(msg.data) if hasattr(msg, "format") else _raw_decoder()(msg))
    except ImageError:
        raise
    except Exception as error:
        reason = " ".join(repr(error).replace("\\n", " ").split())
        raise ImageError(
            f"cannot decode image '{kind}' of {len(msg.data)} bytes: {reason[:_REASON]}; have the driver send rgb8, "
            "bgr8, mono8 or jpeg"
        ) from error
    if not pixels.size:
        raise ImageError(f"image '{kind}' is empty; look at the camera's driver")
    return pixels


def load_image_decoders() -> None:
    """Load the libraries that decode images, which takes long the first time.

    Raises:
        ImageError: one is not installed.
    """
    pixel = SimpleNamespace(encoding="rgb8", height=1, width=1, step=3, is_bigendian=0, data=np.zeros(3, np.uint8))
    image_to_array(pixel)
    opencv()


def _raw_decoder() -> Callable[[Any], NDArray[np.uint8]]:
    opencv()  # before others load it, without its limit
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
    """The CvBridge of a ROS installation; None where there is none, or one that would end the process."""
    if int(np.__version__.split(".")[0]) > 1:
        return None  # ROS's packages are compiled for numpy 1, and crash with another at the first image
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    return CvBridge()


def _without_padding(msg: Any, dtype: str, channels: int) -> Any:
    """The image with its rows packed, as the libraries that decode it take for granted, or nearly so."""
    row_size = msg.width * channels * np.dtype(dtype).itemsize
    if msg.step <= row_size:
        return msg
    data: NDArray[np.uint8] = np.frombuffer(msg.data, np.uint8)
    if len(data) == msg.height * msg.step - (msg.step - row_size):  # some drivers leave the last row's padding out
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
