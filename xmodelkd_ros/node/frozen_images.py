"""Detection of cameras that publish the same image again and again."""

from __future__ import annotations

import math
import time
import zlib
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodelkd_ros.segmentation.image_matching import JUMP_NS

_FROZEN_S = 1.0
"""Time after its last image for which a frozen camera is still reported as frozen."""
_CHECKSUM_BYTES = 1 << 16
"""Bytes per image in the checksum. Sensor noise changes some of any thousand bytes."""
_PIXEL_BYTES = 2 * 3 * 4
"""A multiple of every pixel size in bytes."""


class FrozenImageDetector:
    """Detects cameras whose images are bit-identical for too long."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._frozen_at_s: dict[str, float] = {}
        self._unchanged: dict[str, tuple[int, int, int]] = {}
        """Checksum, first stamp and last stamp of each camera's current image."""

    def is_frozen(self, camera: str, stamp_ns: int, data: Any, after_s: float) -> bool:
        """Whether an image has been the same for more than ``after_s`` seconds; always False for 0."""
        frozen = self.unchanged_ns(camera, stamp_ns, data) > after_s * 1e9 > 0
        if frozen:
            self.counts[camera] += 1
            self._frozen_at_s[camera] = time.monotonic()
        else:
            self._frozen_at_s.pop(camera, None)
        return frozen

    @property
    def frozen_cameras(self) -> frozenset[str]:
        """Cameras whose latest image was frozen, while it is recent. May be read from any thread."""
        now_s = time.monotonic()
        return frozenset(name for name, at_s in self._frozen_at_s.copy().items() if now_s - at_s < _FROZEN_S)

    def reset(self) -> None:
        """Report no camera as frozen until its next image; checksums and counts stay."""
        self._frozen_at_s.clear()

    def unchanged_ns(self, camera: str, stamp_ns: int, data: Any) -> int:
        """Time by the camera's stamps since its image last changed."""
        checksum = _checksum(data)
        before, first, last = self._unchanged.get(camera, (None, stamp_ns, stamp_ns))
        if checksum != before or stamp_ns < last - JUMP_NS:
            first = stamp_ns
        self._unchanged[camera] = (checksum, first, stamp_ns)
        return stamp_ns - first


def _checksum(data: Any) -> int:
    values: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
    step = 1 + len(values) // _CHECKSUM_BYTES
    while math.gcd(step, _PIXEL_BYTES) > 1:  # so that samples cover every byte of a pixel
        step += 1
    return zlib.crc32(values[::step].tobytes(), len(values))
