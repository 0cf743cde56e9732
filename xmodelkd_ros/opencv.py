"""OpenCV, which only those need who look at images."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ImageError

_LIMIT, MAX_PIXELS = "OPENCV_IO_MAX_IMAGE_PIXELS", 1 << 25
"""33 million pixels: more than any camera on a vehicle has. OpenCV itself takes a thousand million, so that a few
hundred bytes with a damaged size would cost gigabytes and half a minute. It looks at this once, when it is loaded: so
whoever imports it by himself imports this module first."""
os.environ.setdefault(_LIMIT, str(MAX_PIXELS))


def opencv() -> Any:
    """The library, which refuses files of too many pixels; whoever has set his own limit keeps it.

    Raises:
        ImageError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImageError(f"images need OpenCV ({error}); pip install opencv-python-headless") from error
    return cv2


def decode_image(data: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of the bytes of a JPEG or PNG image.

    It is left as it comes from the sensor: so the camera was calibrated, whatever a tag says of which side is up.

    Raises:
        ImageError: OpenCV is not installed.
        ValueError: it is no image.
    """
    cv2 = opencv()
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("OpenCV takes it for no image")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
