"""One picture in every image encoding, and one point in every lens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from test.fuzz.mutation import Mutator
from test.fuzz.ros_messages import in_either_library, size
from test.fuzz.seed_messages import header, make
from test.fuzz.target import InvariantError, Target, ensure
from xmodelkd_ros.core.camera import CameraModel
from xmodelkd_ros.core.distortion import DistortionModel
from xmodelkd_ros.core.errors import ImageError, XModelKDError
from xmodelkd_ros.messages.images import image_to_array
from xmodelkd_ros.opencv import opencv

_HEIGHT, _WIDTH = 48, 64
_TOLERANCE = 10.0
"""Mean difference that subsampled chroma and demosaicing cause in a smooth picture; a wrong order causes more."""

Planes = Callable[[NDArray[np.uint8]], NDArray[Any]]


def _picture() -> NDArray[np.uint8]:
    """(48, 64, 3) RGB with a different smooth gradient in each channel."""
    row, column = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    channels = (60 + 2 * column, 220 - 3 * row, 40 + row + column)
    return np.stack(channels, axis=2).astype(np.uint8)


def _gray(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(opencv().cvtColor(rgb, opencv().COLOR_RGB2GRAY))


def _yuv(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """Y (48, 64), U and V (24, 32) by BT.601 with the limited range, as cameras send them."""
    data = opencv().cvtColor(np.ascontiguousarray(rgb), opencv().COLOR_RGB2YUV_I420).ravel()
    luma, u, v = np.split(data, [_HEIGHT * _WIDTH, _HEIGHT * _WIDTH * 5 // 4])
    return luma.reshape(_HEIGHT, _WIDTH), *(plane.reshape(_HEIGHT // 2, _WIDTH // 2) for plane in (u, v))


def _mosaic(order: str) -> Planes:
    """A Bayer mosaic whose upper left four pixels have these colours."""

    def planes(rgb: NDArray[np.uint8]) -> NDArray[Any]:
        found = np.empty(rgb.shape[:2], np.uint8)
        for place, color in enumerate(order):
            rows, columns = divmod(place, 2)
            found[rows::2, columns::2] = rgb[rows::2, columns::2, "rgb".index(color)]
        return found

    return planes


def _subsampled(order: str) -> Planes:
    """Packed YUV 4:2:2 with the bytes of two pixels in this order."""

    def planes(rgb: NDArray[np.uint8]) -> NDArray[Any]:
        luma, u, v = _yuv(rgb)
        parts = {"y": luma[:, 0::2], "Y": luma[:, 1::2], "u": u.repeat(2, axis=0), "v": v.repeat(2, axis=0)}
        return np.stack([parts[byte] for byte in order], axis=2).reshape(len(rgb), -1)

    return planes


def _planar(order: str) -> Planes:
    """YUV 4:2:0 with chroma interleaved (``uv``, ``vu``) or in planes (``u v``)."""

    def planes(rgb: NDArray[np.uint8]) -> NDArray[Any]:
        luma, u, v = _yuv(rgb)
        parts = {"u": u, "v": v}
        if order == "u v":
            chroma = np.concatenate([parts["u"].ravel(), parts["v"].ravel()])
        else:
            chroma = np.stack([parts[byte] for byte in order], axis=2).ravel()
        return np.concatenate([luma.ravel(), chroma]).reshape(-1, rgb.shape[1])

    return planes


def _in_16_bits(planes: Planes) -> Planes:
    return lambda rgb: planes(rgb).astype("<u2") * 257


def _with_alpha(order: str) -> Planes:
    return lambda rgb: np.dstack([rgb[:, :, ["rgb".index(c) for c in order]], np.full(rgb.shape[:2], 255, np.uint8)])


_COLORS: dict[str, Planes] = {
    "rgb8": lambda rgb: rgb,
    "bgr8": lambda rgb: rgb[:, :, ::-1],
    "8UC3": lambda rgb: rgb[:, :, ::-1],
    "rgba8": _with_alpha("rgb"),
    "bgra8": _with_alpha("bgr"),
    "8UC4": _with_alpha("bgr"),
    "mono8": _gray,
    "8UC1": _gray,
    "mono16": _in_16_bits(_gray),
    "rgb16": _in_16_bits(lambda rgb: rgb),
    "bgr16": _in_16_bits(lambda rgb: rgb[:, :, ::-1]),
    "rgba16": _in_16_bits(_with_alpha("rgb")),
    "bgra16": _in_16_bits(_with_alpha("bgr")),
    **{f"bayer_{order}8": _mosaic(order) for order in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{order}16": _in_16_bits(_mosaic(order)) for order in ("rggb", "bggr", "gbrg", "grbg")},
    **dict.fromkeys(("yuv422", "uyvy", "UYVY"), _subsampled("uyvY")),
    **dict.fromkeys(("yuv422_yuy2", "yuyv", "YUYV", "yuy2"), _subsampled("yuYv")),
    **dict.fromkeys(("nv12", "NV12"), _planar("uv")),
    **dict.fromkeys(("nv21", "NV21"), _planar("vu")),
    **dict.fromkeys(("i420", "yuv420", "yuv420p", "I420", "yuv420_i420"), _planar("u v")),
    **dict.fromkeys(("RGB8", "jpeg", "8UC2", "h264", "rgb", ""), lambda rgb: rgb),
}
"""How a picture is stored, by encoding: those of ROS, those of other systems, and names that mean nothing."""
_GRAY = ("mono8", "8UC1", "mono16")


class Encodings(Target):
    """An encoding gives the same picture, or is refused by its name; never another picture."""

    name = "encodings"

    def seed_input(self) -> Any:
        return self._message("rgb8", 0, False)

    def _message(self, encoding: str, padding: int, high: bool) -> Any:
        stored = np.ascontiguousarray(_COLORS[encoding](_picture()))
        rows = stored.reshape(len(stored), -1).view(np.uint8)
        data = np.pad(rows, ((0, 0), (0, padding)))
        return make(
            "sensor_msgs/msg/Image", header=header(), height=len(stored) if high else _HEIGHT, width=_WIDTH,
            encoding=encoding, is_bigendian=0, step=data.shape[1], data=data.ravel(),
        )  # fmt: skip

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        encoding = mutator.pick(list(_COLORS))
        message = self._message(encoding, mutator.pick((0, 0, 6)), mutator.chance(0.5))
        return in_either_library(mutator, message), size(message)

    def execute(self, value: Any) -> None:
        try:
            pixels = image_to_array(value)
        except ImageError as error:
            ensure(repr(value.encoding)[1:-1] in str(error), "refused, but not by name")
            ensure(value.encoding not in ("rgb8", "bgr8", "mono8"), "refused without need")
            raise
        wanted = _picture()
        if value.encoding in _GRAY:
            wanted = np.repeat(_gray(wanted)[:, :, None], 3, axis=2)
        ensure(pixels.shape == wanted.shape, f"{value.encoding}: another size")
        inner = slice(2, -2)  # demosaicing lacks neighbours at the edges
        difference = np.abs(pixels[inner, inner].astype(float) - wanted[inner, inner]).mean(axis=(0, 1))
        ensure(difference.max() < _TOLERANCE, f"{value.encoding}: another picture")


_COUNTS = (0, 4, 5, 8, 12, 14)
_LIMITS = (0.1, 0.05, 0.01, 0.01, 0.02, 0.1, 0.05, 0.02, *[0.01] * 4, *[0.05] * 2)
"""Largest size of each coefficient of ordinary lenses."""
_FISHEYES = ("equidistant", "fisheye")


class Lenses(Target):
    """Every distortion model with every number of coefficients that OpenCV has: the pixels of OpenCV."""

    name = "lenses"
    _XYZ = np.random.default_rng(0).uniform([-0.6, -0.4, 1.0], [0.6, 0.4, 1.0], (60, 3))
    _INTRINSIC = np.array([[400.0, 0, 319.5], [0, 410, 239.5], [0, 0, 1]])

    def seed_input(self) -> Any:
        return "plumb_bob", (0.1, 0.0, 0.0, 0.0)

    def generate(self, mutator: Mutator) -> tuple[Any, int]:
        if mutator.chance(0.3):
            return (mutator.pick(_FISHEYES), tuple(mutator.random.uniform(-0.02, 0.02) for _ in range(4))), 40
        count = mutator.pick(_COUNTS)
        model = mutator.pick(("plumb_bob", "rational_polynomial") if 0 < count < 8 else ("rational_polynomial",))
        values = tuple(mutator.random.uniform(-limit, limit) for limit in _LIMITS[:count])
        return (model, values), 8 * count

    def execute(self, value: Any) -> None:
        model, coefficients = value
        try:
            distortion = DistortionModel.from_coefficients(model, np.array(coefficients))
        except XModelKDError as error:
            raise InvariantError(f"{model} with {len(coefficients)} coefficients is refused without need") from error
        camera = CameraModel("front", 640, 480, self._INTRINSIC, np.eye(4), distortion)
        pixels, seen = camera.project(self._XYZ)
        wanted = self._by_opencv(model, coefficients)
        inside = ((wanted > 1) & (wanted < [638, 478])).all(axis=1)
        ensure(seen[inside].all(), "a visible point is not seen")
        ensure(np.abs(pixels - wanted)[inside].max(initial=0.0) < 1e-3, "pixels differ from OpenCV's")

    def _by_opencv(self, model: str, coefficients: tuple[float, ...]) -> NDArray[np.float64]:
        cv2, zero = opencv(), np.zeros(3)
        if model in _FISHEYES:
            pixels, _ = cv2.fisheye.projectPoints(
                self._XYZ[:, None], zero, zero, self._INTRINSIC, np.array(coefficients)
            )
        else:
            pixels, _ = cv2.projectPoints(self._XYZ, zero, zero, self._INTRINSIC, np.array(coefficients or [0.0] * 4))
        return np.asarray(pixels, np.float64).reshape(-1, 2)
