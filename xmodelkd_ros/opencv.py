"""OpenCV, which only those need who look at images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.core.errors import ImageError


def opencv() -> Any:
    """The library.

    Raises:
        ImageError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImageError(f"images need OpenCV ({error}); pip install opencv-python-headless") from error
    return cv2


def decoded(data: Any) -> NDArray[np.uint8]:
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
