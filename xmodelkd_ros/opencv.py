"""OpenCV, loaded on demand and with a limit on the size of images."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ImageError

_LIMIT_VARIABLE, MAX_PIXELS = "OPENCV_IO_MAX_IMAGE_PIXELS", 1 << 25
"""33 million pixels, more than any vehicle camera has. OpenCV's own limit is 1000 million: a few hundred bytes with a
damaged size would cost gigabytes and half a minute. OpenCV reads the variable once, when it is loaded, so a module that
imports cv2 directly must import this module first."""
os.environ.setdefault(_LIMIT_VARIABLE, str(MAX_PIXELS))


def opencv() -> Any:
    """The cv2 module, which rejects images above the pixel limit; a limit already set in the environment is kept.

    Raises:
        ImageError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImageError(f"images need OpenCV ({error}); pip install opencv-python-headless") from error
    return cv2


def decode_image(data: Any) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG image to (H, W, 3) uint8 RGB.

    EXIF orientation is ignored: the camera was calibrated on pixels as stored.

    Raises:
        ImageError: OpenCV is not installed.
        ValueError: the data is not an image.
    """
    cv2 = opencv()
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    encoded = np.frombuffer(data, np.uint8)
    pixels = cv2.imdecode(encoded, flags) if encoded.size else None
    if pixels is None:
        raise ValueError("OpenCV cannot decode it")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
